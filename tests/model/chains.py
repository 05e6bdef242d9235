"""What a simulation draws, chain by chain, and what it tells of them: for step-by-step oracles."""

import numpy as np

from nqm_study.model import simulate as simulation
from nqm_study.model.simulate import draw


def drawn(problem, n_steps, n_replicas, seed):
    """Starts and weights, shape (replicas, 2, modes, pairs), and noise, one such array a step."""
    starts, weights, keys = simulation._draws(problem, n_replicas, n_steps, seed)
    noise = np.empty((n_replicas, n_steps, starts[0].size))
    for key, each in zip(keys, noise, strict=True):
        draw(key, 0, starts[0, 0].size, simulation._quantiles(), each)
    return starts, weights, np.moveaxis(noise, 1, 0).reshape(n_steps, *starts.shape)


def told(weights, squares):
    """Mean and standard error after each step of squares of shape (steps + 1, *weights.shape)."""
    counted = weights * squares / len(weights)
    first, second = np.moveaxis(counted, 2, 0)
    axes = (1, 2, 3)
    return (first + second).sum(axis=axes), np.sqrt(np.sum((first - second) ** 2, axis=axes))
