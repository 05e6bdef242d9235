"""The true optimum of what a study searches: the yardstick of every search.

The families and what is free of them are those of studies: a definition and its recipes. What
follows is for the linear ones at a constant rate; for Adam and under schedules, where a risk costs
more and is smooth only nearly, see optimum/dense_search.py, in the study's own ranges.

The fewest steps of a family are the smallest T for which some hyperparameters theta give a risk
L_T(theta) at most the target: the first crossing of theta is then at T or before it, and no theta
crosses earlier. Steps to target, as a function of theta, is made of plateaus and cliffs (a cliff is
where a dip of an oscillating risk just misses the target); L_T(theta) at a given T is smooth. So:

1. Start densely: first crossings over a grid of rates and decays, which spans all that can reach
   the target, each search cut off at a multiple of the best found so far.
2. Descend: from the best point, find the smallest T at which the minimum of L_T over theta is at
   most the target.
3. Look elsewhere: at T - 1, make the grid finer around its points of least risk, minimise from the
   local minima of the finest one (but not where the risk rises around them by less than what is
   missing), and descend from any that reaches the target; until none does.

Points are ranked, and minima placed, on coarse compressions of the spectrum; whether a member
reaches the target, and when, is always said by the search that ``steps_to_target`` is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nqm_study.model.crossing import last_risk, steps_to_target
from nqm_study.model.linear.fewest_steps import Tuning
from nqm_study.model.linear.members import Family
from nqm_study.model.linear.runs import largest_factor
from nqm_study.model.optimizers import SGD, Optimizer
from nqm_study.model.outcome import Crossing
from nqm_study.model.problems.problem import Problem
from nqm_study.model.schedules import Constant, Schedule, ScheduleLike, as_schedule
from nqm_study.optimum.dense_search import (
    MOST_EVALUATIONS,
    Coordinate,
    Scale,
    as_coordinates,
    dense_search,
)
from nqm_study.optimum.study import DECAYS, is_exact
from nqm_study.search.ranges import fit
from nqm_study.study.definition import Choices, Range, StudyDefinition, applying
from nqm_study.study.evaluation import parts_of_run
from nqm_study.study.recipes import CONSTANT, Recipe, Recipes, set_by_policy
from nqm_study.study.space import Search


@dataclass(frozen=True)
class Tuned:
    """The optimum of a family.

    Attributes:
        steps: the fewest steps to the target; None where no member reaches it within max_steps.
        optimizer: a member that takes them; None as well.
        schedule: the schedule under which it does; None as well.
        exact: whether each local optimum is exact to the step, as for SGD's families at a constant
            rate; False: the best of a dense search.
        evaluations: risks and crossings that the dense search computed; None without one.
        complete: False where the dense search was ended by its limit.
        hyperparameters: of both, by name, as a study has them; empty where there are none.
    """

    steps: int | None
    optimizer: Optimizer | None
    schedule: Schedule | None = None
    exact: bool = True
    evaluations: int | None = None
    complete: bool = True
    hyperparameters: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class ShapeFamily:
    """A schedule for every choice of some values.

    ``ShapeFamily(lambda values: Cosine(**values), {"final_fraction": (1e-4, 1.0, "log")})``

    Args:
        make: the values by name -> the schedule; any values within the ranges must do.
        free: the free values: name -> (low, high, scale), as in ``Coordinate``; at least one.

    Raises:
        ValueError: if a range is none, or the values at its ends make no schedule.
    """

    make: Callable[[Mapping[str, float]], Schedule]
    free: Mapping[str, tuple[float, float, Scale]]

    def __post_init__(self) -> None:
        if not callable(self.make):
            raise ValueError(f"make={self.make!r}: must be a function")
        if not isinstance(self.free, Mapping):
            raise ValueError(f"free={self.free!r}: must map names to (low, high, scale)")
        for schedule in self.ends:
            if not isinstance(schedule, Schedule):
                raise ValueError(f"make(...)={schedule!r}: must be a Schedule")

    @property
    def ends(self) -> tuple[Schedule, Schedule]:
        """The schedules with all values at their lows, and at their highs."""
        free = as_coordinates(self.free)
        low, high = (self.make({each.name: each.at(end) for each in free}) for end in (0.0, 1.0))
        return low, high


def under_shape(
    recipes: Recipes, definition: StudyDefinition, shape: ScheduleLike | ShapeFamily
) -> tuple[Recipes, StudyDefinition, float]:
    """A study under a schedule that is given itself, or by the family of its shapes.

    Returns:
        The study's recipes and definition, and the schedule's largest factor.

    Raises:
        ValueError: if it is no schedule, or a free value has the name of a hyperparameter.
    """
    given: dict[str, Any]
    if isinstance(shape, ShapeFamily):
        ends, make = shape.ends, shape.make
        given = {name: Range(*each) for name, each in shape.free.items()}
        recipe = Recipe(lambda **values: make(values))
    else:
        one = as_schedule(shape)
        ends, given, recipe = (one, one), {}, Recipe(lambda: one)
        if isinstance(one, Constant):
            recipe = CONSTANT
            given = {"warmup_fraction": one.warmup_fraction} if one.warmup_fraction else {}
    for name in given:
        if name in recipes.optimizer.names:
            raise ValueError(f"free={name}: must not be a hyperparameter of the optimizer")
    factor = max(min(map(largest_factor, ends)), 1e-30)
    return (
        replace(recipes, schedule=recipe),
        replace(definition, hyperparameters={**definition.hyperparameters, **given}),
        # Samples of a schedule miss its peak by so much.
        factor if abs(factor - 1.0) > 0.01 else 1.0,
    )


def optimum(
    problem: Problem,
    recipes: Recipes,
    definition: StudyDefinition,
    *,
    factor: float = 1.0,
    most_evaluations: int = MOST_EVALUATIONS,
) -> Tuned:
    """The fewest steps over all values of what a study searches.

    Where it is exact it is over all values, also those outside of the ranges searched. Elsewhere it
    is the best of a dense search of the study's ranges.

    Args:
        problem: spectrum and batch size.
        recipes: how its optimizer and its schedule are made.
        definition: the study's, at one batch size.
        factor: rates are given for a schedule whose largest factor is this.
        most_evaluations: a limit on the work of a dense search, >= 1.
    """
    alone = _of_each_choice(definition)
    if len(alone) > 1:
        best = [
            optimum(problem, recipes, each, factor=factor, most_evaluations=most_evaluations)
            for each in alone
        ]
        return min(best, key=lambda each: math.inf if each.steps is None else each.steps)
    exact = is_exact(recipes, definition)
    if problem.spectrum.initial_risk <= definition.target:  # any member will do
        lower = replace(definition, target=0.5 * problem.spectrum.initial_risk)
        search = _search(problem, recipes, lower)
        values = search.space.values(search.starts[0])
        parts = parts_of_run(problem, recipes, definition, values)
        return Tuned(0, *parts, exact, hyperparameters=values)
    if exact:
        found = _exact(problem, recipes.optimizer, definition)
        if found is not None:
            return found
        # The fewest steps of all grow too much, or a class of the user's has no members all over:
        # what is left is searched densely.
    return dense_optimum(problem, recipes, definition, factor, most_evaluations)


def _of_each_choice(definition: StudyDefinition) -> list[StudyDefinition]:
    """The definition with each choice made, and without what then does not apply."""
    given = definition.hyperparameters
    choices = {name: each for name, each in given.items() if isinstance(each, Choices)}
    found: list[StudyDefinition] = []
    for made in itertools.product(*(each.values for each in choices.values())):
        kept = applying(given, {**given, **dict(zip(choices, made, strict=True))})
        own = {n: replace(v, when={}) if isinstance(v, Range) else v for n, v in kept.items()}
        if own not in [each.hyperparameters for each in found]:
            found.append(replace(definition, hyperparameters=own))
    return found


def _exact(problem: Problem, recipe: Recipe, definition: StudyDefinition) -> Tuned | None:
    """The optimum of a linear family.

    None where the loss grows too much on the way to it, and where a class of the user's refuses
    values outside of the ranges that are searched.
    """
    target, most = definition.target, definition.max_steps
    free = next((name for name in DECAYS if name in definition.searched), None)
    family = Family(definition.given, free, None if recipe.make is SGD else recipe)
    try:
        best = Tuning(problem, family, target, most).best()
    except ValueError:
        if not recipe.code:
            raise
        return None
    if best is None:
        return Tuned(None, None)
    steps, point = best
    member = family.optimizer(point)
    run = steps_to_target(
        problem, member, target=target, max_steps=steps, max_growth=definition.max_growth
    )
    if run.status == "diverged":
        return None
    found = family.values(point)
    values = {name: found[name] for name in definition.hyperparameters}
    return Tuned(steps, member, Constant(), hyperparameters=values)


def dense_optimum(
    problem: Problem,
    recipes: Recipes,
    definition: StudyDefinition,
    factor: float = 1.0,
    most_evaluations: int = MOST_EVALUATIONS,
) -> Tuned:
    """The fewest steps found in a study's ranges, from its first trials on."""
    search = _search(problem, recipes, definition)

    def values_at(coordinates: Mapping[str, float]) -> dict[str, Any]:
        values = search.space.values(coordinates)
        return {**values, "learning_rate": values["learning_rate"] / factor}

    def run(coordinates: Mapping[str, float]) -> tuple[Optimizer, Schedule]:
        return parts_of_run(problem, recipes, definition, values_at(coordinates))

    def evaluate(coordinates: Mapping[str, float], max_steps: int) -> Crossing:
        return steps_to_target(
            problem, *run(coordinates), target=definition.target, max_steps=max_steps,
            max_growth=definition.max_growth,
        )  # fmt: skip

    found = dense_search(
        evaluate,
        [
            Coordinate(each.name, each.low, each.high, "log" if each.log else "linear")
            for each in search.space.coordinates
        ],
        target=definition.target,
        risk=lambda coordinates, steps: last_risk(problem, *run(coordinates), steps),
        starts=search.starts,
        max_steps=definition.max_steps,
        most_evaluations=most_evaluations,
    )
    work = found.evaluations + found.looks
    if found.steps is None or found.values is None:
        return Tuned(None, None, None, False, work, found.complete)
    values = values_at(found.values)
    values |= set_by_policy(values, definition.optimizer_settings, problem.batch_size)
    return Tuned(found.steps, *run(found.values), False, work, found.complete, values)


def _search(problem: Problem, recipes: Recipes, definition: StudyDefinition) -> Search:
    """The study's search space, and the first trials in it, whatever its sampler."""
    return fit(problem, recipes, replace(definition, warm_start=True, sampler={"name": "random"}))
