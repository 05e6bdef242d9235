"""One trial: its evaluation, the attributes that keep it, its values, and how they are ranked."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from nqm_study.model.outcome import Crossing
from nqm_study.study.definition import BATCH_SIZE, StudyDefinition
from nqm_study.study.records import TrialRecord
from nqm_study.study.space import SearchSpace
from nqm_study.study.text import raised


@dataclass(frozen=True)
class Evaluation:
    """The result of one trial.

    Attributes:
        crossing: steps, status and risk.
        hyperparameters: values that the evaluation itself found, which join the trial's.
        rates: (step, learning rate) pairs of a schedule that was computed, ascending.
        examples: the sum of the run's batch sizes where they change; None elsewhere.
        time: what the run takes, where that is minimised; None elsewhere.
    """

    crossing: Crossing
    hyperparameters: Mapping[str, float] = field(default_factory=dict)
    rates: tuple[tuple[int, float], ...] = ()
    examples: float | None = None
    time: float | None = None


Evaluate = Callable[[Mapping[str, Any]], Evaluation]
OnTrial = Callable[[TrialRecord, int], None]
"""Called with each new trial after it was written, and the number of finished ones."""

CONSTRAINT = "not_reached"
"""Optuna's constraint of a trial: 0 where the target was reached, 1 where not."""

FOUND = "found"
"""The attribute with the whole result of a shared trial; others have an attribute for each part."""


FAILURE = "failure"
"""The attribute of a trial whose evaluation failed: one line that says why."""

MOST_FAILURES = 3
"""So many trials in a row that fail end a study."""


class FailedTrialError(RuntimeError):
    """The evaluation of a trial failed; it has no result, and does not count."""


class FailedTrialsError(ValueError):
    """The evaluations of several trials in a row failed, which ends the study."""


class NotStoredError(RuntimeError):
    """A finished trial could not be written; the study stops, and computes it again next time."""


@dataclass
class Attempts:
    """The evaluations of a study's trials, one after the other, of which some may fail.

    Attributes:
        failed: why the trials failed that came after the last one that did not.
    """

    failed: list[str] = field(default_factory=list)

    def evaluated(
        self, evaluate: Evaluate, values: Mapping[str, Any], tell: Callable[[str], object]
    ) -> Evaluation:
        """The result of a trial.

        Args:
            evaluate: hyperparameters in the user's units -> the result.
            values: the trial's.
            tell: called with one line that says why, where it fails.

        Raises:
            FailedTrialError: if the evaluation raises anything.
        """
        try:
            found = evaluate(values)
        except Exception as error:
            logging.getLogger(__name__).exception("a trial failed at %s", dict(values))
            self.failed.append(raised(error))
            tell(self.failed[-1])
            raise FailedTrialError(self.failed[-1]) from error
        self.failed.clear()
        return found

    def require_success(self) -> None:
        """End a study whose last trials all failed.

        Raises:
            FailedTrialsError: if they are ``MOST_FAILURES``.
        """
        if len(self.failed) >= MOST_FAILURES:
            raise FailedTrialsError(f"{MOST_FAILURES} trials in a row failed, {self.failed[-1]}")


def objectives(
    definition: StudyDefinition, values: Mapping[str, Any], found: Evaluation
) -> tuple[float, ...]:
    """The values that Optuna stores: the steps or the time; with two objectives, examples as well.

    They are infinite where the target was not reached: there is no number of steps, and any finite
    one would be invented. Measured against a pruned trial, which has no value, on momentum at three
    batch sizes: by themselves TPE searches exactly alike with both, CMA-ES, NSGA-II and the
    Gaussian process within their scatter, and Optuna's figures leave both out. But an infinite
    value is that of a finished trial, in all counts, callbacks and tables, with two objectives as
    well, and "pruned" is a word for something else. That no such trial is called the best, and
    where none reached the target there is no best one, is the constraint's doing.
    """
    if found.crossing.steps is None:
        return (math.inf,) * len(directions(definition))
    steps = float(found.crossing.steps)
    if found.time is not None:
        return (found.time,)
    if not definition.two_objectives:
        return (steps,)
    return steps, steps * values[BATCH_SIZE] if found.examples is None else found.examples


def ranking(
    values: Iterable[float], risk: float, target: float, max_steps: int
) -> tuple[float, ...]:
    """What a sampler minimises in place of a trial's values: their logarithms, or a penalty.

    The penalty is that of a trial whose values are infinite. It is finite, lies above every
    possible log steps, and still points the right way: it is log(max_steps) plus the log of how far
    the smallest risk stayed above the target.
    """
    excess = max(risk / target, 1.0)
    penalty = math.log(max_steps) + math.log(excess) if math.isfinite(excess) else 1e3
    return tuple(math.log(max(v, 1.0)) if math.isfinite(v) else penalty for v in values)


def suggest(trial: Trial, space: SearchSpace) -> dict[str, Any]:
    """Ask for the hyperparameters of a trial, in the user's units, the fixed ones included."""
    return space.decided(lambda name, _: _suggested(trial, name, space.distributions[name]))


def _suggested(trial: Trial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    each: Any = distribution
    ask = trial.suggest_int if isinstance(each, IntDistribution) else trial.suggest_float
    return ask(name, each.low, each.high, log=each.log)


def attributes(values: Mapping[str, Any], found: Evaluation) -> dict[str, object]:
    """The JSON values that are kept with a trial; ``trial_record`` reads them."""
    crossing = found.crossing
    error = crossing.error
    written: dict[str, object] = {
        "hyperparameters": {**values, **found.hyperparameters},
        "steps": crossing.steps,
        "status": crossing.status,
        # JSON has no infinity; a risk that overflowed is left out.
        "risk": crossing.risk if math.isfinite(crossing.risk) else None,
        "risk_error": error if error is not None and math.isfinite(error) else None,
    }
    if crossing.sampled:
        written["sampled"] = True
    if found.rates:
        written["rates"] = found.rates
    costs = {"examples": found.examples, "time": found.time}
    return {**written, **{name: cost for name, cost in costs.items() if cost is not None}}


def kept(trial: FrozenTrial) -> Mapping[str, Any]:
    """What ``attributes`` wrote to a trial."""
    found: Mapping[str, Any] = trial.user_attrs.get(FOUND, trial.user_attrs)
    return found


def in_coordinates(trial: FrozenTrial) -> bool:
    """Whether a finished trial is an earlier version's, which stored coordinates and log steps."""
    found = kept(trial)
    steps = math.inf if found["steps"] is None else found["steps"]
    return bool(trial.values) and trial.values[0] != found.get("time", steps)


def trial_record(trial: FrozenTrial) -> TrialRecord:
    """A finished trial of Optuna's as a record.

    Raises:
        ValueError: if it is not finished.
        KeyError: if what ``attributes`` writes is not there.
    """
    found = kept(trial)
    if trial.datetime_start is None or trial.datetime_complete is None or not trial.values:
        raise ValueError(f"trial {trial.number} is not finished")
    return TrialRecord(
        number=trial.number,
        hyperparameters=found["hyperparameters"],
        steps=found["steps"],
        status=found["status"],
        risk=found["risk"] if found["risk"] is not None else math.inf,
        started=trial.datetime_start,
        finished=trial.datetime_complete,
        risk_error=found["risk_error"],
        rates=tuple((int(step), float(rate)) for step, rate in found.get("rates", ())),
        sampled=found.get("sampled", False),
        summed_examples=found.get("examples"),
        time=found.get("time"),
    )


def trial_records(trials: Iterable[FrozenTrial]) -> tuple[TrialRecord, ...]:
    """The finished trials of a study as records."""
    return tuple(trial_record(trial) for trial in trials if trial.state == TrialState.COMPLETE)


def constrain(trial: Trial, found: Evaluation) -> None:
    """Tell the sampler whether the target was reached."""
    trial.set_constraint(CONSTRAINT, 0.0 if found.crossing.steps is not None else 1.0)


def directions(definition: StudyDefinition) -> list[StudyDirection]:
    """Optuna's directions of a study's objectives."""
    return [StudyDirection.MINIMIZE] * (2 if definition.two_objectives else 1)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Hold signals back until the block is done: a write that is cut in half helps nobody.

    They are those that Python code handles, such as Ctrl-C.
    """
    if threading.current_thread() is not threading.main_thread():
        # Python interrupts the main thread only.
        yield
        return
    held: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ours = {number: each for number, each in handlers.items() if callable(each)}
    for number in ours:
        signal.signal(number, lambda number, _: held.append(number))
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
    for late in held:
        ours[signal.Signals(late)](late, None)


def stopwatch() -> Callable[[], float]:
    """A function that returns the seconds since it was called last, or made."""
    last = time.perf_counter()

    def lap() -> float:
        nonlocal last
        before, last = last, time.perf_counter()
        return last - before

    return lap
