"""Runs of least squares on fresh examples, drawn: x ~ N(0, H), y = x . w* + e. No moments.

The gradient of a batch of B examples at theta is the mean of x (x . theta - e). Whatever B, it is
drawn exactly by d + 3 numbers, d the number of modes. In the basis of H an example is x =
H^1/2 zeta with zeta ~ N(0, I). Let u be the direction of H^1/2 theta and rho its length. Then
x . theta = rho s with s = zeta . u, so that the residuals r = rho s - sigma eps, sigma^2 the label
noise, depend on zeta along u only, and what is across u is independent of them:

    g = H^1/2 (u sum s r + (xi - u (u . xi)) |r|) / B,      xi ~ N(0, I), |r|^2 = sum r^2.

Of the B pairs (s, eps) only sum s^2, sum s eps and sum eps^2 are needed: a Wishart matrix of B
degrees of freedom, by Bartlett's decomposition q^2, q n and n^2 + rest, with q^2 ~ chi^2(B),
n ~ N(0, 1) and rest ~ chi^2(B - 1). With w = rho q - sigma n that is

    g = H^1/2 (u q w + (xi - u (u . xi)) sqrt(w^2 + sigma^2 rest)) / B.

It is so for real B >= 1 as well, of which a batch schedule makes some: first and second moments of
g given theta are those of whole B. With theta = 0 any u will do, and none is taken.

| optimizer | update |
|---|---|
| linear ones | z' = drift z + gain P g, g at point . z; the loss is that of readout . z |
| Adam | as in ``simulate`` |

All modes meet in rho and u . xi, so that a replica is one run of all modes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from nqm_study.model.numerics.arrays import Array
from nqm_study.model.numerics.compiled import Like, compiled, compiled_within
from nqm_study.model.numerics.replicas import CHUNK, draw, in_threads, quantiles
from nqm_study.model.numerics.require import require_each
from nqm_study.model.optimizers import LinearOptimizer, Optimizer
from nqm_study.model.optimizers.steps import Steps
from nqm_study.model.problems.problem import Problem
from nqm_study.model.problems.spectrum import Spectrum

MOST_MODES = 2**20
"""Modes of a run, which takes some 10 ms a step and replica with so many."""


@compiled_within
def _gradient(batch: Array, root: Array, xi: Array, at: Array, g: Array) -> None:
    """Put the gradient at some weights into g.

    Args:
        batch: q / B, sigma n / B, sigma^2 rest / B^2 and B.
        root: sqrt(h).
        xi: standard normal numbers.
        at: the weights.
        g: receives the gradient.
    """
    square, across = 0.0, 0.0
    for k in range(at.size):
        y = root[k] * at[k]
        square += y * y
        across += y * xi[k]
    rho = np.sqrt(square)
    w = rho * batch[0] - batch[1]
    other = np.sqrt(w * w + batch[2])
    # Of H^1/2 theta, which is rho u.
    along = (batch[3] * batch[0] * w - across / rho * other) / rho if rho > 0.0 else 0.0
    for k in range(at.size):
        g[k] = root[k] * (along * root[k] * at[k] + other * xi[k])


@compiled_within
def put_point(like: Like, point: Array, state: Array, at: Array) -> None:
    """Put where a linear optimizer takes its gradient, point . z of each mode, into at."""
    for m in range(at.size):
        at[m] = 0.0
        for c in range(len(like)):
            at[m] += point[c] * state[c, m]


@compiled_within
def linear_step(
    like: Like, readout: int, drift: Array, gain: Array, root: Array, scale: Array, g: Array,
    moved: Array, state: Array,
) -> float:  # fmt: skip
    """Take one step of a linear optimizer along a gradient; return the loss after it.

    The arguments are those of ``linear_run`` at the step, g the gradient, and moved room for k
    numbers.
    """
    loss = 0.0
    for m in range(g.size):
        for c in range(len(like)):
            moved[c] = gain[c] * scale[m] * g[m]
            for d in range(len(like)):
                moved[c] += drift[c, d] * state[d, m]
        for c in range(len(like)):
            state[c, m] = moved[c]
        loss += (root[m] * moved[readout]) ** 2
    return 0.5 * loss


@compiled_within
def adam_step(
    optimizer: tuple[float, float, float], decay: float | None, plain: float, rate: float,
    scale: float, root: Array, g: Array, state: Array,
) -> float:  # fmt: skip
    """Take one step of Adam along a gradient; return the loss after it.

    The arguments are those of ``adam_run`` at the step, and g the gradient.
    """
    b1, b2, eps = optimizer
    loss = 0.0
    for k in range(g.size):
        m = b1 * state[1, k] + (1.0 - b1) * g[k]
        v = b2 * state[2, k] + (1.0 - b2) * g[k] * g[k]
        below = np.sqrt(v) * scale + eps
        theta = state[0, k]
        if decay is not None:
            theta -= decay * plain * (theta - state[3, k])
        # A mode without gradient has nothing to move: 0 / 0 is 0 there.
        theta -= rate * (m / below if below != 0.0 else 0.0)
        state[0, k] = theta
        state[1, k] = m
        state[2, k] = v
        loss += (root[k] * theta) ** 2
    return 0.5 * loss


@compiled
def linear_run(
    like: Like, readout: int, drift: Array, gain: Array, point: Array, root: Array, scale: Array,
    batches: Array, noise: Array, state: Array, losses: Array,
) -> None:  # fmt: skip
    """Take one step of a linear optimizer for each row of noise.

    The first five arguments are the optimizer's ``Steps``. The others:

    - root: sqrt(h) of each mode.
    - scale: what its gradients are multiplied by.
    - batches: of each step, as ``_gradient`` takes them, shape (steps, 4).
    - noise: standard normal numbers, shape (steps, at least as many as modes).
    - state: z of each mode, shape (k, modes).
    - losses: receives the loss after each step.
    """
    at, g, moved = np.empty(root.size), np.empty(root.size), np.empty(len(like))
    for i in range(losses.size):
        put_point(like, point[i], state, at)
        _gradient(batches[i], root, noise[i], at, g)
        losses[i] = linear_step(like, readout, drift[i], gain[i], root, scale, g, moved, state)


@compiled
def adam_run(
    optimizer: tuple[float, float, float], decay: float | None, plain: Array, rates: Array,
    scales: Array, root: Array, batches: Array, noise: Array, state: Array, losses: Array,
) -> None:  # fmt: skip
    """Take one step of Adam for each row of noise.

    The arguments are those of ``linear_run``, with the ``Steps`` of Adam.
    """
    g = np.empty(root.size)
    for i in range(losses.size):
        _gradient(batches[i], root, noise[i], state[0], g)
        losses[i] = adam_step(optimizer, decay, plain[i], rates[i], scales[i], root, g, state)


def fresh_losses(
    problem: Problem,
    optimizer: Optimizer,
    rates: Array,
    sizes: Array,
    n_replicas: int,
    seed: int,
    threads: int,
) -> Array:
    """The loss of each replica after 0, 1, ... steps, shape (n_replicas, steps + 1).

    Args:
        problem: spectrum and label noise.
        optimizer: a ``LinearOptimizer``, or ``Adam``.
        rates: of each step.
        sizes: batch sizes of each step.
        n_replicas: runs with starts and examples of their own.
        seed: of a ``numpy.random.SeedSequence``.
        threads: that share the replicas.

    Raises:
        ValueError: if modes or batches are none that can be drawn.
    """
    modes = _require_modes(problem.spectrum)
    if np.any(sizes < 1.0):
        raise ValueError(f"batch_size={sizes.min():g}: must be at least 1 where examples are drawn")
    n_steps, n_modes = rates.size, len(modes)
    root = np.sqrt(modes.curvature)
    of_run, of_modes = Steps.of(optimizer, rates), [root]
    kernel: Callable[..., None] = adam_run
    if isinstance(optimizer, LinearOptimizer):
        kernel = linear_run
        of_modes.append(np.asarray(optimizer.preconditioner(modes.curvature)))
    seeds = np.random.SeedSequence(seed).spawn(n_replicas)
    values, pairs = quantiles(), (n_modes + 1) // 2
    rows = max(CHUNK // (2 * pairs), 1)
    losses = np.empty((n_replicas, n_steps + 1))

    def replica(index: int, stop: threading.Event) -> None:
        rng = np.random.default_rng(seeds[index])
        theta = modes.initial_mean + np.sqrt(modes.initial_variance) * rng.normal(size=n_modes)
        losses[index, 0] = 0.5 * np.sum((root * theta) ** 2)
        batches = _batches(sizes, problem.steady_noise, rng)
        key, state = rng.integers(2**64, dtype=np.uint64), np.multiply.outer(of_run.start, theta)
        noise = np.empty((min(rows, n_steps), 2 * pairs))
        for first in range(0, n_steps, rows):
            if stop.is_set():
                return
            now = slice(first, min(first + rows, n_steps))
            draw(key, first * pairs, pairs, values, noise[: now.stop - first])
            kernel(
                *of_run.constants, *(each[now] for each in of_run.of_steps), *of_modes,
                batches[now], noise, state, losses[index, 1:][now],
            )  # fmt: skip

    in_threads(replica, n_replicas, threads)
    return losses


def _batches(sizes: Array, label_noise: float, rng: np.random.Generator) -> Array:
    """What ``_gradient`` takes of each step's batch: q / B, sigma n / B, sigma^2 rest / B^2, B."""
    q = np.sqrt(2.0 * rng.standard_gamma(0.5 * sizes)) / sizes
    n = np.sqrt(label_noise) * rng.normal(size=sizes.size) / sizes
    rest = label_noise * 2.0 * rng.standard_gamma(0.5 * (sizes - 1.0)) / sizes**2
    return np.stack((q, n, rest, sizes), axis=1)


def _require_modes(spectrum: Spectrum) -> Spectrum:
    """The spectrum with every mode by itself.

    Raises:
        ValueError: if there are too many or parts of one, or their noise is not that of inputs.
    """
    m, drawn = spectrum.multiplicity, "where examples are drawn"
    require_each("multiplicity", m, m == np.floor(m), f"an integer {drawn}")
    if m.sum() > MOST_MODES:
        raise ValueError(f"multiplicity: must add up to at most {MOST_MODES:,} modes {drawn}")
    same = np.isclose(spectrum.noise, spectrum.curvature, rtol=1e-12, atol=0.0)
    require_each("noise", spectrum.noise, same, f"the curvature {drawn}, whose noise that is")
    parts = (spectrum.curvature, spectrum.noise, np.ones_like(m), spectrum.initial_mean,
             spectrum.initial_variance)  # fmt: skip
    return Spectrum(*(part.repeat(m.astype(np.int64)) for part in parts))
