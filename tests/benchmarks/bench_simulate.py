"""The simulation against the plain NumPy loop that one would write.

    pip install -e '.[bench]'
    python -m pytest tests/benchmarks/bench_*.py

The loop advances all replicas at once and draws a step's noise in one call, on one thread. That the
means agree is asserted, within their standard errors: the two draw different numbers.
"""

import os

import numpy as np
import pytest

import nqm_study as nqm

# A benchmark that stops at an assertion has nothing more to be told.
pytestmark = pytest.mark.filterwarnings("ignore:Benchmark fixture was not used")

STEPS, REPLICAS, MODES = 50, 64, 10_000
PROBLEM = nqm.NoisyQuadratic(nqm.power_law(MODES), 256)


def in_numpy(optimizer):
    """The mean loss after each step, and its standard error."""
    rng = np.random.default_rng(0)
    h = PROBLEM.spectrum.curvature
    scale = np.sqrt(PROBLEM.spectrum.noise / PROBLEM.batch_size)
    theta = rng.standard_normal((REPLICAS, h.size))
    m = v = buffer = np.zeros(1)
    losses = [theta**2 @ (0.5 * h)]
    for t in range(1, STEPS + 1):
        g = h * theta + scale * rng.standard_normal(theta.shape)
        if isinstance(optimizer, nqm.Adam):
            m = optimizer.beta1 * m + (1.0 - optimizer.beta1) * g
            v = optimizer.beta2 * v + (1.0 - optimizer.beta2) * g**2
            root = np.sqrt(v / (1.0 - optimizer.beta2**t)) + optimizer.eps
            moved = m / (1.0 - optimizer.beta1**t) / root
        else:
            moved = buffer = optimizer.momentum * buffer + g
        theta = theta - optimizer.learning_rate * moved
        losses.append(theta**2 @ (0.5 * h))
    return np.mean(losses, axis=1), np.std(losses, axis=1, ddof=1) / np.sqrt(REPLICAS)


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [("Adam", nqm.Adam(0.01)), ("momentum 0.9", nqm.SGD(0.1, 0.9))],
    ids=["Adam", "momentum"],
)
def test_simulation_against_numpy(name, optimizer, race, bar):
    def ours(n_jobs=None):
        return nqm.simulate(PROBLEM, optimizer, n_steps=STEPS, n_replicas=REPLICAS, n_jobs=n_jobs)

    run = ours()
    mean, error = in_numpy(optimizer)
    assert np.all(np.abs(mean - run.mean) < 6.0 * np.hypot(error, run.standard_error))
    mine, one, theirs = race(ours, lambda: ours(1), lambda: in_numpy(optimizer), rounds=3)
    for threads, seconds in ((os.cpu_count(), mine), (1, one)):
        each = 1e3 * seconds / (STEPS * REPLICAS)
        bar(
            f"simulation, {name}, {REPLICAS} x 10^4 modes, {threads} threads, NumPy",
            f"{theirs / seconds:.1f}x ({theirs:.2f} s against {seconds:.2f} s; "
            f"{each:.3f} ms a replica's step)",
        )
