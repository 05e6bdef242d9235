"""What a simulation draws, chain by chain, and what it tells of them: for step-by-step oracles."""

import numpy as np

import nqm_study as nqm
from nqm_study.model import simulate as simulation
from nqm_study.model.numerics.replicas import draw, quantiles


def drawn(problem, n_steps, n_replicas, seed):
    """Starts and weights, shape (replicas, 2, modes, pairs), and noise, one such array a step."""
    starts, weights, keys = simulation._draws(problem, n_replicas, n_steps, seed)
    noise = np.empty((n_replicas, n_steps, starts[0].size))
    for key, each in zip(keys, noise, strict=True):
        draw(key, 0, starts[0, 0].size, quantiles(), each)
    return starts, weights, np.moveaxis(noise, 1, 0).reshape(n_steps, *starts.shape)


def told(weights, squares):
    """Mean and standard error after each step of squares of shape (steps + 1, *weights.shape)."""
    counted = weights * squares / len(weights)
    first, second = np.moveaxis(counted, 2, 0)
    axes = (1, 2, 3)
    return (first + second).sum(axis=axes), np.sqrt(np.sum((first - second) ** 2, axis=axes))


PROBLEM = nqm.NoisyQuadratic(
    nqm.Spectrum(
        curvature=[1.0, 0.5, 0.1, 0.01, 3.0],
        noise=[1.0, 2.0, 0.0, 0.3, 1e-6],
        initial_mean=[0.0, 1.0, -0.5, 2.0, 0.3],
        initial_variance=[1.0, 0.0, 0.5, 1.0, 1.0],
    ),
    4,
)
SCHEDULES = (nqm.Constant(), nqm.Cosine(0.05, warmup_fraction=0.1), nqm.StepDecay())


def require_same(optimizer, schedule, loop, power=0.0, n_steps=200):
    """Compare the simulation with a loop step by step, on the same noise.

    ``loop(theta_0, rates, gradient)`` gives what is judged after each step; ``gradient(theta, t)``
    is that of step t, times h^-power.
    """
    run = nqm.simulate(PROBLEM, optimizer, schedule, n_steps=n_steps, n_replicas=3, seed=7)
    starts, weights, noise = drawn(PROBLEM, n_steps, 3, 7)
    h = PROBLEM.spectrum.curvature[:, None]
    errors = np.sqrt(PROBLEM.spectrum.noise / PROBLEM.batch_size)[:, None] * noise
    rates = optimizer.learning_rate * schedule.at_steps(np.arange(float(n_steps)), n_steps)

    def gradient(theta, t):
        return h**-power * (h * theta + errors[t])

    judged = [starts, *loop(starts, rates.tolist(), gradient)]
    mean, error = told(weights, np.array(judged) ** 2)
    np.testing.assert_allclose(run.mean, mean, rtol=1e-9)
    np.testing.assert_allclose(run.standard_error, error, rtol=1e-9)
