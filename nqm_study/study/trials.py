"""One trial: its evaluation, the attributes that keep it, and the values that are minimised."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from nqm_study.model.outcome import Crossing
from nqm_study.study.definition import BATCH_SIZE, Range, StudyDefinition
from nqm_study.study.records import TrialRecord
from nqm_study.study.space import SearchSpace


@dataclass(frozen=True)
class Evaluation:
    """The result of one trial.

    Attributes:
        crossing: steps, status and risk.
        hyperparameters: values that the evaluation itself found, which join the trial's.
        rates: (step, learning rate) pairs of a schedule that was computed, ascending.
    """

    crossing: Crossing
    hyperparameters: Mapping[str, float] = field(default_factory=dict)
    rates: tuple[tuple[int, float], ...] = ()


Evaluate = Callable[[Mapping[str, float]], Evaluation]
OnTrial = Callable[[TrialRecord, int], None]
"""Called with each new trial after it was written, and the number of finished ones."""

CONSTRAINT = "not_reached"
"""Optuna's constraint of a trial: 0 where the target was reached, 1 where not."""

FOUND = "found"
"""The attribute with the whole result of a shared trial; others have an attribute for each part."""


class NotStoredError(RuntimeError):
    """A finished trial could not be written; the study stops, and computes it again next time."""


def loss(crossing: Crossing, target: float, max_steps: int) -> float:
    """Logarithm of a trial's steps, or a penalty where the target was not reached.

    The penalty is finite, lies above every possible log steps, and still points the right way: it
    is log(max_steps) plus the log of how far the smallest risk stayed above the target.
    """
    if crossing.steps is not None:
        return math.log(max(crossing.steps, 1))
    excess = crossing.risk / target
    return math.log(max_steps) + math.log(max(excess, 1.0)) if math.isfinite(excess) else 1e3


def objective(
    definition: StudyDefinition, values: Mapping[str, float], found: Evaluation
) -> tuple[float, ...]:
    """The values that the sampler minimises: log steps, and log examples where there are two.

    A trial that missed the target is worse than any that reached it, by the same excess in both.
    """
    steps = loss(found.crossing, definition.target, definition.max_steps)
    if not isinstance(definition.batch_size, Range):
        return (steps,)
    # What missed the target is behind whatever reached it, at any batch size.
    reached = found.crossing.steps is not None
    size = values[BATCH_SIZE] if reached else definition.batch_size.high or 1.0
    return steps, steps + math.log(size)


def suggest(trial: Trial, space: SearchSpace) -> dict[str, float]:
    """Ask the sampler for the coordinates of a trial."""
    return {
        name: trial.suggest_float(name, d.low, d.high, log=d.log)
        for name, d in space.distributions.items()
    }


def attributes(values: Mapping[str, float], found: Evaluation) -> dict[str, object]:
    """The JSON values that are kept with a trial; ``trial_record`` reads them."""
    crossing = found.crossing
    error = crossing.error
    kept: dict[str, object] = {
        "hyperparameters": {**values, **found.hyperparameters},
        "steps": crossing.steps,
        "status": crossing.status,
        # JSON has no infinity; a risk that overflowed is left out.
        "risk": crossing.risk if math.isfinite(crossing.risk) else None,
        "risk_error": error if error is not None and math.isfinite(error) else None,
    }
    if crossing.sampled:
        kept["sampled"] = True
    if found.rates:
        kept["rates"] = found.rates
    return kept


def trial_record(trial: FrozenTrial) -> TrialRecord:
    """A finished trial of Optuna's as a record.

    Raises:
        ValueError: if it is not finished.
        KeyError: if what ``attributes`` writes is not there.
    """
    kept = trial.user_attrs.get(FOUND, trial.user_attrs)
    if trial.datetime_start is None or trial.datetime_complete is None or not trial.values:
        raise ValueError(f"trial {trial.number} is not finished")
    return TrialRecord(
        number=trial.number,
        hyperparameters=kept["hyperparameters"],
        steps=kept["steps"],
        status=kept["status"],
        risk=kept["risk"] if kept["risk"] is not None else math.inf,
        objective=trial.values[0],
        started=trial.datetime_start,
        finished=trial.datetime_complete,
        risk_error=kept["risk_error"],
        rates=tuple((int(step), float(rate)) for step, rate in kept.get("rates", ())),
        sampled=kept.get("sampled", False),
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
