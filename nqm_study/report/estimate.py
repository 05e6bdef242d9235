"""Numbers with their uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Bound = Literal["", "<=", ">="]


@dataclass(frozen=True)
class Estimate:
    """A number with its range, or as a bound.

    Attributes:
        value: the number.
        low, high: the range it may be in; None on a side where nothing is known.
        bound: ``<=`` where it is at most the value, ``>=`` where it is at least that, and empty
            where it is about the value.
        method: what the range is from, in a word or two.
    """

    value: float
    low: float | None = None
    high: float | None = None
    bound: Bound = ""
    method: str = ""

    @property
    def relative(self) -> float | None:
        """The larger distance of an end of the range from the value, relative; None if unknown."""
        ends = [end for end in (self.low, self.high) if end is not None]
        if not ends or self.bound or self.value == 0.0:
            return None
        return max(abs(end / self.value - 1.0) for end in ends)
