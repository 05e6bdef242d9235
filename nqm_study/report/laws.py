"""The laws of small batches: how steps and learning rate go with the batch size.

| symbol | name in code | meaning |
|---|---|---|
| B | batch_size | examples per step |
| T | steps | fewest steps to the target found at B |
| k | perfect_scaling | T = k / B where twice the batch halves the steps |
| s | slope | the best rate goes as B^s: by the line through (ln B, ln rate) |
| s_0 | end_slope | slope of the parabola through these at the smallest B |
| c | change | its slope at the largest B less s_0 |

A slope's uncertainty is from the bend of exact rates, from seeds drawn again, or from scatter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import dropwhile, takewhile
from statistics import median
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from nqm_study.report.curves import Curve, Point

Values = NDArray[np.float64]

OVERHEAD = 1.2  # the critical batch size costs 20 % more examples (Zhang 2024, arXiv:2410.21676)

FITTED_OVERHEAD = 1.05
"""The same for what a slope is fitted to: the rate bends a little before the steps do.

On the paper's problem the best rate of SGD is 21 % below its law where T B is 20 % above its least,
and 6 % below it at 5 %.
"""

ENOUGH = 4
"""Points that a slope needs inside the narrower range; with fewer the wider one is taken."""

ENOUGH_EXACT = 3
"""The same where the true optima there are exact: three such points tell a line from its bend."""

DEPARTURE = 0.2
"""Where the best rate is off its fitted power law by more than this share, the law has ended."""

MOST_UNCERTAIN = 0.25
"""Standard error above which a fitted slope is not shown."""

Method = Literal["curvature", "bootstrap", "scatter"]
"""Where a slope's uncertainty is from."""

ENOUGH_SEEDS = 3
"""Seeds at each batch size that a bootstrap needs. Three are few: its intervals are then narrow."""

RESAMPLES = 1000
LEVEL = 0.95


class Bend(NamedTuple):
    """A parabola's slope at the smallest batch size, and by how much it changes to the largest."""

    end_slope: float
    change: float


@dataclass(frozen=True)
class SlopeFit:
    """Least squares of ln(learning rate) = intercept + slope ln(B).

    Attributes:
        slope: the power of B.
        standard_error: of the slope; None with two points, which leave no residual.
        intercept: natural logarithm of the learning rate at B = 1.
        batch_sizes: smallest and largest batch size used.
        n_points: number of batch sizes used.
        interval: uncertainty of the slope, see ``fit_learning_rate``; None with two points of which
            no more is known.
        method: what the interval is made from.
        end: the batch size from which on the best rate is off the law by more than 20 %; None where
            it is not within the sweep.
        true_slope: that of the true optima's rates over the same batch sizes; None unless all of
            these are known.
        true_exact: whether all those optima are exact.
        bend: of the true optima's rates, where all of them are exact and there are three or more.
    """

    slope: float
    standard_error: float | None
    intercept: float
    batch_sizes: tuple[float, float]
    n_points: int
    interval: float | None = None
    method: Method = "scatter"
    end: float | None = None
    true_slope: float | None = None
    true_exact: bool = True
    bend: Bend | None = None

    def learning_rate(self, batch_size: float) -> float:
        """The fitted learning rate, exp(intercept) B^slope."""
        return math.exp(self.intercept + self.slope * math.log(batch_size))


def small_batches(curve: Curve, overhead: float = OVERHEAD) -> tuple[Point, ...]:
    """The points where T is about k / B: the small-batch regime.

    It is the first unbroken run of points, from the smallest batch up, with T B at most so many
    times the smallest T B of the curve. It starts at the smallest batch unless the search missed
    there.
    """
    least = min((point.examples for point in curve.points), default=0.0)

    def within(point: Point) -> bool:
        return 0.0 < point.examples <= overhead * least

    return tuple(takewhile(within, dropwhile(lambda point: not within(point), curve.points)))


def perfect_scaling(curve: Curve) -> float | None:
    """The constant k of T = k / B, in examples: the median of T B over the small-batch regime.

    None with fewer than two points in it: one point shows no scaling.
    """
    regime = small_batches(curve)
    return median(point.examples for point in regime) if len(regime) >= 2 else None


def fit_learning_rate(curve: Curve) -> SlopeFit | None:
    """The power law of the best effective rate at small batches, and where it ends.

    It is fitted where T B is within 5 % of its least, or within 20 % where fewer than four points
    are (three with exact optima): a wider range has less noise and more of the bend.

    Its interval is, by curvature, how far the slope is off that of the exact optima, plus by how
    much the slope of a parabola through these changes along the range: no matter of chance. By
    bootstrap it is half the width of the 95 % interval over seeds drawn again, plus what the slope
    changes along the range where the draws agree on its sign. By scatter it is Student's t with
    n - 2 degrees of freedom, times the standard error, half the width of the 95 % confidence
    interval, plus what the slope changes where the scatter does not hide it. The latter two are
    joined, as the root of the sum of squares, with how far the slope is off that of a dense
    search's optima, where it is known: errors of the search that tilt the line without scattering
    about it.

    None with fewer than two points, or where they follow no power law: a slope whose standard error
    is above 0.25 tells none from another. None for computed schedules, too.
    """
    if curve.computed:
        return None
    points = _with_rates(small_batches(curve, FITTED_OVERHEAD))
    if len(points) < (ENOUGH_EXACT if _exact(points) else ENOUGH):
        points = _with_rates(small_batches(curve))
    if len(points) < 2:
        return None
    fit = _fitted(_rates(points))
    if fit.standard_error is not None and fit.standard_error > MOST_UNCERTAIN:
        return None
    end = _end(fit, _rates(_with_rates(curve.points)))
    return _with_interval(replace(fit, end=end), points)


def _with_interval(fit: SlopeFit, points: Sequence[Point]) -> SlopeFit:
    """The fit with the uncertainty of its slope, and the true slope where it is known."""
    optima = [(p.batch_size, p.optimal_rate) for p in points if p.optimal_rate > 0.0]
    off = 0.0
    if len(optima) == len(points):
        fit = replace(fit, true_slope=_fitted(optima).slope, true_exact=_exact(points))
        off = fit.slope - (fit.true_slope or 0.0)
        if fit.true_exact and len(points) > 2:
            x, y = np.log(np.array(optima)).T
            _, end_slope, change = (_readers(x) @ y).tolist()
            half = abs(off) + abs(change)
            return replace(fit, bend=Bend(end_slope, change), interval=half, method="curvature")
    if min(len(point.seed_rates) for point in points) >= ENOUGH_SEEDS:
        low, high, change = _resampled(points)
        half = math.hypot(max(fit.slope - low, high - fit.slope), off) + abs(change)
        return replace(fit, interval=half, method="bootstrap")
    if fit.standard_error is None:
        return fit
    half = float(stdtrit(fit.n_points - 2, 0.975)) * fit.standard_error
    return replace(fit, interval=math.hypot(half, off) + abs(_seen_change(_rates(points))))


def _exact(points: Sequence[Point]) -> bool:
    """Whether all the true optima are known, with their rates, and exact."""
    optima = [p.optimum for p in points if p.optimum is not None and p.optimal_rate > 0.0]
    return len(optima) == len(points) and all(optimum.exact for optimum in optima)


def _with_rates(points: Sequence[Point]) -> list[Point]:
    return [point for point in points if point.effective_rate > 0.0]


def _rates(points: Sequence[Point]) -> list[tuple[float, float]]:
    """Batch sizes and best effective rates."""
    return [(point.batch_size, point.effective_rate) for point in points]


def _fitted(pairs: Sequence[tuple[float, float]]) -> SlopeFit:
    """The power law through two or more pairs of batch size and rate, by least squares."""
    x, y = np.log(np.array(pairs)).T
    spread = float(np.sum((x - x.mean()) ** 2))
    slope = float(np.sum((x - x.mean()) * (y - y.mean()))) / spread
    intercept = float(y.mean() - slope * x.mean())
    freedom = len(pairs) - 2
    misfit = float(np.sum((y - intercept - slope * x) ** 2))
    error = math.sqrt(misfit / freedom / spread) if freedom else None
    return SlopeFit(slope, error, intercept, (pairs[0][0], pairs[-1][0]), len(pairs))


def _end(fit: SlopeFit, pairs: Sequence[tuple[float, float]]) -> float | None:
    """Where the rate leaves the law's neighbourhood, between two batch sizes on log scales.

    One batch size alone that is off, with the next one back on the law, was searched badly and ends
    nothing.
    """
    bounds = math.log(1.0 - DEPARTURE), math.log(1.0 + DEPARTURE)
    off = [
        (math.log(batch_size), math.log(rate / fit.learning_rate(batch_size)))
        for batch_size, rate in pairs
        if batch_size >= fit.batch_sizes[1]
    ]

    def outside(distance: float) -> bool:
        return not bounds[0] <= distance <= bounds[1]

    # The last point stands for what would follow it.
    for (x0, y0), (x1, y1), (_, y2) in zip(off, off[1:], [*off[2:], *off[-1:]], strict=False):
        if outside(y1) and outside(y2):
            bound = bounds[0] if y1 < 0.0 else bounds[1]
            # The largest batch size fitted may be off itself.
            share = 0.0 if outside(y0) else (bound - y0) / (y1 - y0)
            return math.exp(x0 + share * (x1 - x0))
    return None


def _seen_change(pairs: Sequence[tuple[float, float]]) -> float:
    """The change c of the slope where scatter about the parabola does not explain it, or 0.

    By Student's t at 95 %, with n - 3 degrees of freedom: of four points or more.
    """
    freedom = len(pairs) - 3
    if freedom < 1:
        return 0.0
    x, y = np.log(np.array(pairs)).T
    z = x - x.mean()
    terms = np.stack([np.ones_like(z), z, z**2], axis=1)
    reader = _readers(x)[2]
    change = float(reader @ y)
    misfit = y - terms @ (np.linalg.pinv(terms) @ y)
    error = float(np.sqrt(misfit @ misfit / freedom * (reader @ reader)))
    return change if abs(change) > float(stdtrit(freedom, 0.975)) * error else 0.0


def _resampled(points: Sequence[Point]) -> tuple[float, float, float]:
    """The bootstrap over seeds: at each batch size as many are drawn, with replacement.

    The same rates give the same numbers, in whatever order the seeds are.

    Returns:
        the 2.5 % and 97.5 % quantiles of the slope, and its change along the range where the draws
        agree on its sign, 0 elsewhere.
    """
    generator = np.random.default_rng(0)
    readers = _readers(np.log(np.array([point.batch_size for point in points])))
    rates = [sorted(point.seed_rates) for point in points]
    draws = [generator.choice(found, size=(RESAMPLES, len(found))) for found in rates]
    slopes, _, changes = readers @ np.log(np.array([np.median(d, axis=1) for d in draws]))
    tails = [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0]
    low, high = np.quantile(slopes, tails).tolist()
    least, most = np.quantile(changes, tails)
    change = readers[2] @ np.log(np.array([np.median(found) for found in rates]))
    return low, high, 0.0 if least <= 0.0 <= most else float(change)


def _readers(x: Values) -> Values:
    """Three rows that, times y, are the line's slope, the parabola's first, and its change.

    Two points have no parabola: its slope is the line's then, and its change is 0.
    """
    z = x - x.mean()
    line = z / np.sum(z**2)
    if len(x) < 3:
        return np.stack([line, line, 0.0 * line])
    _, linear, square = np.linalg.pinv(np.stack([np.ones_like(z), z, z**2], axis=1))
    return np.stack([line, linear + 2.0 * z[0] * square, 2.0 * (z[-1] - z[0]) * square])
