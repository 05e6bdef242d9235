"""Studies: their definition, records, search space and loop, and the run of a best trial.

Here too: ``samplers`` (who proposes the trials) and ``storage`` (where studies are kept).
Other rooms import ``definition``, ``records``, ``frontier`` and ``space``; who runs studies also
``loop``, ``shared``, ``trials``, ``evaluation``, ``training``, ``recipes`` and ``storage``.
Never here: Hydra, MLflow, figures, fitting of ranges, and mathematics of the model itself.
"""
