"""The outcome of a run towards a target: its crossing, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["reached", "floor_above_target", "diverged", "max_steps"]

MOST_STEPS = 2**62
"""The longest run. Twice as many steps still fit a 64-bit integer, as the search's jumps need."""

MAX_GROWTH = 1000.0
"""Times the first loss that the expected loss of a run one would train may rise to on the way.
Optimal schedules with a momentum of 0.97 reach 573, with 0.9 47, without momentum 1."""

PRECISE = 1e-6
"""Relative error that the risk of a long run under a schedule tries to stay below."""


@dataclass(frozen=True)
class Crossing:
    """Where the risk first reached the target, or why it did not.

    Attributes:
        steps: the first step t >= 0 whose risk is at most the target; None where there is none.
        status: ``reached``, ``floor_above_target``, ``diverged`` or ``max_steps``.
        risk: the risk at that step; with no crossing, the smallest seen.
        error: relative error of the risk. For SGD it is by compressing the spectrum, the largest
            found where the search compared it with a finer one, and 0 where every mode stood for
            itself. For Adam it is what its closure may be off by, or the relative standard error
            where the risk was sampled.
        sampled: whether the risk was sampled, because Adam's closure was in doubt.
        smallest: whether every smaller number of steps was excluded, within that error. Where it is
            False, ``steps`` reach the target, and fewer may: not all of them were looked at. With
            no crossing, it is whether all up to max_steps were.
        tie: whether a risk on the way is so near the target that rounding may decide on which side
            it lies: within 1e-11 of it, relative, and 9e-16 more for each step. The first crossing
            may then be there, and hundreds of steps from the one given.
    """

    steps: int | None
    status: Status
    risk: float
    error: float | None = None
    sampled: bool = False
    smallest: bool = True
    tie: bool = False
