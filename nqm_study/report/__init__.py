"""What studies found, as tables, figures, numbers and pages: everything from one table of studies.

From here may be imported: ``frame`` (the tables), ``plot`` (the figures by name), ``write`` (all
files), ``tables`` (the terminal's). Never here: what runs, stores or samples a study, or computes
its mathematics; the report knows records alone, and neither Optuna, Hydra nor MLflow.
"""

from nqm_study.report import plot as plot
