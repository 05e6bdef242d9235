"""The yardstick of a study: the fewest steps that any values of its hyperparameters could take.

Here: exact optima of linear families (tuned), dense searches of all others, those of studies.
To import: tuned, study; dense_search for another evaluation.
Never here: Optuna, storage, or a search whose answer depends on a seed.
"""
