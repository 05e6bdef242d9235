"""Direct simulation: the updates themselves, on drawn gradients. No moments, no compression.

For each mode, with gradient g = h theta + sqrt(c / B) xi, xi ~ N(0, 1), P = h^-p, step t = 1, 2 ...
and learning rate lr:

| optimizer | update |
|---|---|
| SGD | u' = mu u + P g;  theta' = theta - lr u', Nesterov: theta - lr (P g + mu u') |
| EMA on top | e' = gamma e + (1 - gamma) theta', and the loss is that of e |
| Adam | m' = b1 m + (1 - b1) g;  v' = b2 v + (1 - b2) g^2 |
| | theta' = theta - lr / (1 - b1^t) m' / (sqrt(v') / sqrt(1 - b2^t) + eps) |

Each replica has a stream of noise of its own, so the result depends neither on the number of
threads nor on how much is drawn at a time.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from nqm_study.model._simulate_kernel import adam_steps, sgd_steps
from nqm_study.model.crossing import CONSTANT, require_run
from nqm_study.model.optimizers import SGD, Optimizer
from nqm_study.model.problem import NoisyQuadratic
from nqm_study.model.require import require_integer
from nqm_study.model.schedules import ScheduleLike

Array = npt.NDArray[np.float64]
Advance = Callable[[int, Array, Array, Array], None]
"""First step, noise of the steps (steps, modes), state (3, modes), losses to write (steps,)."""

CHUNK = 2**16
"""Numbers that a thread draws at a time, unless one step needs more: they stay in its cache."""


@dataclass(frozen=True, eq=False)
class Simulation:
    """The loss averaged over replicas; infinite, then NaN, where a run diverges.

    Attributes:
        mean: shape (n_steps + 1,), the mean loss after 0, 1, ... steps.
        standard_error: shape (n_steps + 1,), the standard error of that mean; NaN for one replica.
            It takes the replicas as independent. Their starts are stratified, which makes the mean
            more exact than that, so it errs on the large side.
    """

    mean: Array
    standard_error: Array


def simulate(
    problem: NoisyQuadratic,
    optimizer: Optimizer,
    schedule: ScheduleLike = CONSTANT,
    *,
    n_steps: int,
    n_replicas: int = 8,
    seed: int = 0,
    horizon: int | None = None,
    n_jobs: int | None = None,
) -> Simulation:
    """Run the optimizer on drawn gradients, in several replicas side by side.

    Each mode's starts are stratified over the replicas: they fall one into each of n_replicas
    equally likely intervals, in random order.

    A mode of multiplicity m is drawn once and counts m times, where m modes would be drawn
    independently. The mean is that of the m modes; the scatter between replicas is larger, and the
    standard error says so. A law of more modes than its arrays have entries is such a spectrum.

    Args:
        problem: spectrum and batch size.
        optimizer: ``SGD`` or ``Adam``.
        schedule: multiplies the learning rate, as in ``steps_to_target``.
        n_steps: steps to take, >= 0.
        n_replicas: independent runs, >= 1.
        seed: seed of a ``numpy.random.SeedSequence``, >= 0.
        horizon: the length of the run that the schedule is made for, >= n_steps; n_steps where not
            given.
        n_jobs: threads that the replicas are shared by, >= 1; as many as there are processors where
            not given. The result does not depend on it.

    Raises:
        ValueError: if a value is outside its range or of the wrong kind.
    """
    shape = require_run(problem, optimizer, schedule)
    require_integer("n_steps", n_steps, least=0)
    require_integer("n_replicas", n_replicas, least=1)
    require_integer("seed", seed, least=0)
    length = n_steps
    if horizon is not None:
        length = require_integer("horizon", horizon, least=n_steps)
    threads = os.cpu_count() or 1
    if n_jobs is not None:
        threads = require_integer("n_jobs", n_jobs, least=1)
    factors = shape.at_steps(np.arange(n_steps, dtype=np.float64), length)
    starts, streams = _draws(problem, n_replicas, seed)
    losses = np.empty((n_replicas, n_steps + 1))
    # A run may diverge, which its losses tell.
    with np.errstate(over="ignore", invalid="ignore"):
        weight = 0.5 * problem.spectrum.multiplicity * problem.spectrum.curvature
        losses[:, 0] = starts**2 @ weight
        advance = _advance(problem, optimizer, optimizer.learning_rate * factors, weight)
        _run(advance, starts, streams, losses, threads)
        error = np.full(n_steps + 1, np.nan)
        if n_replicas > 1:
            error = losses.std(axis=0, ddof=1) / np.sqrt(n_replicas)
        return Simulation(losses.mean(axis=0), error)


def _run(
    advance: Advance, starts: Array, streams: list[Generator], losses: Array, threads: int
) -> None:
    """Write the losses of every replica after each step."""
    n_replicas, n_modes = starts.shape
    n_steps = losses.shape[1] - 1
    rows = max(CHUNK // n_modes, 1)
    stop = threading.Event()

    def replica(index: int) -> None:
        noise = np.empty((min(rows, n_steps), n_modes))
        state = np.zeros((3, n_modes))
        state[0] = starts[index]
        for first in range(0, n_steps, rows):
            if stop.is_set():
                return
            drawn = noise[: n_steps - first]
            streams[index].standard_normal(out=drawn)
            advance(first, drawn, state, losses[index, first + 1 : first + 1 + len(drawn)])

    with ThreadPoolExecutor(min(threads, n_replicas)) as pool:
        try:
            for _ in pool.map(replica, range(n_replicas)):
                pass
        except BaseException:
            # Ctrl-C would otherwise wait for the replicas under way, as the pool does.
            stop.set()
            raise


def _draws(problem: NoisyQuadratic, n_replicas: int, seed: int) -> tuple[Array, list[Generator]]:
    """The starts, shape (replicas, modes), and each replica's stream of noise.

    A stream gives one standard normal number per mode, step after step. Drawing takes nine tenths
    of the time; SFC64 is the fastest that NumPy has.
    """
    start, noise = np.random.SeedSequence(seed).spawn(2)
    streams = [Generator(np.random.SFC64(each)) for each in noise.spawn(n_replicas)]
    return _starts(problem, n_replicas, np.random.default_rng(start)), streams


def _starts(problem: NoisyQuadratic, n_replicas: int, rng: Generator) -> Array:
    from scipy.special import ndtri

    spectrum = problem.spectrum
    shape = (n_replicas, len(spectrum))
    stratum = rng.permuted(np.broadcast_to(np.arange(n_replicas)[:, None], shape), axis=0)
    z = ndtri((stratum + rng.uniform(size=shape)) / n_replicas)
    return np.asarray(spectrum.initial_mean + np.sqrt(spectrum.initial_variance) * z)


def _advance(problem: NoisyQuadratic, optimizer: Optimizer, rates: Array, weight: Array) -> Advance:
    """The optimizer's steps as a function; what they share is computed once."""
    h = problem.spectrum.curvature
    deviation = np.sqrt(problem.spectrum.noise / problem.batch_size)
    # Floats, always: a kernel is compiled once for each combination of types it is called with.
    if isinstance(optimizer, SGD):
        preconditioner = h**-optimizer.preconditioner_power
        linear = float(optimizer.momentum), bool(optimizer.nesterov), float(optimizer.ema_decay)

        def sgd(first: int, noise: Array, state: Array, losses: Array) -> None:
            if first == 0:
                state[2] = state[0]  # e_0 = theta_0
            now = rates[first : first + len(noise)]
            sgd_steps(linear, now, h, preconditioner, deviation, weight, noise, state, losses)

        return sgd
    decays = float(optimizer.beta1), float(optimizer.beta2), float(optimizer.eps)
    t = np.arange(1.0, rates.size + 1.0)
    corrected = rates / (1.0 - decays[0] ** t)
    scales = 1.0 / np.sqrt(1.0 - decays[1] ** t)

    def adam(first: int, noise: Array, state: Array, losses: Array) -> None:
        now = slice(first, first + len(noise))
        adam_steps(decays, corrected[now], scales[now], h, deviation, weight, noise, state, losses)

    return adam
