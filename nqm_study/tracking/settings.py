"""Settings of the mirror: the MLflow that runs go to, and which."""

from __future__ import annotations

from dataclasses import dataclass

from nqm_study.study.records import Tracked


@dataclass(frozen=True)
class Tracking:
    """Settings of the mirror of studies.

    Attributes:
        experiment: name of the MLflow experiment.
        uri: a tracking server's address; empty for mlruns/mlflow.db.
        trials: which trials have runs of their own.
        patience: seconds to wait, when the studies have ended, for an MLflow that is away.
        diagnostics: whether the runs of studies get Optuna's own figures.
    """

    experiment: str = "nqm_study"
    uri: str = ""
    trials: Tracked = "all"
    patience: float = 60.0
    diagnostics: bool = True
