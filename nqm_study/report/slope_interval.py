"""What a slope's uncertainty is made from: the bend of exact rates, or seeds drawn again.

| symbol | name in code | meaning |
|---|---|---|
| x | | ln B |
| y | | ln(best rate) |
| s | slope | that of the line through (x, y), by least squares |
| s_0 | end_slope | that of the parabola through (x, y) at the smallest x |
| c | change | slope of the parabola at the largest x less s_0 |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Method = Literal["curvature", "bootstrap", "scatter"]
"""Where a slope's uncertainty is from."""

ENOUGH_SEEDS = 3
"""Seeds at each batch size that a bootstrap needs. Three are few: its intervals are then narrow."""

RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Bend:
    """A parabola's slope at the smallest batch size, and by how much it changes to the largest."""

    end_slope: float
    change: float


@dataclass(frozen=True)
class Resampled:
    """Slopes of lines through seeds drawn again.

    Attributes:
        low, high: their 2.5 % and 97.5 % quantiles.
        change: of the slope along the range, where the draws agree on its sign; 0 elsewhere.
    """

    low: float
    high: float
    change: float


def bend(pairs: Sequence[tuple[float, float]]) -> Bend | None:
    """The parabola through batch sizes and rates on log scales; None with fewer than three."""
    if len(pairs) < 3:
        return None
    x, y = np.log(np.array(pairs)).T
    _, end_slope, change = _readers(x) @ y
    return Bend(float(end_slope), float(change))


def seen_change(pairs: Sequence[tuple[float, float]]) -> float:
    """The change c of the slope where scatter about the parabola does not explain it; else 0.

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


def resampled(batch_sizes: Sequence[float], rates: Sequence[Sequence[float]]) -> Resampled | None:
    """The bootstrap over seeds: at each batch size as many are drawn, with replacement.

    The same rates give the same numbers, in whatever order the seeds are.

    Args:
        batch_sizes: two or more different ones.
        rates: the best rates of the seeds at each; the point is their median.

    Returns:
        None unless there are three seeds or more at each batch size.
    """
    if min(map(len, rates), default=0) < ENOUGH_SEEDS:
        return None
    generator = np.random.default_rng(0)
    readers = _readers(np.log(np.array(batch_sizes)))
    drawn = [
        np.median(generator.choice(sorted(found), size=(RESAMPLES, len(found))), axis=1)
        for found in rates
    ]
    slopes, _, changes = readers @ np.log(np.array(drawn))
    tails = [(1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0]
    low, high = np.quantile(slopes, tails)
    least, most = np.quantile(changes, tails)
    medians = np.log(np.array([np.median(found) for found in rates]))
    change = 0.0 if least <= 0.0 <= most else float((readers @ medians)[2])
    return Resampled(float(low), float(high), change)


def _readers(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Three rows that, times y, are the line's slope, the parabola's first, and its change.

    Two points have no parabola: its slope is the line's then, and its change is 0.
    """
    z = x - x.mean()
    line = z / np.sum(z**2)
    if len(x) < 3:
        return np.stack([line, line, 0.0 * line])
    _, linear, square = np.linalg.pinv(np.stack([np.ones_like(z), z, z**2], axis=1))
    return np.stack([line, linear + 2.0 * z[0] * square, 2.0 * (z[-1] - z[0]) * square])
