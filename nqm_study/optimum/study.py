"""The true optimum of what a study searches, which its steps are compared with."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from nqm_study.model.crossing import last_risk, steps_to_target
from nqm_study.model.optimizers import Optimizer
from nqm_study.model.outcome import Crossing
from nqm_study.model.problems.noisy_quadratic import NoisyQuadratic
from nqm_study.model.schedules import Schedule
from nqm_study.optimum.dense_search import Coordinate, dense_search
from nqm_study.optimum.tuned import Tuned, tuned
from nqm_study.search.batch_sizes import sizes_across
from nqm_study.study.definition import Range, StudyDefinition
from nqm_study.study.evaluation import parts_of_run
from nqm_study.study.records import Optimum
from nqm_study.study.registry import COMPUTED, set_by_policy
from nqm_study.study.space import SearchSpace

Truth = bool | Literal["all"]
"""Which optima are computed beside a study: none, those that are exact, or all."""

DECAYS = {"momentum": "momentum", "ema_decay": "ema"}
"""The families by what is searched beside the rate."""


def wanted(truth: Truth, algorithm: str, definition: StudyDefinition) -> bool:
    """Whether the optimum of a study is to be computed."""
    if not definition.searched or definition.schedule in COMPUTED:
        return False
    return truth == "all" or (truth and _is_linear(algorithm, definition))


def true_optimum(
    problem: NoisyQuadratic,
    algorithm: str,
    definition: StudyDefinition,
    space: SearchSpace,
) -> Optimum | None:
    """The fewest steps over all values of what a study searches; None where none reach the target.

    Of the linear optimizers at a constant rate it is exact, and over all values, also those outside
    of the ranges searched. Elsewhere it is the best of a dense search of the ranges.
    """
    if _is_linear(algorithm, definition):
        return _exact(problem, definition)
    return dense_optimum(problem, algorithm, definition, space)


def _exact(problem: NoisyQuadratic, definition: StudyDefinition) -> Optimum | None:
    hyperparameters = definition.hyperparameters
    fixed = {name: v for name, v in hyperparameters.items() if not isinstance(v, Range)}
    decays = [name for name in definition.searched if name != "learning_rate"]
    family = DECAYS[decays[0]] if decays else "sgd"
    found = _tuned(
        problem,
        family,
        definition.target,
        definition.max_steps,
        definition.max_growth,
        tuple(sorted(fixed.items())),
    )
    if found.steps is None or found.optimizer is None:
        return None
    values = {name: float(getattr(found.optimizer, name)) for name in hyperparameters}
    return Optimum(found.steps, values, exact=found.exact)


def frontier_wanted(truth: Truth, algorithm: str, definition: StudyDefinition) -> bool:
    """Whether the exact frontier of a study that searches the batch size is to be computed."""
    return bool(truth) and _is_linear(algorithm, definition)


def true_frontier(
    problem: NoisyQuadratic, definition: StudyDefinition
) -> tuple[tuple[float, int], ...]:
    """The fewest steps at batch sizes across a range, as (batch size, steps).

    They are the powers of 2^(1/2). With a decay besides the rate they are those of 4: an optimum
    then takes seconds, and not a twentieth of one.
    """
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
def _tuned(
    problem: NoisyQuadratic,
    family: str,
    target: float,
    max_steps: int,
    max_growth: float | None,
    fixed: tuple[tuple[str, float], ...],
) -> Tuned:
    # Studies that differ in their seeds or samplers share it.
    held: dict[str, Any] = dict(fixed)
    return tuned(problem, family, target=target, max_steps=max_steps, max_growth=max_growth, **held)


def _is_linear(algorithm: str, definition: StudyDefinition) -> bool:
    """Whether ``tuned`` gives the optimum exactly."""
    searched = set(definition.searched)
    return (
        algorithm == "SGD"
        and definition.schedule == "constant"
        and "warmup_fraction" not in definition.hyperparameters
        and "learning_rate" in searched
        and searched - {"learning_rate"} in ({"momentum"}, {"ema_decay"}, set())
    )


_FOUND: dict[tuple[NoisyQuadratic, str, int], Optimum | None] = {}
"""What was found: studies that differ in their seeds or samplers share it."""


def dense_optimum(
    problem: NoisyQuadratic, algorithm: str, definition: StudyDefinition, space: SearchSpace
) -> Optimum | None:
    """The fewest steps found in a study's own ranges; None where no point reaches the target."""
    key = problem, definition.benchmark, definition.max_steps
    if key not in _FOUND:
        _FOUND[key] = _Ranges(problem, algorithm, definition, space).optimum()
    return _FOUND[key]


@dataclass(frozen=True)
class _Ranges:
    """A study's own ranges, as a dense search asks for points of them."""

    problem: NoisyQuadratic
    algorithm: str
    definition: StudyDefinition
    space: SearchSpace

    def optimum(self) -> Optimum | None:
        """The best of the search; None where no point reaches the target."""
        boxes = [
            Coordinate(each.name, each.low, each.high, "log" if each.log else "linear")
            for each in self.space.coordinates
        ]
        found = dense_search(
            self._evaluate,
            boxes,
            target=self.definition.target,
            risk=self._risk,
            max_steps=self.definition.max_steps,
        )
        if found.steps is None or found.values is None:
            return None
        values = self.space.values(found.values)
        made = self.definition
        actual = set_by_policy(values, made.optimizer_settings, self.problem.batch_size)
        return Optimum(found.steps, {**values, **actual}, exact=False)

    def _run(self, coordinates: Mapping[str, float]) -> tuple[Optimizer, Schedule]:
        values = self.space.values(coordinates)
        return parts_of_run(self.problem, self.algorithm, self.definition, values)

    def _evaluate(self, coordinates: Mapping[str, float], max_steps: int) -> Crossing:
        run = self._run(coordinates)
        made = self.definition
        return steps_to_target(
            self.problem,
            *run,
            target=made.target,
            max_steps=max_steps,
            max_growth=made.max_growth,
        )

    def _risk(self, coordinates: Mapping[str, float], steps: int) -> float:
        return last_risk(self.problem, *self._run(coordinates), steps)
