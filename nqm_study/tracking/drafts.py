"""The content of a finished run in MLflow, whichever way it is written."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

KIND = "kind"
STUDY_NAME = "optuna.study_name"
TRIAL_NUMBER = "optuna.trial_number"
CURVE = "nqm.curve"
DIGEST = "nqm.digest"
NOTE = "mlflow.note.content"
PARENT = "mlflow.parentRunId"
FINISHED = "FINISHED"


@dataclass(frozen=True)
class Point:
    """One value of one metric at one step."""

    key: str
    value: float
    step: int = 0


@dataclass(frozen=True)
class Draft:
    """The content of a finished run.

    Attributes:
        name: the run's name.
        tags: all its tags, except its parent and its digest.
        params: its parameters.
        points: its metrics; values that are not finite are left out, MLflow cannot store them.
        parent: identifier of its parent run, if any.
        started, finished: milliseconds since the epoch; None is the time of writing. The metrics
            carry the time of finishing, or of creation where that is None: a fixed time makes
            logging them twice harmless.
    """

    name: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    points: tuple[Point, ...]
    parent: str | None = None
    started: int | None = None
    finished: int | None = None

    @property
    def digest(self) -> str:
        """A hash of what the run says, whoever its parent is and whenever it was written."""
        points = [(point.key, point.value, point.step) for point in finite(self.points)]
        return digest([self.name, dict(self.tags), dict(self.params), points])

    @property
    def all_tags(self) -> dict[str, str]:
        """Its tags, with its parent and its digest."""
        parent = {} if self.parent is None else {PARENT: self.parent}
        return {**self.tags, DIGEST: self.digest, **parent}


def finite(points: Iterable[Point]) -> list[Point]:
    """The points MLflow can store: it would turn inf into 1.8e308."""
    return [point for point in points if math.isfinite(point.value)]


def digest(data: object) -> str:
    """A hash of JSON data, the same in every process."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def number(value: float) -> str:
    """A number as a user would type it, and without loss: 256, 0.01, 1e-05."""
    value = float(value)
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
