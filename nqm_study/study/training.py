"""The run of a study's best trial: its expected loss and gradient noise scale along the steps."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
from optuna.study import Study

from nqm_study.model.crossing import risk_curve, steps_to_target
from nqm_study.model.noise_scale import gradient_noise_scale
from nqm_study.model.numerics.arrays import Array, Integers
from nqm_study.model.optimizers import Optimizer
from nqm_study.model.problems.problem import Problem
from nqm_study.model.schedules import PiecewiseConstant, Schedule
from nqm_study.model.schedules.computed.greedy import greedy_curve
from nqm_study.study.definition import StudyDefinition
from nqm_study.study.evaluation import parts_of_run
from nqm_study.study.recipes import CONSTANT, Recipes
from nqm_study.study.records import StudyRecord, Training, TrialRecord
from nqm_study.study.storage.studies import note, study_record

POINTS = 48
"""Numbers of steps, evenly spread in their logarithm, at which a run is looked at."""

LATE_POINTS = 12
"""The same in its last three octaves, where the loss bends most."""

APPROACH = 12
"""Steps before the crossing at which it is looked at: half of the run, a quarter, an eighth, ...
Under a schedule the loss may fall within the last hundredth of it."""

BEYOND = 2
"""A run at a constant rate is shown to this many times the steps to the target: past it the noise
floor comes into sight."""

MOST_UNREACHED = 10**6
"""The most steps of a run that missed the target."""

SETTLED = 0.01
"""Relative distance from its last risk below which a run has come to its floor."""

FLOOR = 3
"""A run that missed the target is shown to this many times the steps after which it has settled."""

ROUNDING = 1e-9
"""Relative difference of risks that may be one by rounding and compression."""

DIVERGED = 1e3
"""Times the initial risk from which on a run is not shown."""

ACCURACY: dict[str, Any] = {"tolerance": 1e-6, "precision": 1e-3}
"""As exact as a line can show; under a schedule a tenth of the time that full precision takes."""


def keep_training(
    study: Study, problem: Problem, recipes: Recipes, turn: AbstractContextManager[Any]
) -> None:
    """Store the run of a study's best trial, unless the study has it or searches the batch size.

    What goes wrong here is logged, and takes nothing of the study away.

    Args:
        study: the stored study, with its trials.
        problem: spectrum and batch size.
        recipes: how its optimizer and its schedule are made.
        turn: held while it is written, where others may write the study as well.
    """
    try:
        record = study_record(study)
        trial = lacking(record)
        if trial is None:
            return
        training = training_of(problem, recipes, record.definition, trial)
        with turn:
            note(study, "training", training)
    except Exception:
        logging.getLogger(__name__).exception("%s: no training curve was stored", study.study_name)


def lacking(record: StudyRecord) -> TrialRecord | None:
    """The trial whose run is to be stored; None where it is, or there is none to show."""
    trial = shown_trial(record)
    if trial is None or record.definition.finds_batch_size:
        return None
    return None if record.training is not None and record.training.trial == trial.number else trial


def shown_trial(record: StudyRecord) -> TrialRecord | None:
    """The best trial; where none reached the target, that of the least risk; None if all diverged.

    A run that diverged has been below the initial risk, or there is nothing to show.
    """
    if record.best is not None:
        return record.best
    if record.definition.schedule == "optimal":
        return None  # where none reaches the target there is no schedule
    some = (
        trial
        for trial in record.trials
        # The initial risk itself differs by rounding.
        if trial.status != "diverged" or trial.risk < (1.0 - ROUNDING) * record.initial_risk
    )
    return min(some, key=lambda trial: (trial.risk, trial.number), default=None)


def training_of(
    problem: Problem, recipes: Recipes, definition: StudyDefinition, trial: TrialRecord
) -> Training:
    """The run of a trial.

    At a constant rate it goes to twice the steps to the target. Where the schedule depends on the
    length of the run it is the run itself. A run that missed the target goes on to three times the
    steps after which its risk has settled, and to 10^6 at most.
    """
    if recipes.schedule.computed == "greedy":
        return _greedy(problem, trial)
    optimizer, schedule, end = run_of(problem, recipes, definition, trial)
    steps = _spread(end, trial.steps)
    horizon = end if schedule.needs_horizon else None
    risks = risk_curve(problem, optimizer, schedule, steps=steps, horizon=horizon, **ACCURACY)
    kept = _before_overflow(risks)
    if trial.status == "floor_above_target" and horizon is None:
        kept = min(kept, _to_floor(steps[:kept], risks[:kept]))
    steps = steps[:kept]
    scales = gradient_noise_scale(
        problem, optimizer, schedule, steps=steps, horizon=horizon, **ACCURACY
    )
    found = _training(trial, steps, risks[:kept], scales)
    if trial.steps is None or not definition.batch_settings.get("integer"):
        return found
    settings = {**definition.batch_settings, "integer": False}
    real = replace(definition, batch_settings=settings, optimizer_settings={})
    parts = parts_of_run(problem, recipes, real, trial.hyperparameters)
    crossing = steps_to_target(
        problem, *parts, target=real.target, max_steps=real.max_steps, max_growth=real.max_growth
    )
    return replace(found, unrounded_steps=crossing.steps)


def _training(trial: TrialRecord, steps: Integers, risks: Array, scales: Array) -> Training:
    first, second, third = (tuple(each.tolist()) for each in (steps, risks, scales))
    return Training(trial.number, first, second, third)


def run_of(
    problem: Problem, recipes: Recipes, definition: StudyDefinition, trial: TrialRecord
) -> tuple[Optimizer, Schedule, int]:
    """Optimizer and schedule of a trial's run, and the steps it is shown for."""
    # A trial's beta2 is the one that the policy made.
    made, values = replace(definition, optimizer_settings={}), trial.hyperparameters
    if recipes.schedule.computed == "optimal":
        plain = replace(made, schedule_settings={})
        optimizer, _ = parts_of_run(problem, replace(recipes, schedule=CONSTANT), plain, values)
        # Equal pieces, whose rates are relative to the largest.
        factors = tuple(rate / values["learning_rate"] for _, rate in trial.rates)
        return optimizer, PiecewiseConstant(factors), trial.steps or 0
    optimizer, schedule = parts_of_run(problem, recipes, made, values)
    if trial.steps is None:
        return optimizer, schedule, min(definition.max_steps, MOST_UNREACHED)
    return optimizer, schedule, trial.steps * (1 if schedule.needs_horizon else BEYOND)


def _greedy(problem: Problem, trial: TrialRecord) -> Training:
    """The run of a greedy schedule, whose rates are computed again as it goes."""
    steps = _spread(trial.steps or trial.rates[-1][0] + 1, None)
    power = trial.hyperparameters.get("preconditioner_power", 0.0)
    found = greedy_curve(problem, steps.tolist(), preconditioner_power=power)
    return _training(trial, steps, *found)


def _spread(end: int, crossing: int | None) -> Integers:
    """0, some 60 numbers of steps from 1 to the end, the crossing, and some on the way to it."""
    parts = ((1, POINTS), (max(1, end / 8), LATE_POINTS))
    both = np.concatenate([np.geomspace(first, end, count) for first, count in parts])
    spread = both.round().astype(np.int64)
    near = [] if crossing is None else [crossing - (crossing >> k) for k in range(1, APPROACH + 1)]
    return np.unique([0, *spread.tolist(), *near, *([crossing] if crossing is not None else [])])


def _before_overflow(risks: Array) -> int:
    """The number of risks up to the last that is no divergence."""
    return 1 + int(np.flatnonzero(risks <= DIVERGED * risks[0])[-1])


def _to_floor(steps: Integers, risks: Array) -> int:
    """The number of points that show that a run has come to its floor, at least two."""
    off = np.flatnonzero(np.abs(risks - risks[-1]) > SETTLED * risks[-1])
    settled = int(steps[off[-1] + 1]) if off.size else 1
    return max(2, int(np.searchsorted(steps, FLOOR * settled, side="right")))
