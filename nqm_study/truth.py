"""The true optimum of what a study searches, which its steps are compared with."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nqm_study.checks import typed
from nqm_study.evaluations import parts_of_run
from nqm_study.model.coordinates import Coordinate
from nqm_study.model.crossing import steps_to_target
from nqm_study.model.dense_search import dense_search
from nqm_study.model.last_risk import last_risk
from nqm_study.model.optimizers import Optimizer
from nqm_study.model.outcome import Crossing
from nqm_study.model.problem import NoisyQuadratic
from nqm_study.model.schedules import Schedule
from nqm_study.model.tuned import Tuned, tuned
from nqm_study.schedule_parts import COMPUTED
from nqm_study.study.definition import Range, StudyDefinition
from nqm_study.study.records import Optimum
from nqm_study.study.space import SearchSpace

Truth = bool | Literal["all"]
"""Which optima are computed: none, those that are exact, or all."""

DECAYS = {"momentum": "momentum", "ema_decay": "ema"}
"""The families by what is searched beside the rate."""


def truth_of(key: str, value: object) -> Truth:
    """The value, if it says which optima are computed; else a ValueError."""
    if isinstance(value, bool):
        return value
    if value == "all":
        return "all"
    raise ValueError(f"{key}={typed(value)}: must be true, false or all")


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
    if not _is_linear(algorithm, definition):
        return _Dense(problem, algorithm, definition, space).optimum()
    hyperparameters = definition.hyperparameters
    fixed = {name: v for name, v in hyperparameters.items() if not isinstance(v, Range)}
    decays = [name for name in definition.searched if name != "learning_rate"]
    family = DECAYS[decays[0]] if decays else "sgd"
    found = _tuned(
        problem, family, definition.target, definition.max_steps, tuple(sorted(fixed.items()))
    )
    if found.steps is None or found.optimizer is None:
        return None
    values = {name: float(getattr(found.optimizer, name)) for name in hyperparameters}
    return Optimum(found.steps, values)


@functools.lru_cache(maxsize=64)
def _tuned(
    problem: NoisyQuadratic,
    family: str,
    target: float,
    max_steps: int,
    fixed: tuple[tuple[str, float], ...],
) -> Tuned:
    # Studies that differ in their seeds or samplers share it.
    held: dict[str, Any] = dict(fixed)
    return tuned(problem, family, target=target, max_steps=max_steps, **held)


@dataclass(frozen=True)
class _Dense:
    """A dense search of a study's own ranges."""

    problem: NoisyQuadratic
    algorithm: str
    definition: StudyDefinition
    space: SearchSpace

    def optimum(self) -> Optimum | None:
        """The best found; one search serves studies that differ in seed or sampler only."""
        made = self.definition
        key = self.problem, made.benchmark, made.batch_size, made.max_steps
        if key not in _FOUND:
            _FOUND[key] = self._search()
        return _FOUND[key]

    def _search(self) -> Optimum | None:
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
        return Optimum(found.steps, self.space.values(found.values), exact=False)

    def _run(self, coordinates: Mapping[str, float]) -> tuple[Optimizer, Schedule]:
        values = self.space.values(coordinates)
        return parts_of_run(self.problem, self.algorithm, self.definition, values)

    def _evaluate(self, coordinates: Mapping[str, float], max_steps: int) -> Crossing:
        run = self._run(coordinates)
        return steps_to_target(
            self.problem, *run, target=self.definition.target, max_steps=max_steps
        )

    def _risk(self, coordinates: Mapping[str, float], steps: int) -> float:
        return last_risk(self.problem, *self._run(coordinates), steps)


_FOUND: dict[tuple[NoisyQuadratic, str, float, int], Optimum | None] = {}


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
