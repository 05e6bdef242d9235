"""Finer and finer levels until two agree, and how far rounding and a compression can be trusted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from nqm_study.model.numerics.arrays import Array

TOLERANCE = 1e-9
"""Relative error of the risk that a compression may have."""

SAFETY = 8.0
"""How many times the error found may stand between a risk and the target before it is certain on
which side the risk lies. Each level divides the error by hundreds."""

ROUNDING, ROUNDING_PER_STEP = 1e-11, 4.0 * float(np.finfo(np.float64).eps)
"""Relative error of a risk by rounding, in whatever order it is summed, and what each step adds: a
decay of 1 - x a step is known to the last digit of 1 - x."""

Value = TypeVar("Value")
Steps = TypeVar("Steps", float, Array)


def rounding(steps: Steps) -> Steps:
    """Relative error by rounding of the risks after some numbers of steps."""
    return ROUNDING + ROUNDING_PER_STEP * steps


def agreeing(
    at: Callable[[int], Value],
    differ: Callable[[Value, Value], float],
    first: int,
    last: int,
    enough: Callable[[int, float], bool],
) -> tuple[int, float]:
    """The coarsest level that agrees with the next finer one, and by how much the two differ.

    Args:
        at: level -> what is compared; asked once for each level.
        differ: of two neighbouring levels, the coarser first -> their difference.
        first: the coarsest level.
        last: the finest; it is returned, with an infinite difference, where no two levels agree.
        enough: a finer level, and its difference from the one before -> whether they agree, or a
            yet finer one is not worth its cost.
    """
    if first < last:
        coarse = at(first)
    for level in range(first, last):
        fine = at(level + 1)
        error = differ(coarse, fine)
        if enough(level + 1, error):
            return level, error
        coarse = fine
    return last, np.inf


def difference(ours: Array, theirs: Array) -> float:
    """The largest relative difference of risks by two compressions.

    Risks that are infinite in both, after a divergence, are no difference.
    """
    finite = np.isfinite(ours) | np.isfinite(theirs)
    ours, theirs = ours[finite], theirs[finite]
    if not np.all(np.isfinite(ours) & np.isfinite(theirs)):
        return np.inf
    scale = np.maximum(ours, theirs)
    return float(np.max(np.abs(ours - theirs) / np.where(scale > 0.0, scale, 1.0), initial=0.0))


def require_met(tolerance: float, error: float) -> None:
    """Refuse a tolerance that no level of a power law's compression meets.

    Raises:
        ValueError: if the error is above the tolerance.
    """
    if error > tolerance:
        raise ValueError(
            f"tolerance={tolerance:g}: must be at least {error:.1g} for a power law of this many "
            "modes at these steps"
        )
