"""Families of Adam and of schedules, and the dense search over a family's members."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from nqm_study.model.crossing import last_risk, steps_to_target
from nqm_study.model.linear.fewest_steps import GAP, HIGHER, MEMORY, SLOWER, Tuning, largest_rate
from nqm_study.model.linear.members import LEAST_LOG_GAP, Family, require_fixable
from nqm_study.model.linear.runs import largest_factor
from nqm_study.model.linear.stability import largest_peak
from nqm_study.model.optimizers import Adam, Optimizer
from nqm_study.model.outcome import Crossing
from nqm_study.model.problems.noisy_quadratic import NoisyQuadratic
from nqm_study.model.schedules import Constant, Schedule
from nqm_study.optimum.dense_search import (
    MOST_EVALUATIONS,
    Coordinate,
    Optimum,
    Scale,
    as_coordinates,
    dense_search,
)

FIXABLE = ("beta1", "beta2", "eps")
"""Hyperparameters that may be held at a value."""

DECAYS: Mapping[str, Coordinate] = {
    "beta1": Coordinate("beta1", 0.0, 0.999, "log_one_minus"),
    "beta2": Coordinate("beta2", 0.9, 0.99999, "log_one_minus"),
}
"""Ranges of the decays where they are free: those of the configuration ``adam_full``."""

LARGEST = 10.0
"""The largest rate over the largest root mean square of a start: a step is about the rate."""

SMALLEST = 3e-4
"""The smallest rate over the same, at batch size 1 and above, for a target of the initial risk; a
lower target takes lower rates, in proportion."""


@dataclass(frozen=True)
class AdamFamily:
    """Adam with some decays fixed, and the learning rate and the others free.

    Attributes:
        fixed: the hyperparameters that all have in common.
        free: the names of the decays that are free.
    """

    fixed: Mapping[str, float]
    free: tuple[str, ...] = ()

    def optimizer(self, values: Mapping[str, float]) -> Adam:
        """The member with these values; rate 1 and the ranges' lows where there are none."""
        free = {name: values.get(name, DECAYS[name].low) for name in self.free}
        return Adam(values.get("learning_rate", 1.0), **free, **self.fixed)

    def holding(self, fixed: Mapping[str, float]) -> AdamFamily:
        """The members that have these values.

        Raises:
            ValueError: naming a value that is out of range, or that cannot be fixed.
        """
        require_fixable(fixed, FIXABLE)
        both = {**self.fixed, **fixed}
        Adam(1.0, **both)  # refuses values out of range
        return AdamFamily(both, tuple(name for name in self.free if name not in fixed))

    def coordinates(
        self, problem: NoisyQuadratic, target: float, factor: float
    ) -> tuple[Coordinate, ...]:
        """The free coordinates: rates that can reach the target, and the free decays.

        A step of Adam is about its rate, so the starts give the scale. At small batches the best
        rate goes as sqrt(B), and its noise in the risk as the rate. Where eps is larger than the
        gradients, lr / eps is a rate of SGD.

        Args:
            problem: spectrum and batch size.
            target: the risk to reach.
            factor: the largest factor of the schedule.
        """
        spectrum = problem.spectrum
        largest = float(np.max(spectrum.signal.curvature))
        start = 1.0 if spectrum.law else math.sqrt(float(np.max(spectrum.second_moment)))
        share = min(target / spectrum.initial_risk, 1.0)
        low = SMALLEST * start * share * min(math.sqrt(problem.batch_size), 1.0)
        eps = float(self.fixed.get("eps", 0.0))
        high = max(LARGEST * start, 4.0 * eps / largest)
        rate = Coordinate("learning_rate", min(low, 1e-3 * high) / factor, high / factor)
        return (rate, *(DECAYS[name] for name in self.free))


ADAM_FAMILIES: Mapping[str, AdamFamily] = {
    "adam": AdamFamily({"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}),
    "rmsprop": AdamFamily({"beta1": 0.0, "beta2": 0.99, "eps": 1e-8}),
    "adam_full": AdamFamily({"eps": 1e-8}, ("beta1", "beta2")),
}
"""The families, by the names of their configurations."""


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
    def coordinates(self) -> tuple[Coordinate, ...]:
        """The free values as coordinates."""
        return as_coordinates(self.free)

    @property
    def ends(self) -> tuple[Schedule, Schedule]:
        """The schedules with all values at their lows, and at their highs."""
        low, high = (
            self.make({each.name: each.at(end) for each in self.coordinates}) for end in (0.0, 1.0)
        )
        return low, high


RATE, DECAY, SHAPE = "rate", "decay", "shape."
"""Names of the coordinates of a linear family, and what those of a shape begin with."""

SCHEDULED = 2.0
"""Under a schedule rates go so much further up and down than at a constant rate."""


class DenseTuning:
    """One dense search of a family: its coordinates, and the member at their values."""

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
        """The best of the search; None where no rate reaches the target."""
        members, schedule = self._members, self._schedule
        coordinates: tuple[Coordinate, ...] | None
        if isinstance(members, AdamFamily):
            coordinates = members.coordinates(self._problem, self._target, self._factor)
        else:
            coordinates = self._linear(members)
        if coordinates is None:
            return None
        if isinstance(schedule, ShapeFamily):
            shape = schedule.free.items()
            coordinates += tuple(Coordinate(SHAPE + name, *ends) for name, ends in shape)
        return search_runs(
            self._problem,
            lambda values: (self.optimizer(values), self.schedule(values)),
            coordinates,
            target=self._target,
            max_steps=max_steps,
            max_growth=self._max_growth,
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


def search_runs(
    problem: NoisyQuadratic,
    run: Callable[[Mapping[str, float]], tuple[Optimizer, Schedule]],
    coordinates: Iterable[Coordinate],
    *,
    target: float,
    max_steps: int,
    max_growth: float | None,
    most_evaluations: int = MOST_EVALUATIONS,
) -> Optimum:
    """The fewest steps found by a dense search over runs: values by name -> what they run with."""

    def evaluate(values: Mapping[str, float], max_steps: int) -> Crossing:
        return steps_to_target(
            problem, *run(values), target=target, max_steps=max_steps, max_growth=max_growth
        )

    return dense_search(
        evaluate,
        coordinates,
        target=target,
        risk=lambda values, steps: last_risk(problem, *run(values), steps),
        max_steps=max_steps,
        most_evaluations=most_evaluations,
    )
