"""The laws of small batches: how steps and learning rate go with the batch size.

| symbol | name in code | meaning |
|---|---|---|
| B | batch_size | examples per step |
| T | steps | fewest steps to the target found at B |
| k | perfect_scaling | T = k / B where twice the batch halves the steps |
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import dropwhile, takewhile
from statistics import median

import numpy as np

from nqm_study.report.scaling import Curve, Point

OVERHEAD = 1.2  # the critical batch size costs 20 % more examples (Zhang 2024, arXiv:2410.21676)

MOST_UNCERTAIN = 0.25
"""Standard error above which a fitted slope is not shown."""


@dataclass(frozen=True)
class SlopeFit:
    """Least squares of ln(learning rate) = intercept + slope ln(B).

    Attributes:
        slope: the power of B.
        standard_error: of the slope; None with two points, which leave no residual.
        intercept: natural logarithm of the learning rate at B = 1.
        batch_sizes: smallest and largest batch size used.
        n_points: number of batch sizes used.
    """

    slope: float
    standard_error: float | None
    intercept: float
    batch_sizes: tuple[float, float]
    n_points: int

    def learning_rate(self, batch_size: float) -> float:
        """The fitted learning rate, exp(intercept) B^slope."""
        return math.exp(self.intercept + self.slope * math.log(batch_size))


def small_batches(curve: Curve) -> tuple[Point, ...]:
    """The points where T is about k / B: the small-batch regime.

    It is the first unbroken run of points, from the smallest batch up, with T B at most 1.2 times
    the smallest T B of the curve. It starts at the smallest batch unless the search missed there.
    """
    least = min((point.examples for point in curve.points), default=0.0)

    def within(point: Point) -> bool:
        return 0.0 < point.examples <= OVERHEAD * least

    return tuple(takewhile(within, dropwhile(lambda point: not within(point), curve.points)))


def perfect_scaling(curve: Curve) -> float | None:
    """The constant k of T = k / B, in examples: the median of T B over the small-batch regime.

    None with fewer than two points in it: one point shows no scaling.
    """
    regime = small_batches(curve)
    return median(point.examples for point in regime) if len(regime) >= 2 else None


def fit_learning_rate(curve: Curve) -> SlopeFit | None:
    """The power law of the best effective rate over the small-batch regime.

    None with fewer than two points in it, or where they follow no power law: a slope that is
    uncertain by more than 0.25 tells none from another. None for computed schedules, too.
    """
    if curve.computed:
        return None
    pairs = [
        (point.batch_size, point.effective_rate)
        for point in small_batches(curve)
        if point.effective_rate > 0.0
    ]
    if len(pairs) < 2:
        return None
    x, y = np.log(np.array(pairs)).T
    spread = float(np.sum((x - x.mean()) ** 2))
    slope = float(np.sum((x - x.mean()) * (y - y.mean()))) / spread
    intercept = float(y.mean() - slope * x.mean())
    freedom = len(pairs) - 2
    misfit = float(np.sum((y - intercept - slope * x) ** 2))
    error = math.sqrt(misfit / freedom / spread) if freedom else None
    if error is not None and error > MOST_UNCERTAIN:
        return None
    return SlopeFit(slope, error, intercept, (pairs[0][0], pairs[-1][0]), len(pairs))
