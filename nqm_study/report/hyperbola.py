"""McCandlish's hyperbola between steps and examples, and how far a curve is off it.

| symbol | name in code | meaning |
|---|---|---|
| B | batch_size | examples per step |
| T | steps | fewest steps to the target at B |
| S | fewest_steps | steps at large batches |
| B_c | critical_batch_size | where steps are 2 S, and examples 2 E |
| E = S B_c | fewest_examples | examples at small batches |

(T / S - 1) (T B / E - 1) = 1, which is T = S (1 + B_c / B) (McCandlish 2018, arXiv:1812.06162).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.special import stdtrit

from nqm_study.report.estimate import Estimate

Values = NDArray[np.float64]

_FARTHEST = math.log(1e6)  # from the sweep's ends to where a critical batch size is looked for
_STARTS = 101


@dataclass(frozen=True)
class Hyperbola:
    """The hyperbola nearest to a curve.

    Attributes:
        critical_batch_size: B_c in examples; a bound where it is outside the sweep.
        fewest_steps, fewest_examples: S and E; bounds where B_c is one and does not tell them.
        rms: root mean square of T / T_fit - 1.
        largest: the largest of its sizes.
    """

    critical_batch_size: Estimate
    fewest_steps: Estimate
    fewest_examples: Estimate
    rms: float
    largest: float


def fit_hyperbola(batch_sizes: Sequence[float], steps: Sequence[float]) -> Hyperbola | None:
    """The least squares in ln T over S and B_c.

    The ranges are 95 % confidence intervals by the scatter about the hyperbola, as if it were
    chance: with a misfit that has a shape, they say how well the fit is determined, no more.

    None with fewer than three points, which leave no residual.

    Args:
        batch_sizes: different ones, ascending.
        steps: above 0.
    """
    if len(batch_sizes) < 3:
        return None
    x, y = np.log(np.array(batch_sizes)), np.log(np.array(steps))
    center = _nearest(x, y)
    off = y - _fitted(x, center)
    center[0] += off.mean()
    off -= off.mean()
    relative = np.expm1(off)
    misfit = math.sqrt(float(np.mean(relative**2))), float(np.max(np.abs(relative)))
    log_steps, log_size = (float(value) for value in center)
    if log_size > x[-1]:
        # T >= 2 S at all batch sizes of the sweep, and only E is known.
        size = Estimate(float(batch_sizes[-1]), bound=">=", method="sweep ends")
        least = Estimate(steps[-1] / 2.0, bound="<=", method="sweep ends")
        return Hyperbola(
            size, least, Estimate(math.exp(log_steps + log_size), method="fit"), *misfit
        )
    if log_size < x[0]:
        size = Estimate(float(batch_sizes[0]), bound="<=", method="sweep ends")
        least = Estimate(steps[0] * batch_sizes[0] / 2.0, bound="<=", method="sweep ends")
        return Hyperbola(size, Estimate(math.exp(log_steps), method="fit"), least, *misfit)
    half_steps, half_size, half_examples = _half_widths(x, log_size, off)
    return Hyperbola(
        _interval(log_size, half_size),
        _interval(log_steps, half_steps),
        _interval(log_steps + log_size, half_examples),
        *misfit,
    )


def product(steps: float, examples: float, fewest_steps: float, fewest_examples: float) -> float:
    """(T / S - 1) (T B / E - 1), which is 1 on the hyperbola and less at a sharper knee."""
    return (steps / fewest_steps - 1.0) * (examples / fewest_examples - 1.0)


def _nearest(x: Values, y: Values) -> Values:
    """The ln S and ln B_c of the least squares."""
    low, high = x[0] - _FARTHEST, x[-1] + _FARTHEST
    starts = []
    for size in np.linspace(low, high, _STARTS):
        residual = y - _fitted(x, np.array([0.0, size]))
        starts.append((float(np.var(residual)), float(residual.mean()), size))
    _, steps, size = min(starts)
    found = least_squares(
        lambda center: _fitted(x, center) - y,
        [steps, min(max(size, low + 1e-3), high - 1e-3)],  # a start is inside its bounds
        lambda center: _slopes(x, center[1]),
        bounds=([-np.inf, low], [np.inf, high]),
        xtol=1e-14,
        ftol=1e-14,
        gtol=1e-14,
    )
    return np.array(found.x, dtype=np.float64)


def _fitted(x: Values, center: Values) -> Values:
    """The fitted ln T."""
    return np.asarray(center[0] + np.logaddexp(0.0, center[1] - x))


def _slopes(x: Values, log_size: float) -> Values:
    """Its derivatives by ln S and ln B_c: 1, and the share of noise B_c / (B + B_c)."""
    return np.stack([np.ones_like(x), 1.0 / (1.0 + np.exp(x - log_size))], axis=1)


def _half_widths(x: Values, log_size: float, off: Values) -> tuple[float, float, float]:
    """Half the 95 % intervals of ln S, ln B_c, and ln E."""
    freedom = len(x) - 2
    slopes = _slopes(x, log_size)
    covariance = np.linalg.inv(slopes.T @ slopes) * float(np.sum(off**2)) / freedom
    (steps, mixed), (_, size) = covariance
    variances = steps, size, steps + size + 2.0 * mixed
    factor = float(stdtrit(freedom, 0.975))
    first, second, third = (factor * math.sqrt(max(value, 0.0)) for value in variances)
    return first, second, third


def _interval(log_value: float, half: float) -> Estimate:
    half = min(half, 300.0)  # three points and a poor fit have an interval beyond all numbers
    low, high = math.exp(log_value - half), math.exp(log_value + half)
    return Estimate(math.exp(log_value), low, high, method="scatter")
