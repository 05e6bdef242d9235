"""What a dense search for the optimum of a family searches, and what it evaluates."""

from __future__ import annotations

import math
from collections.abc import Mapping

from nqm_study.model.crossing import steps_to_target
from nqm_study.model.last_risk import last_risk
from nqm_study.model.linear.families import Family
from nqm_study.model.linear.fewest_steps import GAP, HIGHER, MEMORY, SLOWER, Tuning, largest_rate
from nqm_study.model.linear.members import LEAST_LOG_GAP
from nqm_study.model.linear.runs import largest_factor
from nqm_study.model.linear.stability import largest_peak
from nqm_study.model.optimizers import Optimizer
from nqm_study.model.outcome import Crossing
from nqm_study.model.problems.noisy_quadratic import NoisyQuadratic
from nqm_study.model.schedules import Constant, Schedule
from nqm_study.optimum.adam_families import AdamFamily
from nqm_study.optimum.coordinates import Coordinate, Scale
from nqm_study.optimum.dense_search import Optimum, dense_search
from nqm_study.optimum.shape_family import ShapeFamily

RATE, DECAY, SHAPE = "rate", "decay", "shape."
"""Names of the coordinates of a linear family, and what those of a shape begin with."""

SCHEDULED = 2.0
"""Under a schedule rates go so much further up and down than at a constant rate."""


class DenseTuning:
    """One search: its coordinates, and the members at their values."""

    def __init__(
        self,
        problem: NoisyQuadratic,
        members: Family | AdamFamily,
        schedule: Schedule | ShapeFamily,
        target: float,
        max_growth: float | None,
    ) -> None:
        self._problem, self._members, self._schedule = problem, members, schedule
        self._target, self._max_growth = target, max_growth
        ends = schedule.ends if isinstance(schedule, ShapeFamily) else (schedule,)
        self._factor = max(min(largest_factor(each) for each in ends), 1e-30)
        self._bottom = 0.0

    def best(self, max_steps: int, most_evaluations: int) -> Optimum | None:
        """The best that is found; None where no rate reaches the target."""
        members, schedule = self._members, self._schedule
        if isinstance(members, AdamFamily):
            coordinates = members.coordinates(self._problem, self._target, self._factor)
        else:
            linear = self._linear(members)
            if linear is None:
                return None
            coordinates = linear
        if isinstance(schedule, ShapeFamily):
            shape: Mapping[str, tuple[float, float, Scale]] = schedule.free
            coordinates += tuple(Coordinate(SHAPE + name, *shape[name]) for name in shape)
        return dense_search(
            self._evaluate,
            coordinates,
            target=self._target,
            risk=self._risk,
            max_steps=max_steps,
            most_evaluations=most_evaluations,
        )

    def optimizer(self, values: Mapping[str, float]) -> Optimizer:
        """The member at these values."""
        members = self._members
        if isinstance(members, AdamFamily):
            return members.optimizer(values)
        log_gap = math.log1p(-values[DECAY]) if members.decay else 0.0
        # All of the box can reach the target: the highest effective rate depends on the momentum.
        highest = self._top(members, log_gap) - (log_gap if members.decay == "momentum" else 0.0)
        longest = math.log(self._highest)
        log_rate = self._bottom + (highest - self._bottom) * math.log(values[RATE]) / longest
        return members.optimizer((log_rate, log_gap))

    def schedule(self, values: Mapping[str, float]) -> Schedule:
        """The schedule at these values."""
        if isinstance(self._schedule, Schedule):
            return self._schedule
        return self._schedule.make({name: values[SHAPE + name] for name in self._schedule.free})

    def _linear(self, members: Family) -> tuple[Coordinate, ...] | None:
        """The coordinates of a linear family, by what plain SGD takes at a constant rate.

        The first is a rate from 1 to the largest one over the smallest, squeezed where the momentum
        leaves less room.
        """
        held = {} if members.decay is None else {members.decay: 0.0}
        plain = Tuning(self._problem, members.holding(held), self._target).best()
        if plain is None:
            return None
        steps, (log_rate, _) = plain
        self._bottom = log_rate - math.log(SLOWER * SCHEDULED * max(self._factor, 1.0))
        least = max(-math.log(MEMORY * steps), LEAST_LOG_GAP)
        decay: tuple[Coordinate, ...] = ()
        slowest = least if members.decay == "momentum" else 0.0
        room = self._top(members, slowest) - self._bottom
        if members.decay is not None:
            # The bounds are at least one step of the grid apart, however short the runs.
            least = min(least, -GAP)
            decay = (Coordinate(DECAY, 0.0, -math.expm1(least), "log_one_minus"),)
            room -= least if members.decay == "momentum" else 0.0
        self._highest = math.exp(room)
        return (Coordinate(RATE, 1.0, self._highest), *decay)

    def _top(self, members: Family, log_gap: float) -> float:
        """The logarithm of the largest rate beside a decay."""
        if self._schedule == Constant():
            return math.log(HIGHER * SCHEDULED * largest_rate(self._problem, members, self._target))
        return math.log(
            largest_peak(self._problem, members.optimizer((0.0, log_gap))) / self._factor
        )

    def _evaluate(self, values: Mapping[str, float], max_steps: int) -> Crossing:
        return steps_to_target(
            self._problem,
            self.optimizer(values),
            self.schedule(values),
            target=self._target,
            max_steps=max_steps,
            max_growth=self._max_growth,
        )

    def _risk(self, values: Mapping[str, float], steps: int) -> float:
        return last_risk(self._problem, self.optimizer(values), self.schedule(values), steps)
