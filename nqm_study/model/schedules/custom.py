"""Functions of the fraction of the run as schedules."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nqm_study.model.numerics.arrays import Array
from nqm_study.model.schedules.base import Schedule


@dataclass(frozen=True)
class Custom(Schedule):
    """A function of the fraction of the run, about whose smoothness nothing is known.

    Args:
        function: fraction in [0, 1) -> factor >= 0.
    """

    function: Callable[[float], float]

    @property
    def needs_horizon(self) -> bool:
        """Always, since nothing is known of the function."""
        return True

    @property
    def knots(self) -> None:
        """Unknown."""

    def at_steps(self, steps: Array, horizon: float | Array) -> Array:
        """The factors at some steps of a run.

        Raises:
            ValueError: where the function returns no number, or one that is negative or infinite.
        """
        fractions = (steps / horizon).tolist()
        return np.array([self._factor(fraction) for fraction in fractions], dtype=np.float64)

    def _factor(self, fraction: float) -> float:
        try:
            factor = float(self.function(fraction))
        except (TypeError, ValueError) as error:
            raise ValueError(f"schedule({fraction:g}): must return a number: {error}") from error
        if not (0.0 <= factor < math.inf):
            raise ValueError(
                f"schedule({fraction:g})={factor:g}: must be a finite number of at least 0"
            )
        return factor


ScheduleLike = Schedule | Callable[[float], float]
"""A schedule, or any function from the fraction of the run to the factor."""


def as_schedule(value: object) -> Schedule:
    """The value, if it is a schedule, or the schedule that a function stands for.

    Raises:
        ValueError: if it is neither.
    """
    if isinstance(value, Schedule):
        return value
    if callable(value) and not isinstance(value, type):
        return Custom(value)
    raise ValueError(
        f"schedule={value!r}: must be a schedule, such as Cosine(), or a function from the "
        "fraction of the run to the factor"
    )
