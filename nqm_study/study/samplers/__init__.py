"""The samplers of studies: Optuna's by name, and the local search that takes turns with them.

``optuna_samplers.make_sampler`` is what the loops import; ``coordinates`` stands between a study in
the user's units and what searches it; ``local_search`` asks the points of the simplex method that
stands in ``model.numerics``.
What they propose depends on the seed, the trial's number and the trials before, only.
Never here: evaluating a trial, or writing one to a storage.
"""
