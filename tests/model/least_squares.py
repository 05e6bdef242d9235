"""Exact risks of least squares in one pass: second moments of all modes, step by step, in NumPy.

A mode's state z moves by z' = drift z + P gain g, with a gradient g = h (point . z) + e that is
multiplied by P. Its second moments Sigma = E z z^T close without those across modes: with

    A = drift + P h gain point^T,    a = point^T Sigma point,    2 L = sum over modes of m h a,

a step of B examples gives

    Sigma' = A Sigma A^T + P^2 gain gain^T (h^2 a + c (2 L + label_noise)) / B.

This is the reference: no compression, no jumps, no power. Everything faster is tested against it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

import nqm_study as nqm

Array = npt.NDArray[np.float64]


def recursion(
    problem: nqm.LeastSquares,
    optimizer: nqm.LinearOptimizer,
    factors: Iterable[float] | None = None,
    sizes: Iterable[float] | None = None,
) -> Iterator[float]:
    """The risks L_0, L_1, L_2, ... over all modes, one step at a time.

    Args:
        problem: spectrum, batch size and label noise.
        optimizer: its rule is asked for one step at a time.
        factors: multiply the learning rate, step by step; 1 without end where not given.
        sizes: batch sizes, step by step; the problem's without end where not given.

    There is one risk more than steps, and as many steps as the shorter of both has.
    """
    spectrum = problem.spectrum
    h, m, c = spectrum.curvature, spectrum.multiplicity, spectrum.noise
    scale = optimizer.preconditioner(h)
    factors = itertools.repeat(1.0) if factors is None else factors
    sizes = itertools.repeat(problem.batch_size) if sizes is None else sizes
    made = optimizer.update(np.zeros(1, np.int64), np.array([optimizer.learning_rate]))
    read = made.readout
    second = np.multiply.outer(np.multiply.outer(made.start, made.start), spectrum.second_moment)

    def risk() -> float:
        return float(0.5 * np.sum(m * h * np.einsum("i,ijn,j->n", read, second, read)))

    yield risk()
    for t, (factor, size) in enumerate(zip(factors, sizes, strict=False)):
        rate = np.array([factor * optimizer.learning_rate])
        made = optimizer.update(np.array([t]), rate)
        drift, gain, point = made.drift[0], made.gain[0], made.point[0]
        matrix = drift[:, :, None] + np.multiply.outer(np.outer(gain, point), scale * h)
        a = np.einsum("i,ijn,j->n", point, second, point)
        loss = np.sum(m * h * a)
        noise = scale**2 * (h**2 * a + c * (loss + problem.label_noise)) / size
        second = np.einsum("ijn,jkn->ikn", matrix, second)
        second = np.einsum("ikn,lkn->iln", second, matrix)
        second += np.multiply.outer(np.outer(gain, gain), noise)
        yield risk()


def risks(
    problem: nqm.LeastSquares,
    optimizer: nqm.LinearOptimizer,
    n_steps: int,
    factors: Iterable[float] | None = None,
    sizes: Iterable[float] | None = None,
) -> Array:
    """The risks after 0 .. n_steps steps."""
    every = recursion(problem, optimizer, factors, sizes)
    return np.array(list(itertools.islice(every, n_steps + 1)))


def first_crossing(
    problem: nqm.LeastSquares,
    optimizer: nqm.LinearOptimizer,
    target: float,
    max_steps: int,
    factors: Iterable[float] | None = None,
    sizes: Iterable[float] | None = None,
) -> int | None:
    """The first step, of at most max_steps, whose risk is at most the target."""
    every = itertools.islice(recursion(problem, optimizer, factors, sizes), max_steps + 1)
    return next((step for step, risk in enumerate(every) if risk <= target), None)
