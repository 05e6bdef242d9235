"""Compiled kernels. Each has a NumPy twin in moments.py, against which it is tested.

Arrays are laid out component first, mode last, so that the inner loops run over modes. With
z' = A z + b e, level j of a table is about jumps of K = 2^j steps:

| symbol | shape | meaning |
|---|---|---|
| power | (levels, k, k, n) | A^K |
| spread | (levels, k, k, n) | sum over i < K of A^i b b^T A^iT, the noise gathered in K steps |
| low, high | (levels, k, n) | bounds of row r of A^i over 1 <= i <= K, r the readout |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """The one place for compiler options.

    ``reassoc`` and ``contract`` let sums and products use vector registers; infinities and NaN keep
    their meaning, since a divergence is told by them. Compiled code is kept on disk.
    """
    decorate = numba.njit(
        nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract"}
    )
    return cast("F", decorate(function))


@compiled
def _multiply(left: Array, right: Array, out: Array) -> None:
    k, _, n = left.shape
    for i in range(k):
        for j in range(k):
            for m in range(n):
                out[i, j, m] = left[i, 0, m] * right[0, j, m]
            for c in range(1, k):
                for m in range(n):
                    out[i, j, m] += left[i, c, m] * right[c, j, m]


@compiled
def _conjugate(a: Array, s: Array, scratch: Array, out: Array) -> None:
    """Write A S A^T, for symmetric S; ``out`` may be S itself."""
    k, _, n = a.shape
    _multiply(a, s, scratch)
    for i in range(k):
        for j in range(i + 1):
            for m in range(n):
                out[i, j, m] = scratch[i, 0, m] * a[j, 0, m]
            for c in range(1, k):
                for m in range(n):
                    out[i, j, m] += scratch[i, c, m] * a[j, c, m]
            if j < i:
                for m in range(n):
                    out[j, i, m] = out[i, j, m]


@compiled
def power_table(matrix: Array, levels: int) -> Array:
    """A^(2^j) for j = 0..levels - 1."""
    k, _, n = matrix.shape
    power = np.empty((levels, k, k, n))
    power[0] = matrix
    for j in range(1, levels):
        _multiply(power[j - 1], power[j - 1], power[j])
    return power


@compiled
def spread_table(power: Array, noise: Array) -> Array:
    """The noise covariance gathered in 2^j steps: S_2K = S_K + A^K S_K A^KT."""
    levels, k, _, n = power.shape
    spread = np.empty((levels, k, k, n))
    scratch = np.empty((k, k, n))
    for i in range(k):
        for j in range(k):
            for m in range(n):
                spread[0, i, j, m] = noise[i, m] * noise[j, m]
    for level in range(1, levels):
        _conjugate(power[level - 1], spread[level - 1], scratch, spread[level])
        spread[level] += spread[level - 1]
    return spread


@compiled
def bound_table(power: Array, readout: int) -> tuple[Array, Array]:
    """Bounds of the readout's row of A^i over 1 <= i <= 2^j.

    For K < i <= 2K that row is (row of A^(i-K)) A^K: the bounds of the first half, in interval
    arithmetic, times A^K.
    """
    levels, k, _, n = power.shape
    low = np.empty((levels, k, n))
    high = np.empty((levels, k, n))
    low[0] = power[0, readout]
    high[0] = power[0, readout]
    for level in range(1, levels):
        for c in range(k):
            for m in range(n):
                bottom = 0.0
                top = 0.0
                for b in range(k):
                    first = low[level - 1, b, m] * power[level - 1, b, c, m]
                    second = high[level - 1, b, m] * power[level - 1, b, c, m]
                    bottom += min(first, second)
                    top += max(first, second)
                low[level, c, m] = min(low[level - 1, c, m], bottom)
                high[level, c, m] = max(high[level - 1, c, m], top)
    return low, high


@compiled
def signal_bound(low: Array, high: Array, z: Array, weight: Array) -> float:
    """A lower bound of sum w (row of A^i . z)^2 over all the i that ``low`` and ``high`` cover."""
    k, n = z.shape
    total = 0.0
    for m in range(n):
        bottom = 0.0
        top = 0.0
        for c in range(k):
            first = low[c, m] * z[c, m]
            second = high[c, m] * z[c, m]
            bottom += min(first, second)
            top += max(first, second)
        nearest = max(bottom, 0.0) + min(top, 0.0)
        total += weight[m] * nearest * nearest
    return total


@compiled
def advance_signal(power: Array, z: Array, scratch: Array) -> None:
    """Z <- A^K z, in place."""
    k, n = z.shape
    for i in range(k):
        for m in range(n):
            scratch[i, m] = power[i, 0, m] * z[0, m]
        for c in range(1, k):
            for m in range(n):
                scratch[i, m] += power[i, c, m] * z[c, m]
    z[:] = scratch


@compiled
def advance_noise(power: Array, spread: Array, covariance: Array, scratch: Array) -> None:
    """S <- A^K S A^KT + S_K, in place."""
    _conjugate(power, covariance, scratch, covariance)
    covariance += spread


@compiled
def signal_risk(z: Array, weight: Array) -> float:
    """The sum of w z^2."""
    total = 0.0
    for m in range(weight.size):
        total += weight[m] * z[m] * z[m]
    return total


@compiled
def noise_risk(variance: Array, weight: Array) -> float:
    """The sum of w times the variance."""
    total = 0.0
    for m in range(weight.size):
        total += weight[m] * variance[m]
    return total


REACHED, NOISE_ABOVE_TARGET, OVERFLOW, MAX_STEPS = 0, 1, 2, 3


@compiled
def first_crossing(
    signal_power: Array,
    low: Array,
    high: Array,
    z: Array,
    signal_weight: Array,
    noise_power: Array,
    spread: Array,
    noise_weight: Array,
    readout: int,
    target: float,
    max_steps: int,
    trace_steps: npt.NDArray[np.int64],
    trace_risks: Array,
) -> tuple[int, int, float, int]:
    """The first step whose risk is at most the target, jumping only where none can be.

    Over the next K steps the noise part of the risk cannot fall, and the signal part cannot fall
    below ``signal_bound``: where the two together stay above the target, K steps are jumped; else
    half as many are tried, down to one step, which is looked at. ``z`` holds the start and is used
    as scratch. The trace keeps, of every stretch between steps 2^i and 2^(i+1), the visited point
    nearest to the target (-1 where none was visited).

    Returns:
        reason to stop, step, risk there (with no crossing: the smallest risk seen), its step.
    """
    levels, k, _, n = signal_power.shape
    noise_n = noise_weight.size
    covariance = np.zeros((k, k, noise_n))
    scratch = np.empty((k, n))
    noise_scratch = np.empty((k, k, noise_n))
    trace_steps[:] = -1
    step = 0
    level = 0
    risk = signal_risk(z[readout], signal_weight)
    noise = 0.0
    best, best_step = risk, 0
    if risk <= target:
        return REACHED, 0, risk, 0
    while step < max_steps:
        while level > 0 and (
            step + (1 << level) > max_steps
            or not signal_bound(low[level], high[level], z, signal_weight) + noise > target
        ):
            level -= 1
        advance_signal(signal_power[level], z, scratch)
        advance_noise(noise_power[level], spread[level], covariance, noise_scratch)
        step += 1 << level
        noise = noise_risk(covariance[readout, readout], noise_weight)
        risk = signal_risk(z[readout], signal_weight) + noise
        if level == 0 and risk <= target:
            return REACHED, step, risk, step
        octave = 0
        while step >> (octave + 1) > 0:
            octave += 1
        if trace_steps[octave] < 0 or risk <= trace_risks[octave]:
            trace_steps[octave] = step
            trace_risks[octave] = risk
        if risk < best:
            best, best_step = risk, step
        if noise > target:
            return NOISE_ABOVE_TARGET, step, best, best_step
        if not risk < 1e290:
            return OVERFLOW, step, best, best_step
        if level + 1 < levels:
            level += 1
    return MAX_STEPS, step, best, best_step


@compiled
def adam_run(
    n_steps: int,
    first_step: int,
    optimizer: tuple[float, float, float, float],
    curvature: Array,
    variance: Array,
    weight: Array,
    state: Array,
    target: float,
) -> tuple[int, float, float, int]:
    """Advance the conditional moments of adam.py by n_steps, or to the first risk <= target.

    ``state`` holds A, Q, D, V of each node, shape (4, n), and is advanced in place. ``first_step``
    is how many steps came before.

    Returns:
        steps taken, the risk there, the smallest risk seen, 1 if the target was reached.
    """
    learning_rate, b1, b2, eps = optimizer
    n = curvature.size
    risk, best = np.inf, np.inf
    for i in range(n_steps):
        t = first_step + i + 1
        root = np.sqrt(-np.expm1(t * np.log(b2))) if b2 > 0.0 else 1.0
        correction = -np.expm1(t * np.log(b1)) if b1 > 0.0 else 1.0
        rate, small = learning_rate * root / correction, eps * root
        risk = 0.0
        for k in range(n):
            h, a, q2, d = curvature[k], state[0, k], state[1, k], state[2, k]
            q = h * h * a + variance[k]
            v = b2 * state[3, k] + (1.0 - b2) * q
            # A mode that has neither signal nor noise left has nothing to move: 0 / 0 is 0 there.
            # The bound keeps r^2 finite.
            root_v = np.sqrt(v) + small
            r = rate / root_v if root_v > 1e-150 else 0.0
            q2 = b1 * b1 * q2 + 2.0 * b1 * (1.0 - b1) * h * d + (1.0 - b1) * (1.0 - b1) * q
            f = b1 * d + (1.0 - b1) * h * a
            # Without noise, rounding could leave a square below zero, and its root undefined.
            a = max(a - 2.0 * r * f + r * r * q2, 0.0)
            state[0, k] = a
            state[1, k] = q2
            state[2, k] = f - r * q2
            state[3, k] = v
            risk += weight[k] * a
        best = min(best, risk)
        if risk <= target:
            return i + 1, risk, best, 1
    return n_steps, risk, best, 0
