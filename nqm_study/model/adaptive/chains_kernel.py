"""Steps of many replicas of each mode under Adam, compiled: see adam_chains.py."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nqm_study.model.numerics.compiled import compiled

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@compiled
def adam_chains(
    optimizer: tuple[float, float, float],
    rates: Array,
    scales: Array,
    curvature: Array,
    deviation: Array,
    weight: Array,
    noise: Array,
    places: Integers,
    share: Array,
    state: Array,
    risks: Array,
) -> None:
    """Take some steps with every replica of every mode.

    Args:
        optimizer: beta1, beta2 and eps.
        rates: lr / (1 - beta1^t) of each step.
        scales: 1 / sqrt(1 - beta2^t) of each step.
        curvature: h.
        deviation: sqrt(c / B).
        weight: 1/2 m h.
        noise: standard normal numbers, twice as many as there are replicas of all modes.
        places: where in ``noise`` each step begins to read.
        share: of each replica in the mean of its group, shape (modes, groups, replicas).
        state: theta, m and v, shape (3, modes, groups, replicas of a group); advanced in place.
        risks: receives each group's risk after each step, shape (steps, groups).
    """
    b1, b2, eps = optimizer
    _, modes, groups, replicas = state.shape
    risks[:] = 0.0
    for part in range(modes * groups):
        k, group = part // groups, part % groups
        theta, m, v = state[0, k, group], state[1, k, group], state[2, k, group]
        shares = share[k, group]
        h, scatter = curvature[k], deviation[k]
        for i in range(rates.size):
            place = places[i] + part * replicas
            drawn = noise[place : place + replicas]
            rate, scale = rates[i], scales[i]
            total = 0.0
            for r in range(replicas):
                g = h * theta[r] + scatter * drawn[r]
                m[r] = b1 * m[r] + (1.0 - b1) * g
                v[r] = b2 * v[r] + (1.0 - b2) * g * g
                # A mode without gradient has nothing to move: 0 / 0 is 0 there.
                theta[r] -= rate * m[r] / max(np.sqrt(v[r]) * scale + eps, 1e-150)
                total += shares[r] * theta[r] * theta[r]
            risks[i, group] += weight[k] * total
