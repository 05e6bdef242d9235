"""Settings of the mirror: the MLflow that runs go to, and which."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nqm_study.study.records import Tracked
from nqm_study.study.text import on_one_line

DATABASE = "mlflow.db"
"""The embedded database, under mlruns/."""


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


def require_nameable(root: Path) -> None:
    """Refuse a directory whose path MLflow cannot have in the address of its database.

    Raises:
        ValueError: naming the path.
    """
    if any(each in "%?" or "\ud800" <= each <= "\udfff" for each in str(root)):
        raise ValueError(
            f"{on_one_line(str(root))}: must have no %, no ? and no bytes that are no UTF-8 in "
            "it, MLflow cannot open it"
        )
