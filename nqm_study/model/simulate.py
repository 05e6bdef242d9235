"""Direct simulation: the updates themselves, on drawn gradients. No moments, no compression.

For each mode, with gradient g = h theta + sqrt(c / B) xi, xi ~ N(0, 1), P = h^-p, step t = 1, 2 ...
and learning rate lr and batch size B as the schedule has them at the step:

| optimizer | update |
|---|---|
| linear ones | z' = drift z + gain P g, by their rules; the loss is that of readout . z |
| Adam | m' = b1 m + (1 - b1) g;  v' = b2 v + (1 - b2) g^2 |
| | theta' = theta - lr / (1 - b1^t) m' / (sqrt(v') / sqrt(1 - b2^t) + eps) |
| | and with weight decay wd also less lr wd (theta - theta_0) |

A loss that few starts carry, far out, as Adam's does after some steps, is not seen in a handful of
normal draws, nor is their scatter. So a replica is several chains of each mode, in pairs of twins:

- Starts are theta_0 = a + sqrt(s) z with z = y sqrt(1 + k y^2), y ~ N(0, 1), which is wider than
  normal; a chain's theta^2 counts phi(z) / q(z) times, q being the density of z. All pairs of a
  mode, of all replicas, are stratified: one falls into each of as many equally likely intervals.
- Noise is drawn for each chain, step and mode by itself: one of 2^16 equally likely values that
  stand for the normal distribution.
- Twins x and x' start in the same interval and are otherwise independent, so (x - x')^2 of what
  they count is on average the variance of x + x'. Its sum over pairs, modes and replicas is that of
  the loss. No scatter of few totals is needed, and none that stratified starts do not have.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nqm_study.model.crossing import CONSTANT, require_run
from nqm_study.model.fresh_examples import fresh_losses
from nqm_study.model.numerics.arrays import Array
from nqm_study.model.numerics.compiled import Like, compiled, compiled_within
from nqm_study.model.numerics.replicas import (
    CHUNK,
    Keys,
    draw,
    in_threads,
    quantiles,
    require_threads,
)
from nqm_study.model.numerics.require import require_integer
from nqm_study.model.optimizers import LinearOptimizer, Optimizer
from nqm_study.model.optimizers.steps import Steps
from nqm_study.model.problems.problem import Problem
from nqm_study.model.schedules import BatchScheduleLike, ScheduleLike


@compiled_within
def _summed(counted: Array) -> tuple[float, float]:
    """The sum of the chains' parts of the loss, and its variance by the twins' differences."""
    half = counted.size // 2
    loss, variance = 0.0, 0.0
    for k in range(half):
        loss += counted[k] + counted[half + k]
        variance += (counted[k] - counted[half + k]) ** 2
    return loss, variance


@compiled
def linear_steps(
    like: Like, readout: int, drift: Array, gain: Array, point: Array, curvature: Array,
    deviation: Array, weight: Array, noise: Array, state: Array, sums: Array,
) -> None:  # fmt: skip
    """Take one step of a linear optimizer for each row of noise.

    The first five arguments are the optimizer's ``Steps``. The others:

    - curvature: P h of each chain's mode, P what its gradients are multiplied by.
    - deviation: P sqrt(c / B).
    - weight: what a chain's square counts in the loss.
    - noise: standard normal numbers, shape (steps, chains).
    - state: z of each chain, shape (k, chains).
    - sums: the chains' part of the loss after each step, and the variance of that part, are added
      to it, shape (steps, 2).
    """
    n = noise.shape[1]
    counted, after = np.empty(n), np.empty_like(state)
    for i in range(noise.shape[0]):
        for m in range(n):
            there = 0.0
            for c in range(len(like)):
                there += point[i, c] * state[c, m]
            g = curvature[m] * there + deviation[m] * noise[i, m]
            for c in range(len(like)):
                moved = gain[i, c] * g
                for d in range(len(like)):
                    moved += drift[i, c, d] * state[d, m]
                after[c, m] = moved
        # Copied, not swapped: loops over arrays that change places do not use vector registers.
        for m in range(n):
            for c in range(len(like)):
                state[c, m] = after[c, m]
            counted[m] = weight[m] * after[readout, m] * after[readout, m]
        loss, variance = _summed(counted)
        sums[i, 0] += loss
        sums[i, 1] += variance


@compiled
def adam_steps(
    optimizer: tuple[float, float, float], decay: float | None, plain: Array, rates: Array,
    scales: Array, curvature: Array, deviation: Array, weight: Array, noise: Array, state: Array,
    sums: Array,
) -> None:  # fmt: skip
    """Take one step of Adam for each row of noise.

    The arguments are those of ``linear_steps``, with the ``Steps`` of Adam.
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
            if decay is not None:
                theta -= decay * plain[i] * (theta - state[3, k])
            # A mode without gradient has nothing to move: 0 / 0 is 0 there.
            theta -= rate * (m / root if root != 0.0 else 0.0)
            state[0, k] = theta
            state[1, k] = m
            state[2, k] = v
            counted[k] = weight[k] * theta * theta
        loss, variance = _summed(counted)
        sums[i, 0] += loss
        sums[i, 1] += variance


BLOCK = 2**9
"""Chains that a thread advances at a time, which stay in its cache as well."""

STRETCH = 2.0
"""k: a tenth of the starts is more than 4 standard deviations out, and none counts over 1.7."""

ENOUGH = 256
"""Pairs of a mode, in all replicas, whose differences tell a variance well even where it is that
mode's alone: its root to 6 %."""

WORK = 2**24
"""Updates of a chain that take so little time (some 40 ms) that there may as well be enough."""

START = 20
"""Updates that take the time of a start."""

CHAINS = 16
"""Chains of all modes that a replica advances at once in the time of one."""

PAIRS = 2
"""Pairs of a mode in each replica of a longer run: their noise costs less than one number of
NumPy's. One is left of them where the replicas alone make FEW pairs."""

FEW = 64


@dataclass(frozen=True, eq=False)
class Simulation:
    """The loss averaged over replicas; infinite, then NaN, where a run diverges.

    Attributes:
        mean: shape (n_steps + 1,), the mean loss after 0, 1, ... steps, whose expectation is the
            risk.
        standard_error: shape (n_steps + 1,), of that mean; NaN for one replica. Under
            ``LeastSquares`` it is from the scatter of the replicas. Otherwise its square is an
            unbiased estimate of the variance that starts and noise give the mean from seed to seed,
            stratification included: the sum over replicas, modes and pairs of the squared
            differences of twins (see the module). It is known to some 1 / sqrt(2 n) of itself where
            n pairs carry the loss, and by chance too small where the mean is: in a long run of one
            dominant mode n is 16 with 8 replicas, and more replicas help. Errors of neighbouring
            steps are not independent.
    """

    mean: Array
    standard_error: Array

    def __repr__(self) -> str:
        return (
            f"<Simulation: {len(self.mean) - 1:,} steps, last loss {self.mean[-1]:.6g} +- "
            f"{self.standard_error[-1]:.2g}>"
        )


def simulate(
    problem: Problem,
    optimizer: Optimizer,
    schedule: ScheduleLike = CONSTANT,
    *,
    n_steps: int,
    n_replicas: int = 8,
    seed: int = 0,
    horizon: int | None = None,
    n_jobs: int | None = None,
    batch_schedule: BatchScheduleLike | None = None,
) -> Simulation:
    """Run the optimizer on drawn gradients, in several replicas side by side.

    A replica is several chains of each mode: enough for 512 of a mode in all replicas where that
    takes some hundredths of a second, otherwise at least 4, or 2 in 64 replicas or more. The number
    depends on those of modes, replicas and steps, and the draws depend on it.

    A mode of multiplicity m is drawn once and counts m times, where m modes would be drawn
    independently. The mean is that of the m modes; its scatter is larger, and the standard error
    says so. A law of more modes than its arrays have entries is such a spectrum.

    Under ``LeastSquares`` a replica is one run of all modes by themselves, with theta_0 and inputs
    of its own, and takes as long for a large batch as for a small one. Multiplicities are integers
    of at most 2^20 modes in all, noise is the curvature, and batches are of at least 1 example; one
    of 2.5 examples scatters in between 2 and 3. A loss is carried by few replicas where it has just
    begun to fall, or where the rate is near the limit of stability: their scatter then says less
    than it is.

    Args:
        problem: spectrum and batch size.
        optimizer: a ``LinearOptimizer``, such as ``SGD``, or ``Adam``.
        schedule: multiplies the learning rate, as in ``steps_to_target``.
        n_steps: steps to take, >= 0.
        n_replicas: runs with noise of their own, >= 1.
        seed: seed of a ``numpy.random.SeedSequence``, >= 0.
        horizon: the length of the run that the schedule is made for, >= n_steps; n_steps where not
            given.
        n_jobs: threads that the replicas are shared by, >= 1; as many as there are processors where
            not given. The result does not depend on it.
        batch_schedule: as in ``steps_to_target``.

    Raises:
        ValueError: if a value is outside its range or of the wrong kind.
    """
    shape = require_run(problem, optimizer, schedule, batch_schedule)
    require_integer("n_steps", n_steps, least=0)
    require_integer("n_replicas", n_replicas, least=1)
    require_integer("seed", seed, least=0)
    length = n_steps
    if horizon is not None:
        length = require_integer("horizon", horizon, least=n_steps)
    threads = require_threads(n_jobs)
    steps = np.arange(n_steps, dtype=np.float64)
    factors, noise = shape.at_steps(steps, length), shape.noise(steps, length)
    # A run may diverge, which its losses tell.
    with np.errstate(over="ignore", invalid="ignore"):
        rates, error = optimizer.learning_rate * factors, np.full(n_steps + 1, np.nan)
        if problem.follows_loss:
            sizes = problem.batch_size / (noise * np.ones(n_steps))
            losses = fresh_losses(problem, optimizer, rates, sizes, n_replicas, seed, threads)
            if n_replicas > 1:
                error = losses.std(axis=0, ddof=1) / np.sqrt(n_replicas)
            return Simulation(losses.mean(axis=0), error)
        scatters = None if shape.steady else np.sqrt(noise)[:, None]
        starts, weights, keys = _draws(problem, n_replicas, n_steps, seed)
        sums = np.zeros((n_replicas, n_steps + 1, 2))
        first, second = np.moveaxis(weights * starts**2, 1, 0)
        sums[:, 0, 0] = np.sum(first + second, axis=(1, 2))
        sums[:, 0, 1] = np.sum((first - second) ** 2, axis=(1, 2))
        _run(problem, optimizer, rates, scatters, starts, weights, keys, sums, threads)
        mean, variance = sums.mean(axis=0).T
        if n_replicas > 1:
            error = np.sqrt(variance / n_replicas)
        return Simulation(mean, error)


def _run(
    problem: Problem,
    optimizer: Optimizer,
    rates: Array,
    scatters: Array | None,
    starts: Array,
    weights: Array,
    keys: Keys,
    sums: Array,
    threads: int,
) -> None:
    """Add up each replica's loss after each step and its variance, a block of modes at a time.

    The scatters multiply the noise of each step, shape (n_steps, 1).
    """
    n_replicas, _, n_modes, pairs = starts.shape
    n_steps = sums.shape[1] - 1
    width = max(BLOCK // (2 * pairs), 1)
    rows = max(CHUNK // (2 * pairs * min(width, n_modes)), 1)
    of_run, values = Steps.of(optimizer, rates), quantiles()
    h = problem.spectrum.curvature
    deviation = np.sqrt(problem.spectrum.noise / problem.batch_size)
    kernel: Callable[..., None] = adam_steps
    of_modes = [h, deviation]
    if isinstance(optimizer, LinearOptimizer):
        kernel, scale = linear_steps, optimizer.preconditioner(h)
        of_modes = [scale * h, scale * deviation]
    blocks = [slice(start, min(start + width, n_modes)) for start in range(0, n_modes, width)]
    of_blocks = [[np.tile(each[block].repeat(pairs), 2) for each in of_modes] for block in blocks]

    def replica(index: int, stop: threading.Event) -> None:
        for block, of_chains in zip(blocks, of_blocks, strict=True):
            weight = weights[index, :, block].ravel()
            noise = np.empty((min(rows, n_steps), weight.size))
            state = of_run.start[:, None] * starts[index, :, block].ravel()
            for first in range(0, n_steps, rows):
                if stop.is_set():
                    return
                drawn = noise[: n_steps - first]
                place = (first * n_modes + block.start) * pairs
                draw(keys[index], place, n_modes * pairs, values, drawn)
                now = slice(first, first + len(drawn))
                if scatters is not None:
                    drawn *= scatters[now]
                kernel(
                    *of_run.constants, *(each[now] for each in of_run.of_steps), *of_chains,
                    weight, drawn, state, sums[index, 1:][now],
                )  # fmt: skip

    in_threads(replica, n_replicas, threads)


def _draws(problem: Problem, n_replicas: int, n_steps: int, seed: int) -> tuple[Array, Array, Keys]:
    """The chains' starts, what their theta^2 count in a replica's loss, and the replicas' keys.

    Starts and weights have the shape (replicas, 2, modes, pairs), twins along the second axis. A
    key is where a replica's stream of noise begins.
    """
    from scipy.special import ndtri

    start, noise = np.random.SeedSequence(seed).spawn(2)
    rng, spectrum = np.random.default_rng(start), problem.spectrum
    pairs = _pairs(len(spectrum), n_replicas, n_steps)
    shape = (n_replicas, 2, len(spectrum), pairs)
    strata = n_replicas * pairs
    stratum = rng.permuted(np.tile(np.arange(float(strata)), (len(spectrum), 1)), axis=1)
    stratum = stratum.reshape(-1, n_replicas, 1, pairs).transpose(1, 2, 0, 3)
    y = ndtri((stratum + rng.uniform(size=shape)) / strata)
    ky2 = STRETCH * y * y
    stretch = np.sqrt(1.0 + ky2)
    # phi(z) / q(z) = phi(z) / phi(y) dz/dy, and z^2 - y^2 = k y^4.
    density = np.exp(-0.5 * ky2 * y * y) * (1.0 + 2.0 * ky2) / stretch

    deviation = np.sqrt(spectrum.initial_variance)[:, None]
    counts = (0.5 * spectrum.multiplicity * spectrum.curvature)[:, None] / (2 * pairs)
    starts = spectrum.initial_mean[:, None] + deviation * y * stretch
    weights = counts * np.where(deviation > 0.0, density, 1.0)
    keys = noise.generate_state(n_replicas, np.uint64)
    return starts, weights, np.asarray(keys, np.uint64)


def _pairs(n_modes: int, n_replicas: int, n_steps: int) -> int:
    """Pairs of chains of each mode in a replica."""
    one = 2 * n_modes
    least = min(PAIRS, -(-FEW // n_replicas))
    fast = max(least, CHAINS // one, WORK // (one * n_replicas * (n_steps + START)))
    return min(fast, -(-ENOUGH // n_replicas))
