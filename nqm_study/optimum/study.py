"""The true optimum of what a study searches, which its steps are compared with.

The configuration asks for its types, so that what computes is imported when it is used.
"""

from __future__ import annotations

import itertools
import logging
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from nqm_study.model.optimizers import SGD
from nqm_study.model.problems.problem import Problem
from nqm_study.study.definition import Range, Searched, StudyDefinition
from nqm_study.study.recipes import Recipe, Recipes
from nqm_study.study.records import Optimum

if TYPE_CHECKING:
    from nqm_study.search.pace import Pace

Truth = bool | Literal["all"]
"""Which optima are computed beside a study: none, those that take seconds, or all."""

MOST_SEARCHED = 4
"""The most hyperparameters of a linear optimizer that a dense search of seconds is over."""

DECAYS = ("momentum", "ema_decay")
"""What may be free beside the rate where the optimum is exact, one of them."""


def can_be_found(definition: StudyDefinition) -> bool:
    """Whether what applies is decided by what is fixed and by choices, which are looked at each."""
    given = definition.hyperparameters
    searched = [each for each in given.values() if isinstance(each, Searched)]
    return not any(isinstance(given[name], Range) for each in searched for name in each.when)


def is_exact(recipes: Recipes, definition: StudyDefinition) -> bool:
    """Whether the optimum is exact: at a constant rate, with at most one decay free.

    The optimizer is SGD in one of its forms, or another one whose rule moves as these do.
    """
    free = set(definition.searched) - {"learning_rate"}
    return (
        not definition.problem  # the noise does not depend on the weights
        and recipes.constant
        and "warmup_fraction" not in definition.hyperparameters
        and "learning_rate" in definition.searched
        and len(free) <= 1
        and free <= {*DECAYS}
        and _moves_as_sgd(recipes.optimizer, definition, *free)
    )


def _moves_as_sgd(recipe: Recipe, definition: StudyDefinition, decay: str = "") -> bool:
    if recipe.make is SGD:
        return True
    return has_rule(recipe, definition) and pace_of(recipe, definition).as_sgd(decay)


def has_rule(recipe: Recipe, definition: StudyDefinition) -> bool:
    """Whether a linear optimizer is known by one rule, the same at each step but for the rate."""
    return not recipe.adaptive and pace_of(recipe, definition).constant


def pace_of(recipe: Recipe, definition: StudyDefinition) -> Pace:
    """The pace of a study's optimizer."""
    from nqm_study.search.pace import Pace

    return Pace(recipe, definition.hyperparameters)


def wanted(truth: Truth, recipes: Recipes, definition: StudyDefinition) -> bool:
    """Whether the optimum of a study is to be computed."""
    if not definition.searched or recipes.schedule.computed or not _is_of_steps(definition):
        return False
    if truth == "all":
        return can_be_found(definition)
    # In seconds: Adam's risk takes longer, and more coordinates, or schedules of the user's, do.
    free = [definition.hyperparameters[name] for name in definition.searched]
    ranges = len(free) <= MOST_SEARCHED and all(isinstance(each, Range) for each in free)
    quick = truth and ranges and not recipes.schedule.code
    if definition.problem and (len(free) > 1 or not recipes.constant):
        return False  # a run whose noise follows the loss is stepped through, or cut into stretches
    return quick and has_rule(recipes.optimizer, definition)


def _is_of_steps(definition: StudyDefinition) -> bool:
    """Whether the fewest steps are the optimum: with equal steps they take the least time too."""
    equal = not definition.finds_batch_size and not definition.batch_schedule
    return equal or not definition.objective


def true_optimum(problem: Problem, recipes: Recipes, definition: StudyDefinition) -> Optimum | None:
    """The fewest steps over all values of what a study searches; None where none reach the target.

    Studies that differ in their seeds or samplers share it. ``nqm.tuned`` is the same search. What
    a class of the user's raises in it is logged, and leaves the optimum unknown.
    """
    key = problem, definition.benchmark
    if key not in _FOUND:
        from nqm_study.optimum.tuned import optimum

        _FOUND[key] = None
        try:
            found = optimum(problem, recipes, definition)
        except Exception:
            if not (recipes.optimizer.code or recipes.schedule.code):
                raise
            # As in a trial, where what a user's class raises ends no study.
            log = logging.getLogger(__name__)
            log.exception("%s: no true optimum was found", definition.default_name)
            return None
        if found.steps is not None:
            _FOUND[key] = Optimum(found.steps, found.hyperparameters, exact=found.exact)
    return _FOUND[key]


_FOUND: dict[tuple[Problem, str], Optimum | None] = {}


def frontier_wanted(truth: Truth, recipes: Recipes, definition: StudyDefinition) -> bool:
    """Whether the exact frontier of a study that searches the batch size is to be computed."""
    return bool(truth) and is_exact(recipes, definition)


def true_frontier(
    problem: Problem, recipes: Recipes, definition: StudyDefinition
) -> tuple[tuple[float, int], ...]:
    """The fewest steps at batch sizes across a range, as (batch size, steps).

    They are the powers of 2^(1/2). With a decay besides the rate they are those of 4: an optimum
    then takes seconds, and not a twentieth of one.
    """
    from nqm_study.search.ranges import sizes_across

    sizes = definition.batch_size
    if not isinstance(sizes, Range):
        raise NotImplementedError
    across = sizes_across(sizes)
    if len(definition.searched) > 1:
        across = [*across[:-1:2], across[-1]]
    else:
        between = (round(math.sqrt(low * high)) for low, high in itertools.pairwise(across))
        across = sorted({*across, *between})
    found = []
    for size in map(float, across):
        alone = replace(definition, batch_size=size)
        each = true_optimum(replace(problem, batch_size=size), recipes, alone)
        found += [(size, each.steps)] if each is not None else []
    return tuple(found)
