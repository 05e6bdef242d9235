"""The study loop: sample in memory, evaluate, and write each finished trial once."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from nqm_study.model.outcome import Crossing
from nqm_study.study.records import StudyDefinition, TrialRecord
from nqm_study.study.samplers import make_sampler
from nqm_study.study.space import SearchSpace
from nqm_study.study.storage import trial_record


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
OnTrial = Callable[[TrialRecord], None]

CONSTRAINT = "not_reached"
"""Optuna's constraint of a trial: 0 where the target was reached, 1 where not."""


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


def loss(crossing: Crossing, target: float, max_steps: int) -> float:
    """What the sampler minimises: log steps, or a penalty where the target was not reached.

    The penalty is finite, lies above every possible log steps, and still points the right way: it
    is log(max_steps) plus the log of how far the smallest risk stayed above the target.
    """
    if crossing.steps is not None:
        return math.log(max(crossing.steps, 1))
    excess = crossing.risk / target
    return math.log(max_steps) + math.log(max(excess, 1.0)) if math.isfinite(excess) else 1e3


def run(
    stored: Study,
    definition: StudyDefinition,
    evaluate: Evaluate,
    *,
    n_trials: int,
    on_trial: OnTrial | None = None,
) -> None:
    """Bring a stored study to n_trials finished trials; do nothing where it has them already.

    The sampler works on a copy in memory. Each finished trial is written to ``stored`` in one
    write, and only then told to ``on_trial``; an interruption loses at most the trial in flight.

    Args:
        stored: the study in its storage, made by ``storage.open_study``.
        definition: what decides the trials.
        evaluate: hyperparameters in the user's units -> what they come to.
        n_trials: total of finished trials over all calls.
        on_trial: called with each new trial after it was written.
    """
    space = SearchSpace(definition.hyperparameters)
    finished = stored.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    remaining = n_trials - len(finished)
    if remaining <= 0:
        return
    sampler = make_sampler(definition.sampler, space, definition.seed, len(finished))
    memory = optuna.create_study(
        study_name=stored.study_name, direction="minimize", sampler=sampler
    )
    memory.add_trials(finished)
    distributions = space.distributions

    def objective(trial: Trial) -> float:
        coordinates = {
            name: trial.suggest_float(name, d.low, d.high, log=d.log)
            for name, d in distributions.items()
        }
        values = space.values(coordinates)
        found = evaluate(values)
        crossing = found.crossing
        trial.set_user_attr("hyperparameters", {**values, **found.hyperparameters})
        trial.set_user_attr("steps", crossing.steps)
        trial.set_user_attr("status", crossing.status)
        # JSON has no infinity; a risk that overflowed is left out.
        trial.set_user_attr("risk", crossing.risk if math.isfinite(crossing.risk) else None)
        error = crossing.error
        known = error is not None and math.isfinite(error)
        trial.set_user_attr("risk_error", error if known else None)
        if crossing.sampled:
            trial.set_user_attr("sampled", True)
        if found.rates:
            trial.set_user_attr("rates", found.rates)
        trial.set_constraint(CONSTRAINT, 0.0 if crossing.steps is not None else 1.0)
        return loss(crossing, definition.target, definition.max_steps)

    def keep(_: Study, trial: FrozenTrial) -> None:
        with undisturbed():
            stored.add_trial(trial)
            if on_trial is not None:
                on_trial(trial_record(trial))

    with warnings.catch_warnings():
        # Samplers that know no constraints say so; the penalty tells them the same.
        warnings.filterwarnings("ignore", message="Constraints have been set, but")
        memory.optimize(objective, n_trials=remaining, callbacks=[keep])
