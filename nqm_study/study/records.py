"""What a study is and what its trials found, as frozen values.

The study loop writes these, the tracking mirror and the report read them; none of the three knows
the others. A definition says everything that decides a study's trials except how many there are:
raising the budget continues a study, changing anything in its definition makes another one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

SMALL_RISK_ERROR = 1e-9
"""Relative error of the risk that compressing a spectrum is meant to stay below."""

SMALL_SCHEDULED_ERROR = 2e-6
"""The same for long runs under a schedule, whose risks are extrapolated."""

SMALL_CLOSURE_ERROR = 0.03
"""The same for Adam, whose risks are those of a closure, or sampled."""

EXACT_SCHEDULES = ("constant", "optimal", "greedy")
"""The schedules whose risks are not extrapolated."""

Scale = Literal["linear", "log", "log_one_minus"]
SCALES: tuple[Scale, ...] = ("linear", "log", "log_one_minus")


@dataclass(frozen=True)
class Range:
    """A searched hyperparameter: its bounds in the user's units and the scale it is searched on.

    ``log`` searches log(value), ``log_one_minus`` searches log(1 - value), for hyperparameters
    such as momentum whose effect is set by their distance from one.

    Raises:
        ValueError: unless low < high, both finite and inside the scale's domain.
    """

    low: float
    high: float
    scale: Scale = "log"

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise ValueError(f"scale={self.scale}: must be one of {', '.join(SCALES)}")
        for name in ("low", "high"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ValueError(f"{name}={value}: must be a number")
            if not math.isfinite(value):
                raise ValueError(f"{name}={value}: must be finite")
            # 0 and 0.0 are one bound, and must make one fingerprint.
            object.__setattr__(self, name, float(value))
        if not self.low < self.high:
            raise ValueError(f"low={self.low:g}: must be less than high={self.high:g}")
        if self.scale == "log" and self.low <= 0.0:
            raise ValueError(f"low={self.low:g}: must be greater than 0 on a log scale")
        if self.scale == "log_one_minus" and self.high >= 1.0:
            raise ValueError(f"high={self.high:g}: must be less than 1 on a log_one_minus scale")


Hyperparameter = float | Range


@dataclass(frozen=True)
class StudyDefinition:
    """Everything that decides a study's trials, except their number.

    Attributes:
        optimizer: name of the optimizer's configuration (``sgd``, ``momentum``, ``adam``, ...).
        hyperparameters: each one a number (fixed) or a ``Range`` (searched).
        spectrum: name of the spectrum's configuration (``paper``, ...).
        spectrum_digest: hash of the spectrum's arrays.
        schedule: name of the schedule's configuration (``constant``, ``cosine``, ...); what of its
            shape is a number or a range is among the hyperparameters.
        batch_size: examples per step.
        target: expected loss to reach.
        seed: seed of the sampler.
        sampler: name and settings of the sampler.
        max_steps: steps after which a trial counts as not having reached the target.
        spectrum_settings: what the spectrum was made from: ``dim`` and ``exponent``; or ``file``,
            the file's name, with ``modes``, how many modes it stands for, and ``scale``, what the
            loss was multiplied by where it was.
        schedule_settings: what of the schedule's shape can only be given: ``pieces``, ``drops``,
            ``decay``.
        optimizer_settings: ``beta2_policy`` and ``beta2_batch_size``, where beta2 differs from one
            batch size to the next; the hyperparameters then have it as it is at that batch size.
    """

    optimizer: str
    hyperparameters: Mapping[str, Hyperparameter]
    spectrum: str
    spectrum_digest: str
    schedule: str
    batch_size: float
    target: float
    seed: int
    sampler: Mapping[str, Any]
    max_steps: int
    spectrum_settings: Mapping[str, float | str] = field(default_factory=dict)
    schedule_settings: Mapping[str, float | str] = field(default_factory=dict)
    optimizer_settings: Mapping[str, float | str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The definition as JSON values; ``from_json`` is its inverse.

        Settings of the schedule or the optimizer are left out where there are none, so that studies
        stored before there were any keep their fingerprints.
        """
        data = dataclasses.asdict(self)
        for name in ("schedule_settings", "optimizer_settings"):
            if not data[name]:
                del data[name]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> StudyDefinition:
        """The definition that ``to_json`` wrote."""
        hyperparameters = {
            name: Range(**value) if isinstance(value, Mapping) else value
            for name, value in data["hyperparameters"].items()
        }
        return cls(**{**data, "hyperparameters": hyperparameters})

    @property
    def spectrum_text(self) -> str:
        """The spectrum's name with its settings."""
        # A text, such as a file's name, says by itself what it is.
        settings = ", ".join(
            value if isinstance(value, str) else f"{name} {value:.15g}"
            for name, value in self.spectrum_settings.items()
        )
        return f"{self.spectrum} ({settings})" if settings else self.spectrum

    @property
    def optimizer_text(self) -> str:
        """The optimizer's name, with the policy of beta2 where it is not the plain one."""
        policy = self.optimizer_settings.get("beta2_policy")
        return f"{self.optimizer} {policy}" if policy else self.optimizer

    @property
    def varied(self) -> frozenset[str]:
        """The hyperparameters that are searched, or that differ from one batch size to the next."""
        searched = {name for name, v in self.hyperparameters.items() if isinstance(v, Range)}
        return frozenset(searched | ({"beta2"} if self.optimizer_settings else set()))

    @property
    def approximate(self) -> bool:
        """Whether the risks are Adam's: not exact, but those of a closure, or sampled."""
        return "beta2" in self.hyperparameters

    @property
    def fingerprint(self) -> str:
        """A hash of the definition; equal for equal definitions, whatever the process."""
        return _digest(self.to_json())

    @property
    def default_name(self) -> str:
        """A readable stem and the fingerprint: the study's name unless the user gives one."""
        return (
            f"{self.optimizer}-{self.spectrum}-{self.schedule}-B{self.batch_size:.15g}"
            f"-C{self.target:g}-s{self.seed}-{self.fingerprint[:8]}"
        )

    @property
    def curve(self) -> str:
        """A hash of the definition less batch size and seed: studies of one scaling curve."""
        data = self.to_json()
        del data["batch_size"], data["seed"]
        return _digest(data)


@dataclass(frozen=True)
class TrialRecord:
    """One finished trial.

    Attributes:
        number: its place in the study, from 0.
        hyperparameters: every hyperparameter's value in the user's units, the fixed ones too.
        steps: steps to the target, or None where it was not reached.
        status: ``reached``, ``floor_above_target``, ``diverged`` or ``max_steps``.
        risk: expected loss at the crossing; with no crossing, the smallest seen.
        objective: the value the sampler minimised.
        started, finished: when the trial ran.
        risk_error: relative error of the risk: by compressing the spectrum and by extrapolating a
            long run under a schedule; for Adam what its closure may be off by, or the relative
            standard error of a sampled risk; None where it was not measured, as in studies that
            earlier versions stored.
        rates: (step, learning rate) pairs of a schedule that was computed rather than given by
            hyperparameters, ascending, the first at step 0: for ``optimal`` the first step of each
            piece and its rate, for ``greedy`` some steps of the run.
        sampled: whether the risk was sampled, because Adam's closure was in doubt.
    """

    number: int
    hyperparameters: Mapping[str, float]
    steps: int | None
    status: str
    risk: float
    objective: float
    started: datetime
    finished: datetime
    risk_error: float | None = None
    rates: tuple[tuple[int, float], ...] = ()
    sampled: bool = False


@dataclass(frozen=True)
class StudyRecord:
    """A study with its finished trials, in the order of their numbers.

    Attributes:
        name: the study's name in the Optuna storage.
        definition: what decides its trials.
        bayes_bound: the fewest steps any algorithm could need to the target.
        initial_risk: expected loss before the first step.
        trials: the finished trials.
        classical_bound: sum m c / h / (2 C B), which is d / (2 C B) for c = h: often called a lower
            bound, though it is none, since it drops the prior; None in studies stored by earlier
            versions.
        optimal_steps: steps of the optimal schedule of SGD, of 50 equal pieces, on the same
            problem; None where it was not computed.
    """

    name: str
    definition: StudyDefinition
    bayes_bound: int
    initial_risk: float
    trials: tuple[TrialRecord, ...] = field(default=())
    classical_bound: float | None = None
    optimal_steps: int | None = None

    @property
    def best(self) -> TrialRecord | None:
        """The first trial with the fewest steps to the target; None where none reached it."""
        reached = [trial for trial in self.trials if trial.steps is not None]
        return min(reached, key=lambda trial: (trial.steps, trial.number), default=None)

    @property
    def risk_error(self) -> float | None:
        """The largest of the trials that reached the target; None where none was measured.

        For Adam it is the best trial's: the others may be from where the closure is further off.
        """
        if self.definition.approximate:
            return self.best.risk_error if self.best is not None else None
        return largest_risk_error(self.trials)

    @property
    def told_risk_error(self) -> float | None:
        """The same where it is larger than it is meant to be, and None elsewhere."""
        small = SMALL_SCHEDULED_ERROR
        if self.definition.approximate:
            small = SMALL_CLOSURE_ERROR
        elif self.definition.schedule in EXACT_SCHEDULES:
            small = SMALL_RISK_ERROR
        error = self.risk_error
        return error if error is not None and error > small else None


def largest_risk_error(trials: Iterable[TrialRecord]) -> float | None:
    """The largest relative error of the risk over trials that reached the target, if any."""
    errors = (t.risk_error for t in trials if t.steps is not None and t.risk_error is not None)
    return max(errors, default=None)


def error_text(value: float) -> str:
    """A relative error as it is told: ``3e-08``, or ``5 %``."""
    return f"{value:.0e}" if value < 1e-3 else f"{100.0 * value:.2g} %"


def _digest(data: object) -> str:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
