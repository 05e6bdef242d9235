"""Direct simulation: the updates themselves, on drawn gradients. No moments, no compression."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nqm_study.model.crossing import CONSTANT, require_run
from nqm_study.model.optimizers import SGD, Adam, Optimizer
from nqm_study.model.problem import NoisyQuadratic
from nqm_study.model.require import require_integer
from nqm_study.model.schedules import ScheduleLike

Array = npt.NDArray[np.float64]
Update = Callable[[Array, float], Array]
"""Gradient and learning rate -> what is added to theta."""


@dataclass(frozen=True, eq=False)
class Simulation:
    """The loss averaged over replicas.

    Attributes:
        mean: shape (n_steps + 1,), the mean loss after 0, 1, ... steps.
        standard_error: shape (n_steps + 1,), the standard error of that mean; NaN for one replica.
            The starts are stratified over replicas, so it errs on the large side.
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
) -> Simulation:
    """Run the optimizer on drawn gradients, in several replicas at once.

    Each mode's starts are stratified over the replicas: they fall one into each of n_replicas
    equally likely intervals, in random order. A mode of multiplicity m is drawn once and counts m
    times.

    Args:
        problem: spectrum and batch size.
        optimizer: ``SGD`` or ``Adam``.
        schedule: multiplies the learning rate, as in ``steps_to_target``.
        n_steps: steps to take, >= 0.
        n_replicas: independent runs, >= 1.
        seed: seed of a ``numpy.random.SeedSequence``, >= 0.
        horizon: the length of the run that the schedule is made for, >= n_steps; n_steps where not
            given.

    Raises:
        ValueError: if a value is outside its range or of the wrong kind.
    """
    shape = require_run(problem, optimizer, schedule)
    for name, value, least in (
        ("n_steps", n_steps, 0),
        ("n_replicas", n_replicas, 1),
        ("seed", seed, 0),
    ):
        require_integer(name, value, least=least)
    length = n_steps
    if horizon is not None:
        length = require_integer("horizon", horizon, least=n_steps)
    factors = shape.at_steps(np.arange(n_steps, dtype=np.float64), length)
    rates = (optimizer.learning_rate * factors).tolist()
    start_seed, noise_seed = np.random.SeedSequence(seed).spawn(2)
    spectrum = problem.spectrum
    h = spectrum.curvature
    theta = _starts(problem, n_replicas, np.random.default_rng(start_seed))
    scale = np.sqrt(spectrum.noise / problem.batch_size)
    rng = np.random.default_rng(noise_seed)
    update = _sgd(optimizer, h) if isinstance(optimizer, SGD) else _adam(optimizer)
    averaged = theta.copy()
    decay = optimizer.ema_decay if isinstance(optimizer, SGD) else 0.0
    losses = np.empty((n_steps + 1, n_replicas))
    weight = 0.5 * spectrum.multiplicity * h
    losses[0] = theta**2 @ weight
    for step in range(n_steps):
        gradient = h * theta + scale * rng.standard_normal(theta.shape)
        theta = theta + update(gradient, rates[step])
        averaged = decay * averaged + (1.0 - decay) * theta
        losses[step + 1] = averaged**2 @ weight
    error = np.full(n_steps + 1, np.nan)
    if n_replicas > 1:
        error = losses.std(axis=1, ddof=1) / np.sqrt(n_replicas)
    return Simulation(losses.mean(axis=1), error)


def _starts(problem: NoisyQuadratic, n_replicas: int, rng: np.random.Generator) -> Array:
    from scipy.special import ndtri  # noqa: PLC0415 (slow to import, and only needed here)

    spectrum = problem.spectrum
    shape = (n_replicas, len(spectrum))
    stratum = rng.permuted(np.broadcast_to(np.arange(n_replicas)[:, None], shape), axis=0)
    z = ndtri((stratum + rng.uniform(size=shape)) / n_replicas)
    return np.asarray(spectrum.initial_mean + np.sqrt(spectrum.initial_variance) * z)


def _sgd(optimizer: SGD, curvature: Array) -> Update:
    mu = optimizer.momentum
    preconditioner = curvature**-optimizer.preconditioner_power
    buffer = np.zeros(1)

    def update(gradient: Array, lr: float) -> Array:
        nonlocal buffer
        scaled = preconditioner * gradient
        buffer = mu * buffer + scaled
        return -lr * (scaled + mu * buffer if optimizer.nesterov else buffer)

    return update


def _adam(optimizer: Adam) -> Update:
    b1, b2 = optimizer.beta1, optimizer.beta2
    m, v, t = np.zeros(1), np.zeros(1), 0

    def update(gradient: Array, lr: float) -> Array:
        nonlocal m, v, t
        t += 1
        m = b1 * m + (1.0 - b1) * gradient
        v = b2 * v + (1.0 - b2) * gradient**2
        root = np.sqrt(v / (1.0 - b2**t)) + optimizer.eps
        moved = m / (1.0 - b1**t)
        # A mode without gradient has nothing to move: 0 / 0 is 0 there.
        return -lr * np.divide(moved, root, out=np.zeros_like(moved), where=root > 0.0)

    return update
