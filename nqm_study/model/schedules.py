"""Learning-rate schedules: pure functions from the fraction of the horizon to a factor."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Constant:
    """The factor 1 at every step; needs no horizon."""

    def __call__(self, fraction: float) -> float:  # noqa: ARG002 (the signature of a schedule)
        """The factor at a fraction of the horizon: 1."""
        return 1.0
