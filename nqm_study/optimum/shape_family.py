"""Schedules of one kind, whose shape is free."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nqm_study.model.schedules import Schedule
from nqm_study.optimum.coordinates import Coordinate, Scale, as_coordinates


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
