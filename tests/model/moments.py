"""Exact second moments of the linear optimizers, step by step and in jumps, in NumPy.

The state of a mode splits into a signal and a noise part. With theta_0 = 1 and no noise the state
moves as z_t = A^t z_0; the noise that has entered since has covariance S_t = sum over i < t of
A^i b b^T A^iT per unit of gradient variance. By independence the risk is

    L_t = sum 1/2 m h (a^2 + s) z_t^2 + (1/B) sum 1/2 m h c S_t

read out at the component whose square counts. S_t never decreases, whatever the optimizer: each
step adds a square. This split holds for every optimizer of the form z' = A z + b e.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from nqm_study.model.optimizers import LinearOptimizer
from nqm_study.model.problems.noisy_quadratic import NoisyQuadratic

Array = npt.NDArray[np.float64]


def recursion(
    problem: NoisyQuadratic, optimizer: LinearOptimizer, factors: Iterable[float] | None = None
) -> Iterator[float]:
    """The risks L_0, L_1, L_2, ... over all modes, one step at a time.

    This is the reference: no compression, no jumps. Everything faster is tested against it. The
    factors multiply the learning rate, step by step, and there is one risk more than factors;
    without them the rate is constant, and the risks go on.
    """
    spectrum = problem.spectrum
    step = optimizer.transition(spectrum.curvature)
    weight = 0.5 * spectrum.multiplicity * spectrum.curvature
    signal_weight = weight * spectrum.second_moment
    noise_weight = weight * spectrum.noise / problem.batch_size
    r = step.component
    z = np.repeat(step.start[:, None], len(spectrum), axis=1)
    covariance = np.zeros_like(step.matrix)

    def risk() -> float:
        return float(np.sum(signal_weight * z[r] ** 2) + np.sum(noise_weight * covariance[r, r]))

    yield risk()
    for factor in itertools.repeat(1.0) if factors is None else factors:
        if factors is not None:
            # An optimizer's rate is never 0; one this small moves nothing.
            rate = max(factor * optimizer.learning_rate, 1e-300)
            step = optimizer.with_rate(rate).transition(spectrum.curvature)
        entering = np.einsum("in,jn->ijn", step.noise, step.noise)
        z = np.einsum("ijn,jn->in", step.matrix, z)
        covariance = np.einsum("ijn,jkn,lkn->iln", step.matrix, covariance, step.matrix) + entering
        yield risk()


def rule_recursion(
    problem: NoisyQuadratic,
    optimizer: LinearOptimizer,
    rates: Array,
    scale: Array | float = 1.0,
    sizes: Array | None = None,
) -> list[float]:
    """The risks L_0, L_1, ... from the rule itself: means and covariances of all modes.

    Args:
        problem: spectrum and batch size.
        optimizer: its rule is asked for one step at a time.
        rates: of each step.
        scale: what gradients are multiplied by in each mode.
        sizes: batch sizes of each step; the problem's where not given.
    """
    spectrum = problem.spectrum
    h, first = spectrum.curvature, optimizer.update(np.zeros(1, np.int64), np.ones(1))
    weight = 0.5 * spectrum.multiplicity * h
    sizes = np.full(len(rates), problem.batch_size) if sizes is None else sizes
    z = np.multiply.outer(np.sqrt(spectrum.second_moment), first.start)
    covariance = np.zeros((h.size, first.start.size, first.start.size))
    risks = []
    for step in range(len(rates) + 1):
        read = (z @ first.readout) ** 2 + first.readout @ covariance @ first.readout
        risks.append(float(weight @ read))
        if step < len(rates):
            made = optimizer.update(np.array([step]), np.array([rates[step]]))
            gain = np.multiply.outer(scale * np.ones(h.size), made.gain[0])
            a = made.drift[0] + gain[:, :, None] * (h[:, None] * made.point[0])[:, None]
            z = np.einsum("nij,nj->ni", a, z)
            covariance = a @ covariance @ np.moveaxis(a, 1, 2)
            variance = spectrum.noise / sizes[step]
            covariance += variance[:, None, None] * gain[:, :, None] * gain[:, None, :]
    return risks


def power_table(matrix: Array, levels: int) -> Array:
    """Twin of the kernel: A^(2^j) for j = 0..levels - 1."""
    table = [matrix]
    for _ in range(1, levels):
        table.append(np.einsum("ijn,jkn->ikn", table[-1], table[-1]))
    return np.stack(table)


def spread_table(power: Array, noise: Array) -> Array:
    """Twin of the kernel: the noise covariance gathered in 2^j steps."""
    table = [np.einsum("in,jn->ijn", noise, noise)]
    for a in power[:-1]:
        table.append(table[-1] + np.einsum("ijn,jkn,lkn->iln", a, table[-1], a))
    return np.stack(table)


def bound_table(power: Array, readout: int) -> tuple[Array, Array]:
    """Twin of the kernel: bounds of the readout's row of A^i over 1 <= i <= 2^j."""
    low, high = [power[0, readout]], [power[0, readout]]
    for a in power[:-1]:
        ends = np.stack((low[-1][:, None] * a, high[-1][:, None] * a))
        low.append(np.minimum(low[-1], ends.min(axis=0).sum(axis=0)))
        high.append(np.maximum(high[-1], ends.max(axis=0).sum(axis=0)))
    return np.stack(low), np.stack(high)


def signal_bounds(low: Array, high: Array, z: Array, weight: Array) -> Array:
    """Twin of the kernel: lower bounds of w (row of A^i . z)^2 over the i covered."""
    ends = np.stack((low * z, high * z))
    bottom, top = ends.min(axis=0).sum(axis=0), ends.max(axis=0).sum(axis=0)
    nearest = np.maximum(bottom, 0.0) + np.minimum(top, 0.0)
    return np.asarray(weight * nearest**2)


def scan(
    matrix: Array,
    readout: int,
    z: Array,
    weight: Array,
    bounds: Array,
    enough: float,
    n_steps: int,
    block: int,
) -> tuple[Array, int]:
    """Twin of the kernel: bounds of the signal part after each step, and how many modes it took."""
    parts = []
    for _ in range(n_steps):
        z = np.einsum("ijn,jn->in", matrix, z)
        parts.append(weight * z[readout] ** 2)
    part = np.stack(parts)
    for stepped in range(block, weight.size, block):
        sums = part[:, :stepped].sum(axis=1) + bounds[stepped:].sum()
        if sums.min() > enough:
            return sums, stepped
    return part.sum(axis=1), weight.size
