"""The computation of a study's trials, and of the facts that their steps are compared with."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from nqm_study.model.crossing import require_run, risk_curve, steps_to_target
from nqm_study.model.linear.stability import stability_limit
from nqm_study.model.optimizers import SGD, Optimizer
from nqm_study.model.outcome import MOST_STEPS, Crossing
from nqm_study.model.problems.bounds import bayes_bound, classical_bound
from nqm_study.model.problems.least_squares import interpolation_batch_size
from nqm_study.model.problems.problem import Problem
from nqm_study.model.schedules import Batched, BatchSchedule, Schedule, as_steps
from nqm_study.model.schedules.computed.greedy import LONGEST as GREEDY_LONGEST, greedy_schedule
from nqm_study.model.schedules.computed.optimal import (
    LONGEST as OPTIMAL_LONGEST,
    NotReachedError,
    OptimalSchedule,
    TooManyPiecesError,
    optimal_schedule,
)
from nqm_study.study.definition import BATCH, BATCH_SIZE, StudyDefinition, Value
from nqm_study.study.machine import step_time
from nqm_study.study.recipes import Recipe, Recipes, set_by_policy
from nqm_study.study.trials import Evaluate, Evaluation

MOST_SIZE = 2.0**53
"""A batch size at which noise is next to none, and the largest that is looked for."""

BOUNDS = ("min", "max", "integer")
"""What makes factors of batch sizes depend on their mean."""

HIGH = 1e300
"""A risk above this counts as this much."""


def evaluation(problem: Problem, recipes: Recipes, definition: StudyDefinition) -> Evaluate:
    """The function from a trial's hyperparameters to its result.

    Args:
        problem: spectrum and batch size; where that is searched, it is the trial's instead.
        recipes: how its optimizer and its schedule are made.
        definition: the study's.
    """
    if definition.searches_batch_size:
        return functools.partial(_of_its_size, problem, recipes, definition)
    if definition.objective == "examples":
        return functools.partial(_fewest_examples, problem, recipes, definition)
    if recipes.schedule.computed == "optimal":
        return functools.partial(_optimal, problem, definition)
    if recipes.schedule.computed == "greedy":
        return functools.partial(_greedy, problem, definition)
    return functools.partial(_family, problem, recipes, definition)


def facts(problem: Problem, definition: StudyDefinition) -> dict[str, float | None]:
    """Compute what a study's steps are compared with, whatever its optimizer.

    Where the batch size is searched, they are those of the largest, where the fewest steps are;
    where each trial has its own, of the least that any algorithm needs.
    """
    target = definition.target
    known: dict[str, float | None] = {
        # No run is longer, and databases hold no larger integer.
        "bayes_bound": min(bayes_bound(problem, target=target), MOST_STEPS),
        "initial_risk": problem.spectrum.initial_risk,
    }
    if definition.finds_batch_size:
        return known
    classical = classical_bound(problem, target=target)
    optimal_steps = optimal_gap = None
    if not problem.follows_loss:  # where it does, no schedule is known to be optimal
        with contextlib.suppress(NotReachedError):
            found = _fewest(problem, target=target, max_steps=definition.max_steps, pieces=None)
            optimal_steps, optimal_gap = found.steps, found.gap
    if problem.follows_loss:
        known["stability_limit"] = stability_limit(problem, SGD(1.0))
        known["interpolation_batch_size"] = interpolation_batch_size(problem)
    return {
        **known,
        # JSON has no infinity.
        "classical_bound": classical if math.isfinite(classical) else None,
        "optimal_steps": optimal_steps,
        "optimal_gap": optimal_gap,
    }


def _of_its_size(
    problem: Problem,
    recipes: Recipes,
    definition: StudyDefinition,
    values: Mapping[str, float],
) -> Evaluation:
    """An evaluation at the batch size that is among the values."""
    others = dict(values)
    size = others.pop(BATCH_SIZE)
    alone = replace(definition, batch_size=size)
    return evaluation(replace(problem, batch_size=size), recipes, alone)(others)


def _fewest_examples(
    problem: Problem,
    recipes: Recipes,
    definition: StudyDefinition,
    values: Mapping[str, float],
) -> Evaluation:
    """The least batch size with which a run of given length ends at the target.

    The last risk of a linear optimizer is S + N / B, so that it is B = N / (C - S) at the target C.
    That of Adam, and of batch sizes that are bounded or rounded, is looked for; Adam's risk is its
    closure's.

    Args:
        problem: the spectrum, and a batch size with which no algorithm gets below the target.
        recipes: how the optimizer and the schedules are made.
        definition: the study's.
        values: hyperparameters in the user's units.
    """
    steps, target = int(definition.objective_settings["steps"]), definition.target
    bounds = definition.batch_settings

    def risk(size: float, max_growth: float | None = None) -> float:
        each = replace(problem, batch_size=size)
        parts = parts_of_run(each, recipes, definition, values)
        found = risk_curve(each, *parts, steps=[steps], horizon=steps, max_growth=max_growth)
        return float(found[0]) if math.isfinite(found[0]) else math.inf

    least, most = float(bounds.get("min", 0.0)), float(bounds.get("max", MOST_SIZE))
    low = max(least, problem.batch_size)
    floor, size = risk(most), 0.0
    # By a policy of beta2 a larger batch need not bring a lower risk.
    if low <= most and (floor < target or definition.optimizer_settings):
        first = risk(low)
        if first <= target:
            size = low
        elif recipes.optimizer.adaptive or any(bounds.get(name) for name in BOUNDS):
            size = _crossed(risk, target, low, most)
        else:
            noise = (first - floor) / (1.0 / low - 1.0 / most)
            size = noise / (target - (floor - noise / most))
    last = risk(size or most, definition.max_growth)
    if math.isinf(last):
        return Evaluation(Crossing(None, "diverged", risk(size or most)))
    if not size:
        return Evaluation(Crossing(None, "floor_above_target", floor))
    alone = replace(problem, batch_size=size)
    found = {BATCH_SIZE: size, **set_by_policy(values, definition.optimizer_settings, size)}
    _, schedule = parts_of_run(alone, recipes, definition, values)
    examples = schedule.examples(steps) if isinstance(schedule, Batched) else steps * size
    return Evaluation(Crossing(steps, "reached", last), found, examples=examples)


def _crossed(risk: Callable[[float], float], target: float, low: float, most: float) -> float:
    """The first batch size, going up, with which the risk is at the target; 0 for none.

    Args:
        risk: of a batch size.
        target: what is to be reached.
        low: a batch size that does not reach it.
        most: the largest that is looked at.
    """
    from scipy.optimize import brentq

    def excess(logarithm: float) -> float:
        return math.log(min(risk(math.exp(logarithm)), HIGH) / target)

    high = min(4.0 * low, most)
    while risk(high) > target:
        if high >= most:
            return 0.0
        low, high = high, min(4.0 * high, most)
    size = math.exp(brentq(excess, math.log(low), math.log(high), xtol=1e-10))
    step = 1e-10
    while size < high and risk(size) > target:  # rounded batch sizes jump over it
        size, step = min(size * (1.0 + step), high), 2.0 * step
    return min(size, high)


def _family(
    problem: Problem,
    recipes: Recipes,
    definition: StudyDefinition,
    values: Mapping[str, float],
) -> Evaluation:
    optimizer, schedule = parts_of_run(problem, recipes, definition, values)
    crossing = steps_to_target(
        problem,
        optimizer,
        schedule,
        target=definition.target,
        max_steps=definition.max_steps,
        max_growth=definition.max_growth,
    )
    found = set_by_policy(values, definition.optimizer_settings, problem.batch_size)
    return _with_costs(Evaluation(crossing, found), problem, definition, schedule)


def _with_costs(
    found: Evaluation,
    problem: Problem,
    definition: StudyDefinition,
    schedule: Schedule | None = None,
) -> Evaluation:
    """The result with what a run costs beside its steps: examples where they change, and time.

    Args:
        found: the result of a trial.
        problem: spectrum and batch size.
        definition: the study's.
        schedule: that of the run, if its batch sizes may change.
    """
    steps = found.crossing.steps
    if not steps:
        return found
    timed, time = definition.objective == "time", None
    if isinstance(schedule, Batched):
        time = schedule.total(steps, functools.partial(step_time, definition)) if timed else None
        return replace(found, examples=schedule.examples(steps), time=time)
    if timed:
        time = steps * float(step_time(definition, np.asarray(problem.batch_size)))
    return replace(found, time=time)


def parts_of_run(
    problem: Problem,
    recipes: Recipes,
    definition: StudyDefinition,
    values: Mapping[str, float],
) -> tuple[Optimizer, Schedule]:
    """The optimizer and the schedule of a trial, unless the schedule is a computed one."""
    shape: dict[str, Value] = dict(values)
    shape |= set_by_policy(values, definition.optimizer_settings, problem.batch_size)
    own = {n: shape.pop(n) for n in recipes.optimizer.names if n in shape}
    batches = _batches(recipes.batch_schedule, definition, shape)
    schedule = as_steps(recipes.schedule({**shape, **definition.schedule_settings}))
    optimizer = recipes.optimizer(own)
    if recipes.optimizer.code and not recipes.optimizer.adaptive:
        rows = optimizer.rows(np.ones(1))
        if any(np.any(np.isnan(each)) for each in (rows.drift, rows.gain, rows.point)):
            raise ValueError(f"{optimizer}: has coefficients that are not numbers")
    return optimizer, require_run(problem, optimizer, schedule, batches)


def _batches(
    recipe: Recipe | None, definition: StudyDefinition, shape: dict[str, Value]
) -> BatchSchedule | None:
    """The batch schedule of a trial, whose hyperparameters are taken out of all of them."""
    if recipe is None:
        return None
    own = {name: shape.pop(f"{BATCH}{name}") for name in recipe.names if f"{BATCH}{name}" in shape}
    made: BatchSchedule = recipe({**own, **definition.batch_settings})
    return made


def _optimal(
    problem: Problem, definition: StudyDefinition, values: Mapping[str, float]
) -> Evaluation:
    try:
        found = _fewest(
            problem,
            target=definition.target,
            max_steps=definition.max_steps,
            **{**definition.schedule_settings, **values},
        )
    except NotReachedError as error:
        return Evaluation(Crossing(None, "max_steps", error.risk))
    rates = found.learning_rates.tolist()
    crossing = Crossing(found.steps, "reached", found.risk, found.error)
    optimizer = SGD(found.peak_learning_rate, **values)  # type: ignore[arg-type]  # nesterov is a bool
    end = risk_curve(
        problem,
        optimizer,
        found.schedule,
        steps=[found.steps],
        horizon=found.steps,
        max_growth=definition.max_growth,
    )
    if math.isinf(end[0]):
        crossing = replace(crossing, steps=None, status="diverged")
    pairs = tuple(zip((0, *found.boundaries.tolist()), rates, strict=True))
    result = Evaluation(crossing, {"learning_rate": max(rates)}, pairs)
    return _with_costs(result, problem, definition)


@functools.lru_cache(maxsize=32)
def _fewest(
    problem: Problem,
    *,
    target: float,
    max_steps: int,
    pieces: int | None,
    **options: float,
) -> OptimalSchedule:
    """The optimal schedule, of as many pieces as steps where the target needs fewer than pieces.

    The studies of a call share what they are compared with, so it is kept, under the arguments in
    the order they are given.

    Raises:
        NotReachedError: where no schedule reaches the target within ``max_steps``.
    """
    while True:
        try:
            return optimal_schedule(  # type: ignore[call-overload, no-any-return]  # nesterov is a bool
                problem,
                target=target,
                max_steps=min(max_steps, OPTIMAL_LONGEST),
                pieces=pieces,
                **options,
            )
        except TooManyPiecesError as error:
            pieces = error.steps


def _greedy(
    problem: Problem, definition: StudyDefinition, values: Mapping[str, float]
) -> Evaluation:
    found = greedy_schedule(
        problem,
        target=definition.target,
        max_steps=min(definition.max_steps, GREEDY_LONGEST),
        preconditioner_power=values.get("preconditioner_power", 0.0),
    )
    rates = tuple(zip(found.at_steps.tolist(), found.learning_rates.tolist(), strict=True))
    largest = {"learning_rate": max(rate for _, rate in rates)} if rates else {}
    crossing = Crossing(found.steps, found.status, found.risk, found.error)
    return _with_costs(Evaluation(crossing, largest, rates), problem, definition)
