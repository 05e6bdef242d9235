"""Adam's closure, compiled: see adam.py for the symbols and the equations."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nqm_study.model._compiled import compiled

Array = npt.NDArray[np.float64]


@compiled
def adam_run(
    n_steps: int,
    first_step: int,
    optimizer: tuple[float, float, float, float],
    factors: Array,
    curvature: Array,
    variance: Array,
    weight: Array,
    state: Array,
    target: float,
) -> tuple[int, float, float, int]:
    """Advance the conditional moments of adam.py by n_steps, or to the first risk <= target.

    ``state`` holds A, Q, D, V of each node, shape (4, n), and is advanced in place. ``first_step``
    is how many steps came before. ``factors`` multiply the learning rate, one for each of the steps
    to come; an empty array stands for 1.

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
        factor = factors[i] if factors.size > 0 else 1.0
        rate, small = factor * learning_rate * root / correction, eps * root
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
