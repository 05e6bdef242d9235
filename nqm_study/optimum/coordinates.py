"""Coordinates of a search: what is free, between which bounds, and on which scale."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from nqm_study.model.numerics.require import require_number

Scale = Literal["linear", "log", "log_one_minus"]

SCALES: tuple[Scale, ...] = ("linear", "log", "log_one_minus")
"""The value itself, its logarithm, and the logarithm of 1 - value."""


@dataclass(frozen=True)
class Coordinate:
    """One free value and its range, both ends included.

    Args:
        name: what it is called among the values.
        low: the smallest value; > 0 where the scale is ``log``.
        high: the largest value, > low; < 1 where the scale is ``log_one_minus``.
        scale: on which a search takes even steps: ``linear``, ``log`` or ``log_one_minus``.

    Raises:
        ValueError: if a value is outside its range.
    """

    name: str
    low: float
    high: float
    scale: Scale = "log"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"name={self.name!r}: must be a string that is not empty")
        if self.scale not in SCALES:
            raise ValueError(
                f"{self.name}.scale={self.scale!r}: must be one of {', '.join(SCALES)}"
            )
        above = 0.0 if self.scale == "log" else None
        below = 1.0 if self.scale == "log_one_minus" else None
        low = require_number(f"{self.name}.low", self.low, above=above)
        require_number(f"{self.name}.high", self.high, above=low, below=below)

    @property
    def span(self) -> float:
        """The length of the range on its scale."""
        return abs(self._scaled(self.high) - self._scaled(self.low))

    def at(self, fraction: float) -> float:
        """The value at a fraction of the range, from 0 (low) to 1 (high)."""
        if fraction <= 0.0:
            return float(self.low)
        if fraction >= 1.0:
            return float(self.high)
        first, last = self._scaled(self.low), self._scaled(self.high)
        scaled = first + fraction * (last - first)
        value = scaled
        if self.scale == "log":
            value = math.exp(scaled)
        elif self.scale == "log_one_minus":
            value = -math.expm1(scaled)
        return min(max(value, float(self.low)), float(self.high))

    def _scaled(self, value: float) -> float:
        if self.scale == "log":
            return math.log(value)
        return math.log1p(-value) if self.scale == "log_one_minus" else float(value)


def as_coordinates(
    given: Mapping[str, tuple[float, float, Scale]] | Iterable[Coordinate],
) -> tuple[Coordinate, ...]:
    """Coordinates from themselves, or from name -> (low, high, scale).

    Raises:
        ValueError: if there is none, two share a name, or one is outside its range.
    """
    if isinstance(given, Mapping):
        try:
            given = [
                Coordinate(name, low, high, scale) for name, (low, high, scale) in given.items()
            ]
        except TypeError as error:
            raise ValueError(
                f"coordinates={given!r}: must map names to (low, high, scale)"
            ) from error
    coordinates = tuple(given)
    if not coordinates:
        raise ValueError("coordinates=(): must have at least one")
    for index, each in enumerate(coordinates):
        if not isinstance(each, Coordinate):
            raise ValueError(f"coordinates[{index}]={each!r}: must be a Coordinate")
    names = [each.name for each in coordinates]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f"coordinates: {name} must be given once, not {names.count(name)} times"
            )
    return coordinates
