"""The best of a dense search, where no exact optimum is known: Adam, and under a schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nqm_study.model.crossing import steps_to_target
from nqm_study.model.last_risk import last_risk
from nqm_study.model.optimizers import Optimizer
from nqm_study.model.outcome import Crossing
from nqm_study.model.problems.noisy_quadratic import NoisyQuadratic
from nqm_study.model.schedules import Schedule
from nqm_study.optimum.coordinates import Coordinate
from nqm_study.optimum.dense_search import dense_search
from nqm_study.study.definition import StudyDefinition
from nqm_study.study.evaluation import parts_of_run
from nqm_study.study.records import Optimum
from nqm_study.study.registry import set_by_policy
from nqm_study.study.space import SearchSpace

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
