"""Steps of one replica on noise already drawn, compiled: see simulate.py for the updates.

A row of ``noise`` is one step, and its columns are the modes. ``state`` is advanced in place.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nqm_study.model._compiled import compiled

Array = npt.NDArray[np.float64]


@compiled
def sgd_steps(
    optimizer: tuple[float, bool, float],
    rates: Array,
    curvature: Array,
    preconditioner: Array,
    deviation: Array,
    weight: Array,
    noise: Array,
    state: Array,
    losses: Array,
) -> None:
    """Take one step of SGD for each row of noise.

    Args:
        optimizer: momentum, whether it is Nesterov's, and the decay of the average.
        rates: the learning rate of each step.
        curvature: h.
        preconditioner: h^-p.
        deviation: sqrt(c / B).
        weight: 1/2 m h.
        noise: standard normal numbers, shape (steps, modes).
        state: theta, momentum buffer and average of each mode, shape (3, modes).
        losses: receives the loss after each step.
    """
    mu, nesterov, gamma = optimizer
    for i in range(noise.shape[0]):
        lr = rates[i]
        loss = 0.0
        for k in range(noise.shape[1]):
            theta = state[0, k]
            g = preconditioner[k] * (curvature[k] * theta + deviation[k] * noise[i, k])
            u = mu * state[1, k] + g
            theta -= lr * (g + mu * u if nesterov else u)
            e = gamma * state[2, k] + (1.0 - gamma) * theta
            state[0, k] = theta
            state[1, k] = u
            state[2, k] = e
            loss += weight[k] * e * e
        losses[i] = loss


@compiled
def adam_steps(
    optimizer: tuple[float, float, float],
    rates: Array,
    scales: Array,
    curvature: Array,
    deviation: Array,
    weight: Array,
    noise: Array,
    state: Array,
    losses: Array,
) -> None:
    """Take one step of Adam for each row of noise.

    Args:
        optimizer: beta1, beta2 and eps.
        rates: lr / (1 - beta1^t) of each step.
        scales: 1 / sqrt(1 - beta2^t) of each step.
        curvature: h.
        deviation: sqrt(c / B).
        weight: 1/2 m h.
        noise: standard normal numbers, shape (steps, modes).
        state: theta, m and v of each mode, shape (3, modes).
        losses: receives the loss after each step.
    """
    b1, b2, eps = optimizer
    for i in range(noise.shape[0]):
        rate, scale = rates[i], scales[i]
        loss = 0.0
        for k in range(noise.shape[1]):
            theta = state[0, k]
            g = curvature[k] * theta + deviation[k] * noise[i, k]
            m = b1 * state[1, k] + (1.0 - b1) * g
            v = b2 * state[2, k] + (1.0 - b2) * g * g
            root = np.sqrt(v) * scale + eps
            # A mode without gradient has nothing to move: 0 / 0 is 0 there.
            theta -= rate * (m / root if root != 0.0 else 0.0)
            state[0, k] = theta
            state[1, k] = m
            state[2, k] = v
            loss += weight[k] * theta * theta
        losses[i] = loss
