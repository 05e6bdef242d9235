"""Replicas of a simulation: normal numbers by their place in a stream, and threads that share them.

What is drawn depends on the seed and on the place alone, not on the number of threads.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from nqm_study.model.numerics.arrays import Array
from nqm_study.model.numerics.compiled import compiled
from nqm_study.model.numerics.require import require_integer

Keys = npt.NDArray[np.uint64]

GAMMA = np.uint64(0x9E3779B97F4A7C15)

INDEX_BITS = 16
"""Bits of a random number that choose one of the 2**16 quantiles of the normal distribution."""

CHUNK = 2**14
"""Numbers that a thread draws at a time, unless one step needs more: they stay in its cache."""


@compiled
def draw(key: np.uint64, place: int, stride: int, quantiles: Array, noise: Array) -> None:
    """Fill rows of noise with independent draws from equally likely values.

    A number and the one half a row on share a number of SplitMix64's (Steele, Lea and Flood 2014),
    whose upper and lower half choose a value each. It depends on its place in the stream only.

    Args:
        key: where the replica's stream starts.
        place: place in the stream of the first row's first number.
        stride: places from one row to the next.
        quantiles: 2**INDEX_BITS values.
        noise: receives the draws, shape (steps, an even number).
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


@functools.cache
def quantiles() -> Array:
    """Equally likely values of variance 1 that stand for the standard normal distribution."""
    from scipy.special import ndtri

    count = 2**INDEX_BITS
    values = ndtri((np.arange(count) + 0.5) / count)
    return np.asarray(values / values.std())


def require_threads(n_jobs: object) -> int:
    """The number of threads; as many as there are processors for None.

    Raises:
        ValueError: if it is no integer of at least 1.
    """
    return os.cpu_count() or 1 if n_jobs is None else require_integer("n_jobs", n_jobs, least=1)


def in_threads(
    replica: Callable[[int, threading.Event], None], n_replicas: int, threads: int
) -> None:
    """Call ``replica(index, stop)`` for each index; it is to return soon once ``stop`` is set."""
    stop = threading.Event()
    with ThreadPoolExecutor(min(threads, n_replicas)) as pool:
        try:
            for _ in pool.map(replica, range(n_replicas), [stop] * n_replicas):
                pass
        except BaseException:
            # Ctrl-C would otherwise wait for the replicas under way, as the pool does.
            stop.set()
            raise
