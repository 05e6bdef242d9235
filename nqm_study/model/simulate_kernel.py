"""Steps of one replica, and its noise, compiled: see simulate.py for the updates and the chains.

A row of ``noise`` is one step, and its columns are the chains: those of the first half are the
twins of those of the second. ``state`` is advanced in place.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nqm_study.model.numerics.compiled import compiled, compiled_within

Array = npt.NDArray[np.float64]

GAMMA = np.uint64(0x9E3779B97F4A7C15)

INDEX_BITS = 16
"""Bits of a random number that choose one of the 2**16 quantiles of the normal distribution."""


@compiled
def draw(key: np.uint64, place: int, stride: int, quantiles: Array, noise: Array) -> None:
    """Fill rows of noise with independent draws from equally likely values.

    A chain and its twin share a number of SplitMix64's (Steele, Lea and Flood 2014), whose upper
    and lower half choose a value each. It depends on its place in the stream only.

    Args:
        key: where the replica's stream starts.
        place: place in the stream of the first row's first number.
        stride: places from one row to the next.
        quantiles: 2**INDEX_BITS values.
        noise: receives the draws, shape (steps, chains).
    """
    half = noise.shape[1] // 2
    for i in range(noise.shape[0]):
        state = key + np.uint64(place + i * stride) * GAMMA
        for k in range(half):
            state += GAMMA
            bits = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            bits ^= bits >> np.uint64(31)
            noise[i, k] = quantiles[np.int64(bits >> np.uint64(64 - INDEX_BITS))]
            bits <<= np.uint64(32)
            noise[i, half + k] = quantiles[np.int64(bits >> np.uint64(64 - INDEX_BITS))]


@compiled_within
def _told(counted: Array) -> tuple[float, float]:
    """The sum of what the chains count, and the variance of that sum by the twins' differences."""
    half = counted.size // 2
    loss, variance = 0.0, 0.0
    for k in range(half):
        loss += counted[k] + counted[half + k]
        variance += (counted[k] - counted[half + k]) ** 2
    return loss, variance


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
    told: Array,
) -> None:
    """Take one step of SGD for each row of noise.

    Args:
        optimizer: momentum, whether it is Nesterov's, and the decay of the average.
        rates: the learning rate of each step.
        curvature: h of each chain's mode.
        preconditioner: h^-p.
        deviation: sqrt(c / B).
        weight: what a chain's theta^2 counts in the loss.
        noise: standard normal numbers, shape (steps, chains).
        state: theta, momentum buffer and average of each chain, shape (3, chains).
        told: the chains' part of the loss after each step, and the variance of that part, are added
            to it, shape (steps, 2).
    """
    mu, nesterov, gamma = optimizer
    counted = np.empty(noise.shape[1])
    for i in range(noise.shape[0]):
        lr = rates[i]
        for k in range(noise.shape[1]):
            theta = state[0, k]
            g = preconditioner[k] * (curvature[k] * theta + deviation[k] * noise[i, k])
            u = mu * state[1, k] + g
            theta -= lr * (g + mu * u if nesterov else u)
            e = gamma * state[2, k] + (1.0 - gamma) * theta
            state[0, k] = theta
            state[1, k] = u
            state[2, k] = e
            counted[k] = weight[k] * e * e
        loss, variance = _told(counted)
        told[i, 0] += loss
        told[i, 1] += variance


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
    told: Array,
) -> None:
    """Take one step of Adam for each row of noise.

    Args:
        optimizer: beta1, beta2 and eps.
        rates: lr / (1 - beta1^t) of each step.
        scales: 1 / sqrt(1 - beta2^t) of each step.
        curvature: h of each chain's mode.
        deviation: sqrt(c / B).
        weight: what a chain's theta^2 counts in the loss.
        noise: standard normal numbers, shape (steps, chains).
        state: theta, m and v of each chain, shape (3, chains).
        told: the chains' part of the loss after each step, and the variance of that part, are added
            to it, shape (steps, 2).
    """
    b1, b2, eps = optimizer
    counted = np.empty(noise.shape[1])
    for i in range(noise.shape[0]):
        rate, scale = rates[i], scales[i]
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
            counted[k] = weight[k] * theta * theta
        loss, variance = _told(counted)
        told[i, 0] += loss
        told[i, 1] += variance
