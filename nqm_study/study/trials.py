"""One trial: what it computes, what of it is kept, and what the sampler is told."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from optuna.study import StudyDirection
from optuna.trial import Trial

from nqm_study.model.outcome import Crossing
from nqm_study.study.definition import Range, StudyDefinition
from nqm_study.study.records import TrialRecord
from nqm_study.study.space import SearchSpace


@dataclass(frozen=True)
class Evaluation:
    """What one trial came to.

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


class NotStoredError(RuntimeError):
    """A finished trial could not be written; the study stops, and computes it again next time."""


def loss(crossing: Crossing, target: float, max_steps: int) -> float:
    """What the sampler minimises: log steps, or a penalty where the target was not reached.

    The penalty is finite, lies above every possible log steps, and still points the right way: it
    is log(max_steps) plus the log of how far the smallest risk stayed above the target.
    """
    if crossing.steps is not None:
        return math.log(max(crossing.steps, 1))
    excess = crossing.risk / target
    return math.log(max_steps) + math.log(max(excess, 1.0)) if math.isfinite(excess) else 1e3


def losses(
    crossing: Crossing, batch_size: float, target: float, max_steps: int
) -> tuple[float, float]:
    """The same for two objectives: log steps, and log examples.

    Where the target was not reached, both are worse than any that reached it, by the same excess.
    """
    steps = loss(crossing, target, max_steps)
    return steps, steps + math.log(batch_size)


def suggest(trial: Trial, space: SearchSpace) -> dict[str, float]:
    """The sampler's coordinates of a trial."""
    return {
        name: trial.suggest_float(name, d.low, d.high, log=d.log)
        for name, d in space.distributions.items()
    }


def attributes(values: Mapping[str, float], found: Evaluation) -> dict[str, object]:
    """What is kept of an evaluation with its trial, in JSON values."""
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


def constrain(trial: Trial, found: Evaluation) -> None:
    """Tell the sampler whether the target was reached."""
    trial.set_constraint(CONSTRAINT, 0.0 if found.crossing.steps is not None else 1.0)


def directions(definition: StudyDefinition) -> list[StudyDirection]:
    """Optuna's directions of a study's objectives."""
    return [StudyDirection.MINIMIZE] * (2 if definition.two_objectives else 1)


def objective(
    definition: StudyDefinition, values: Mapping[str, float], found: Evaluation
) -> float | tuple[float, float]:
    """What the sampler of a study is told about an evaluation."""
    target, max_steps = definition.target, definition.max_steps
    if isinstance(definition.batch_size, Range):
        # What missed the target is behind whatever reached it, at any batch size.
        size = (
            values["batch_size"] if found.crossing.steps is not None else definition.batch_size.high
        )
        return losses(found.crossing, size or 1.0, target, max_steps)
    return loss(found.crossing, target, max_steps)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Hold Ctrl-C back until the block is done: a write that is cut in half helps nobody."""
    if threading.current_thread() is not threading.main_thread():
        # Python interrupts the main thread only.
        yield
        return
    held: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        raise KeyboardInterrupt
