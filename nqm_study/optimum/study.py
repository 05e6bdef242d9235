"""The true optimum of what a study searches, which its steps are compared with.

The configuration asks for its types, so that what computes is imported when it is used.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from nqm_study.model.optimizers import SGD
from nqm_study.model.problems.noisy_quadratic import NoisyQuadratic
from nqm_study.model.schedules import Constant
from nqm_study.study.definition import Range, StudyDefinition
from nqm_study.study.recipes import Recipes, set_by_policy
from nqm_study.study.records import Optimum

if TYPE_CHECKING:
    from nqm_study.optimum.tuned import Tuned
    from nqm_study.study.space import SearchSpace

Truth = bool | Literal["all"]
"""Which optima are computed beside a study: none, those that are exact, or all."""

DECAYS = {"momentum": "momentum", "ema_decay": "ema"}
"""The families by what is searched beside the rate."""


def wanted(truth: Truth, recipes: Recipes, definition: StudyDefinition) -> bool:
    """Whether the optimum of a study is to be computed."""
    if not definition.searched or recipes.schedule.computed:
        return False
    return truth == "all" or (truth and _is_linear(recipes, definition))


def true_optimum(
    problem: NoisyQuadratic, recipes: Recipes, definition: StudyDefinition, space: SearchSpace
) -> Optimum | None:
    """The fewest steps over all values of what a study searches; None where none reach the target.

    Of the linear optimizers at a constant rate it is exact, and over all values, also those outside
    of the ranges searched. Elsewhere it is the best of a dense search of the ranges.
    """
    if _is_linear(recipes, definition):
        return _exact(problem, definition)
    return _dense(problem, recipes, definition, space)


def _exact(problem: NoisyQuadratic, definition: StudyDefinition) -> Optimum | None:
    """The optimum of a linear family over all values; None where none reach the target."""
    hyperparameters = definition.hyperparameters
    fixed = definition.given
    decays = [name for name in definition.searched if name != "learning_rate"]
    family = DECAYS[decays[0]] if decays else "sgd"
    found = _tuned(
        problem, family, target=definition.target, max_steps=definition.max_steps,
        max_growth=definition.max_growth, **dict(sorted(fixed.items())),
    )  # fmt: skip
    if found.steps is None or found.optimizer is None:
        return None
    values = {name: float(getattr(found.optimizer, name)) for name in hyperparameters}
    return Optimum(found.steps, values, exact=found.exact)


def frontier_wanted(truth: Truth, recipes: Recipes, definition: StudyDefinition) -> bool:
    """Whether the exact frontier of a study that searches the batch size is to be computed."""
    return bool(truth) and _is_linear(recipes, definition)


def true_frontier(
    problem: NoisyQuadratic, definition: StudyDefinition
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
    found = ((size, _exact(replace(problem, batch_size=size), definition)) for size in across)
    return tuple((float(size), each.steps) for size, each in found if each is not None)


@functools.lru_cache(maxsize=256)
def _tuned(*family: Any, **held: Any) -> Tuned:
    """The optimum of a family; studies that differ in their seeds or samplers share it."""
    from nqm_study.optimum.tuned import tuned

    return tuned(*family, **held)


def _is_linear(recipes: Recipes, definition: StudyDefinition) -> bool:
    """Whether ``tuned`` gives the optimum exactly."""
    searched = set(definition.searched)
    return (
        recipes.optimizer.make is SGD
        and recipes.schedule.make is Constant
        and "warmup_fraction" not in definition.hyperparameters
        and "learning_rate" in searched
        and searched - {"learning_rate"} in ({"momentum"}, {"ema_decay"}, set())
    )


_FOUND: dict[tuple[NoisyQuadratic, str, int], Optimum | None] = {}
"""Optima of dense searches, which such studies share as well."""


def _dense(
    problem: NoisyQuadratic, recipes: Recipes, made: StudyDefinition, space: SearchSpace
) -> Optimum | None:
    """The fewest steps found in a study's own ranges; None where no point reaches the target."""
    from nqm_study.optimum.dense_search import Coordinate
    from nqm_study.optimum.families import search_runs
    from nqm_study.study.evaluation import parts_of_run

    key = problem, made.benchmark, made.max_steps
    if key not in _FOUND:
        found = search_runs(
            problem,
            lambda values: parts_of_run(problem, recipes, made, space.values(values)),
            [
                Coordinate(each.name, each.low, each.high, "log" if each.log else "linear")
                for each in space.coordinates
            ],
            target=made.target,
            max_steps=made.max_steps,
            max_growth=made.max_growth,
        )
        _FOUND[key] = None
        if found.steps is not None and found.values is not None:
            values = space.values(found.values)
            actual = set_by_policy(values, made.optimizer_settings, problem.batch_size)
            _FOUND[key] = Optimum(found.steps, {**values, **actual}, exact=False)
    return _FOUND[key]
