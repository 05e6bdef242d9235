"""What a curve tends to: the fewest examples, the fewest steps, and where they part.

| symbol | name in code | meaning |
|---|---|---|
| B | batch_size | examples per step |
| T | steps | fewest steps to the target at B |
| E = T B | examples | grows with B |
| E_min | fewest_examples | what E tends to at small batches |
| S_min | fewest_steps | what T tends to at large batches |
| B_20 | critical_batch_size | where E = 1.2 E_min (Zhang 2024, arXiv:2410.21676) |

A larger batch never needs more steps, nor mostly fewer examples (see ``misses``). So what was
found at one batch size bounds what the search should have found at others, and the bound is taken
where it is better. But what a search missed once it may have missed next to it as well: no limit
rests on a point above its bound.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq

from nqm_study.report.curves import TOLERANCE, Point
from nqm_study.report.estimate import Bound, Estimate
from nqm_study.report.laws import OVERHEAD

Values = NDArray[np.float64]

NEAR = 4.0
"""A limit is looked at over the outermost batch sizes that are a factor of four apart, or more."""

LEVEL = TOLERANCE
"""It is reached where examples, or steps, change by at most this share between these."""

_CLEAR = 0.01  # excess of examples over their least below which its logarithm says little


@dataclass(frozen=True)
class CriticalBatchSize:
    """Where the examples are 20 % above their least.

    Attributes:
        estimate: interpolated on log scales; its range holds both of the following.
        grid: the batch sizes of the sweep that it is between; None on a side that has none.
        searched: what it may be as far as the steps are uncertain, by seeds or by the excess over
            the true optimum, and the least examples; None on a side where the sweep does not tell.
    """

    estimate: Estimate
    grid: tuple[float | None, float | None]
    searched: tuple[float | None, float | None]


def fewest_examples(points: Sequence[Point], tolerance: float = TOLERANCE) -> Estimate:
    """E_min, from points in ascending order of their batch sizes.

    It is the least found. The sweep reaches the limit where the examples change by at most 2 % over
    the smallest batch sizes, a factor of four; how much they do is the uncertainty, with what the
    search is off by. Elsewhere what was found is an upper bound. The change is that of the true
    optima where they are known, and else of the best seeds. Where one of these points needs more
    than another allows, by more than the tolerance and a step, there is an upper bound only.
    """
    sizes = [point.batch_size for point in points]
    ends = [_ends(point, point.batch_size) for point in points]
    return _limit(sizes, ends, sizes, tolerance)


def fewest_steps(points: Sequence[Point], tolerance: float = TOLERANCE) -> Estimate:
    """S_min, in the same way, at the largest batch sizes."""
    backwards = list(points)[::-1]
    sizes = [1.0 / point.batch_size for point in backwards]
    return _limit(sizes, [_ends(p, 1.0) for p in backwards], [1.0] * len(sizes), tolerance)


def critical_batch_size(
    points: Sequence[Point], least: Estimate, missed: Collection[float] = ()
) -> CriticalBatchSize | None:
    """B_20, from points in ascending order of their batch sizes.

    The examples are interpolated by a monotone cubic on log scales. Where the sweep ends below
    20 % it gives a lower bound, where it does not reach the least examples an upper one, and with
    both None.

    Args:
        points: a curve's.
        least: its E_min.
        missed: batch sizes whose search missed, points or none; None where it would be next to one.
    """
    sizes = np.array([point.batch_size for point in points])
    low, found, high = np.array([_ends(point, point.batch_size) for point in points]).T
    value = _crossing(sizes, found, least.value)
    if value is None:
        if least.bound:
            return None
        grid = (float(sizes[-1]), None)
        return CriticalBatchSize(Estimate(*grid, None, ">=", "grid"), grid, grid)
    inside = int(np.sum(sizes <= value * (1.0 + 1e-12)))
    around = sizes[max(0, inside - 1) : inside + 1]
    if any(around[0] <= size <= around[-1] for size in missed):
        return None
    bound: Bound = least.bound
    first = None if bound else float(sizes[inside - 1])
    last = float(sizes[min(inside, len(sizes) - 1)])
    lowest = _crossing(sizes, high, _either(least.low, least.value))
    if bound or lowest == sizes[0]:
        lowest = None
    highest = _crossing(sizes, low, _either(least.high, least.value))
    ends = [(first, lowest), (last, highest)]
    together = [
        None if None in pair else pick(end for end in pair if end is not None)
        for pick, pair in zip((min, max), ends, strict=True)
    ]
    return CriticalBatchSize(
        Estimate(value, together[0], together[1], bound, "grid and search"),
        (first, last),
        (lowest, highest),
    )


def _limit(
    sizes: Sequence[float],
    ends: Sequence[tuple[float, float, float]],
    one_step: Sequence[float],
    tolerance: float,
) -> Estimate:
    """Limit of values that grow away from it, which come first."""
    low, found, high = np.array(ends).T
    least = _growing(low)
    far = next((i for i, size in enumerate(sizes) if size >= NEAR * sizes[0]), None)
    value, highest = float(np.min(found)), float(np.min(high))
    if far is None or least[far] > (1.0 + LEVEL) * least[0]:
        return Estimate(value, None, highest, "<=", "sweep ends")
    above = low - least
    if np.any((above > tolerance * least + one_step)[: far + 1]):
        return Estimate(value, None, highest, "<=", "not monotone")
    change = least[far] / least[0] - 1.0 + np.max((above / least)[: far + 1])
    return Estimate(value, float(least[0] * (1.0 - change)), highest, "", "change and search")


def _crossing(sizes: Values, examples: Values, least: float) -> float | None:
    """Where examples that grow are 20 % above the least; None where they stay below.

    The smallest batch size where they are above it from the start. What is interpolated is
    ln(E / E_min - 1), a line in ln B on McCandlish's hyperbola, and ln E where the last point below
    is too near E_min for that.
    """
    excess = _growing(examples) / least - 1.0
    limit = OVERHEAD - 1.0
    if excess[-1] <= limit:
        return None
    above = int(np.argmax(excess > limit))
    if above == 0:
        return float(sizes[0])
    x, ends = np.log(sizes), np.log(sizes[above - 1 : above + 1])
    if excess[above - 1] > _CLEAR:
        clear = excess > _CLEAR
        curve = PchipInterpolator(x[clear], np.log(excess[clear] / limit))
    else:
        curve = PchipInterpolator(x, np.log1p(excess) - math.log(OVERHEAD))
    return math.exp(brentq(curve, *ends, xtol=1e-12))


def _growing(values: Values) -> Values:
    """The least of each value and those after it."""
    return np.minimum.accumulate(values[::-1])[::-1]


def _ends(point: Point, factor: float) -> tuple[float, float, float]:
    """The lowest, the median and the highest steps at a point, times a factor."""
    low = point.steps_low
    if point.optimum is not None and point.optimum.steps > 0:
        low = min(low, point.optimum.steps)
    return low * factor, point.steps * factor, point.steps_high * factor


def _either(value: float | None, other: float) -> float:
    return other if value is None else value
