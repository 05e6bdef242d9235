"""The results of a study and of its trials, as frozen values.

The study loop writes these, the tracking mirror and the report read them; none of the three knows
the others.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from nqm_study.study.definition import StudyDefinition, Value

if TYPE_CHECKING:
    # Whoever asks for a hyperparameter by its name knows of what type it is.
    Given = Any
else:
    Given = Value

SMALL_RISK_ERROR = 1e-9
"""Relative error of the risk that compressing a spectrum is meant to stay below."""

SMALL_SCHEDULED_ERROR = 2e-6
"""The same for long runs under a schedule, whose risks are extrapolated."""

SMALL_CLOSURE_ERROR = 0.03
"""The same for Adam, whose risks are those of a closure, or sampled."""

EXACT_SCHEDULES = ("constant", "optimal", "greedy")
"""The schedules whose risks are not extrapolated."""


@dataclass(frozen=True)
class TrialRecord:
    """One finished trial.

    Attributes:
        number: its place in the study, from 0.
        hyperparameters: every hyperparameter's value in the user's units, the fixed ones too.
        steps: steps to the target, or None where it was not reached.
        status: ``reached``, ``floor_above_target``, ``diverged`` or ``max_steps``.
        risk: expected loss at the crossing; with no crossing, the smallest seen.
        started, finished: when the trial ran.
        risk_error: relative error of the risk: by compressing the spectrum and by extrapolating a
            long run under a schedule; for Adam the error of its closure, or the relative standard
            error of a sampled risk; None where it was not measured.
        rates: (step, learning rate) pairs of a schedule that was computed rather than given by
            hyperparameters, ascending, the first at step 0: for ``optimal`` the first step of each
            piece and its rate, for ``greedy`` some steps of the run.
        sampled: whether the risk was sampled, because Adam's closure was in doubt.
        summed_examples: the sum of the batch sizes of the run where they change, or where it is
            minimised; None elsewhere.
        time: time to the target where that is minimised; None elsewhere, and if not reached.
    """

    number: int
    hyperparameters: Mapping[str, Given]
    steps: int | None
    status: str
    risk: float
    started: datetime
    finished: datetime
    risk_error: float | None = None
    rates: tuple[tuple[int, float], ...] = ()
    sampled: bool = False
    summed_examples: float | None = None
    time: float | None = None

    @property
    def batch_size(self) -> float:
        """Examples per step where the batch size is searched; 0 elsewhere, as the study has it."""
        size: float = self.hyperparameters.get("batch_size", 0.0)
        return size

    @property
    def examples(self) -> float:
        """Examples to the target where the batch size is searched; infinite if not reached."""
        return self.examples_at(self.batch_size)

    def examples_at(self, batch_size: float) -> float:
        """Examples to the target in a study of a batch size; infinite if not reached."""
        if self.steps is None:
            return math.inf
        return self.steps * batch_size if self.summed_examples is None else self.summed_examples

    def cost(self, objective: str) -> float:
        """What a study minimises, by its definition's objective; infinite if not reached.

        With two objectives it is the first of them, the steps.
        """
        if self.steps is None:
            return math.inf
        if objective == "examples":
            return self.examples
        return float(self.steps) if self.time is None else self.time


Tracked = Literal["all", "best", "none"]
"""Which trials of a study have runs of their own in MLflow."""


@dataclass(frozen=True)
class Origin:
    """The versions and the configuration that made a study's trials, from some trial on.

    Attributes:
        first_trial: number of trials there were before.
        versions: by package; Python is one of them.
        revision: git revision of the program's checkout, with ``-dirty`` where files differ from
            it; empty for an installed program.
        config: the composed configuration as YAML; empty for a study run from Python.
    """

    first_trial: int
    versions: Mapping[str, str]
    revision: str = ""
    config: str = ""


@dataclass(frozen=True)
class Cost:
    """Seconds that trials took, by part, without waiting for others.

    Attributes:
        trials: how many were measured.
        sampler: Optuna's proposals, and telling it the results.
        objective: computing the steps.
        storage: writing the finished trials.
    """

    trials: int = 0
    sampler: float = 0.0
    objective: float = 0.0
    storage: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        """The cost of both."""
        return Cost(*map(operator.add, vars(self).values(), vars(other).values()))

    @property
    def milliseconds(self) -> dict[str, float]:
        """Milliseconds a trial by part; empty where nothing was measured."""
        if self.trials == 0:
            return {}
        parts = {"sampler": self.sampler, "objective": self.objective, "storage": self.storage}
        return {name: 1e3 * seconds / self.trials for name, seconds in parts.items()}


@dataclass(frozen=True)
class Optimum:
    """The fewest steps that the searched hyperparameters can reach: the yardstick of a search.

    Attributes:
        steps: the fewest steps to the target.
        hyperparameters: values that take them, in the user's units, the fixed ones too.
        exact: whether it is computed from the model's risk as a function of the hyperparameters;
            otherwise it is the best that a dense search found.
    """

    steps: int
    hyperparameters: Mapping[str, Given]
    exact: bool = True


def regret(trials: Iterable[TrialRecord], optimum: Optimum) -> list[float]:
    """Relative excess of the fewest steps so far over the optimum's, after each trial.

    Infinite while none reached the target.
    """
    steps = (math.inf if trial.steps is None else trial.steps for trial in trials)
    return [fewest / optimum.steps - 1.0 for fewest in itertools.accumulate(steps, min)]


@dataclass(frozen=True)
class Training:
    """The expected loss and the gradient noise scale along the run of one trial.

    Attributes:
        trial: its number: the best, or of those that missed the target the one with the least risk.
        steps: numbers of steps, ascending from 0; where the schedule depends on the run's length
            they end with it, elsewhere beyond the target.
        risks: expected loss after so many steps, under a long schedule to a thousandth; Adam's is
            its closure's.
        noise_scales: tr(Sigma) / E |G|^2 after so many steps, in examples; infinite where the
            gradient is 0.
        unrounded_steps: the steps to the target of the same hyperparameters with batch sizes that
            are not rounded; None where they are not, or do not reach it.
    """

    trial: int
    steps: tuple[int, ...]
    risks: tuple[float, ...]
    noise_scales: tuple[float, ...]
    unrounded_steps: int | None = None


@dataclass(frozen=True)
class DataCheck:
    """Runs of one trial on the data that a study's problem is made of.

    Attributes:
        trial: its number, as in ``Training``.
        asked: how many runs were asked for.
        runs: how many were made: fewer where they would take long.
        steps: numbers of steps, ascending.
        predicted: expected excess risk after so many steps.
        measured: the mean of the runs' excess risks; infinite where one diverged.
        standard_errors: of that mean.
        left_out: why no run was made; empty where some were.
    """

    trial: int
    asked: int
    runs: int = 0
    steps: tuple[int, ...] = ()
    predicted: tuple[float, ...] = ()
    measured: tuple[float, ...] = ()
    standard_errors: tuple[float, ...] = ()
    left_out: str = ""


@dataclass(frozen=True)
class Ramp:
    """What changing batch sizes are worth to SGD in runs of one length.

    Attributes:
        steps: the length T of the runs.
        one_size: the fewest examples to the target with one batch size, under the best rates.
        examples: the same with the best batch size for each of some equal pieces of the run.
        batch_sizes: these batch sizes, examples; empty where they are not stored.
        learning_rates: the rates beside them, of the same pieces.
    """

    steps: int
    one_size: float
    examples: float
    batch_sizes: tuple[float, ...] = ()
    learning_rates: tuple[float, ...] = ()


@dataclass(frozen=True)
class ComputePoint:
    """The best use of a compute budget.

    Attributes:
        compute: what is spent, d T B.
        dim: the best number d of modes.
        steps: T.
        learning_rate: the best constant one.
        loss: expected loss of the whole problem, with what the modes beyond d are worth.
    """

    compute: float
    dim: int
    steps: int
    learning_rate: float
    loss: float


@dataclass(frozen=True)
class Exponent:
    """A power of compute.

    Attributes:
        value: fitted, in logarithms.
        interval: half the width of its 95 % interval, by the scatter about the line.
        derived: as theory has it.
    """

    value: float
    interval: float
    derived: float


@dataclass(frozen=True)
class ComputeScaling:
    """How the least loss and the best dimension go with compute.

    Attributes:
        points: by ascending compute.
        loss: the power that the loss goes with.
        dim: the power that the dimension goes with.
        curve: the least losses of a study's own dimension, as (compute, loss); empty without one.
        rest: what the modes beyond that dimension are worth, in loss.
    """

    points: tuple[ComputePoint, ...]
    loss: Exponent
    dim: Exponent
    curve: tuple[tuple[float, float], ...] = ()
    rest: float = 0.0


OPTIMAL = "SGD's optimal schedule, rate <= 2/h_1"
"""The name of the schedule that takes ``optimal_steps``: the cap on its rate belongs to it."""


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
            bound, though it is none, since it drops the prior; None where it is infinite, or the
            batch size is searched.
        optimal_steps: steps of the optimal schedule of SGD on the same problem, with rates of at
            most 0.9998 times 2 / h_1; None where it was not computed.
        optimal_gap: the share of them that any other schedule within that cap may save.
        stability_limit: the largest stable constant rate of SGD where the noise follows the loss;
            None elsewhere, or where the batch size is searched.
        interpolation_batch_size: tr(H) / h_1 + 1 in examples, there as well.
        origins: what the trials were made with, in the order of their first trials.
        cost: what the trials cost.
        tracked: which trials have runs of their own in MLflow.
        optimum: the true optimum; None where it was not computed, or no values reach the target.
        coordinates: the ranges of the coordinates that the sampler searches, by name.
        failures: why trials failed that have no result and do not count, one line each.
        at_edge: what of the best trial is at the end of a range that could go on, in words.
        frontier: where the batch size is searched, the fewest steps that any of the searched
            hyperparameters can reach, as (batch size, steps), ascending; empty where it was not
            computed.
        ramps: the fewest examples of SGD's runs of some lengths on the same problem, the shortest
            first; empty where they were not computed, as without a batch schedule.
        compute: the best dimensions of its law for compute budgets; None where they were not asked
            for, or are beyond what can be computed.
        reports: names of the reports that the study belongs to.
        training: the run of its best trial; None where it is not stored, or all diverged.
        data_check: the same trial's runs on the data; None where none were asked for.
    """

    name: str
    definition: StudyDefinition
    bayes_bound: int
    initial_risk: float
    trials: tuple[TrialRecord, ...] = field(default=())
    classical_bound: float | None = None
    optimal_steps: int | None = None
    optimal_gap: float | None = None
    stability_limit: float | None = None
    interpolation_batch_size: float | None = None
    origins: tuple[Origin, ...] = ()
    cost: Cost = field(default_factory=Cost)
    tracked: Tracked = "all"
    optimum: Optimum | None = None
    coordinates: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    failures: tuple[str, ...] = ()
    at_edge: tuple[str, ...] = ()
    frontier: tuple[tuple[float, int], ...] = ()
    ramps: tuple[Ramp, ...] = ()
    compute: ComputeScaling | None = None
    reports: tuple[str, ...] = ()
    training: Training | None = None
    data_check: DataCheck | None = None

    @property
    def excess(self) -> float | None:
        """Relative excess of the best trial's steps over the optimum's; None if not known.

        Below 0 where an optimum that is not exact was beaten.
        """
        best, optimum = self.best, self.optimum
        if best is None or best.steps is None or optimum is None or optimum.steps == 0:
            return None
        return best.steps / optimum.steps - 1.0

    @property
    def best(self) -> TrialRecord | None:
        """The first trial with the fewest steps to the target; None where none reached it.

        Where time or examples are minimised it is that with the least. With two objectives it is
        the frontier's end; of equal steps, that with the fewest examples.
        """
        reached = [trial for trial in self.trials if trial.steps is not None]
        least = self.definition.objective
        return min(
            reached,
            key=lambda trial: (trial.cost(least), trial.batch_size, trial.number),
            default=None,
        )

    @property
    def risk_error(self) -> float | None:
        """The largest relative error of the risk of trials that reached the target, if measured.

        For Adam it is the best trial's: the others may be from where the closure is further off. So
        it is where batch sizes change: the others may be of runs far from the best.
        """
        if self.definition.approximate or self.definition.batch_schedule:
            return self.best.risk_error if self.best is not None else None
        return largest_risk_error(self.trials)

    @property
    def told_risk_error(self) -> float | None:
        """``risk_error`` where it is larger than it is meant to be, and None elsewhere."""
        small = SMALL_SCHEDULED_ERROR
        if self.definition.approximate:
            small = SMALL_CLOSURE_ERROR
        elif self.definition.schedule in EXACT_SCHEDULES and not self.definition.batch_schedule:
            small = SMALL_RISK_ERROR
        error = self.risk_error
        return error if error is not None and error > small else None


def largest_risk_error(trials: Iterable[TrialRecord]) -> float | None:
    """The largest relative error of the risk of trials that reached the target; None if unknown."""
    errors = (t.risk_error for t in trials if t.steps is not None and t.risk_error is not None)
    return max(errors, default=None)


def error_text(value: float) -> str:
    """A relative error as text: ``3e-08``, or ``5 %``."""
    return f"{value:.0e}" if value < 1e-3 else f"{100.0 * value:.2g} %"
