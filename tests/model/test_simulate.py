"""Direct simulation: its arithmetic, its draws, and its agreement with the exact risks.

The simulation shares no formula with the exact risks, and is an oracle of them.
"""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from scipy.special import ndtr

import nqm_study as nqm
from nqm_study.model import simulate as simulation

SPECTRUM = nqm.Spectrum(
    curvature=[1.0, 0.5, 0.1, 0.01],
    noise=[1.0, 2.0, 0.0, 0.3],
    multiplicity=[1.0, 3.0, 2.0, 5.0],
    initial_mean=[0.0, 1.0, -0.5, 2.0],
    initial_variance=[1.0, 0.0, 0.5, 1.0],
)
PROBLEM = nqm.NoisyQuadratic(SPECTRUM, 4)
LINEAR = [
    nqm.SGD(0.5),
    nqm.SGD(1.9),
    nqm.SGD(0.3, momentum=0.9),
    nqm.SGD(0.2, momentum=0.9, nesterov=True),
    nqm.SGD(0.5, ema_decay=0.9),
    nqm.SGD(0.3, momentum=0.8, ema_decay=0.95),
    nqm.SGD(0.2, momentum=0.8, nesterov=True, ema_decay=0.9),
    nqm.SGD(0.2, preconditioner_power=0.5),
    nqm.SGD(0.05, momentum=0.5, nesterov=True, preconditioner_power=1.0, ema_decay=0.5),
]
ADAMS = [
    nqm.Adam(0.05),
    nqm.Adam(0.1, 0.0, 0.9),
    nqm.Adam(0.1, 0.8, 0.0, 0.1),  # a smaller eps would multiply rounding errors
    nqm.Adam(0.02, 0.95, 0.99, 0.0),
]


def draws(problem, n_steps, n_replicas, seed):
    """The starts, and the noise of shape (replicas, steps, modes), as a simulation draws them."""
    starts, streams = simulation._draws(problem, n_replicas, seed)
    shape = (n_steps, len(problem.spectrum))
    return starts, np.array([stream.standard_normal(shape) for stream in streams])


def step_by_step(problem, optimizer, rates, starts, noise):
    """The losses of each replica, shape (steps + 1, replicas), as one would write it in NumPy."""
    spectrum = problem.spectrum
    h, scale = spectrum.curvature, np.sqrt(spectrum.noise / problem.batch_size)
    theta = averaged = starts
    m, v, buffer = np.zeros_like(theta), np.zeros_like(theta), np.zeros_like(theta)
    losses = [averaged**2 @ (0.5 * spectrum.multiplicity * h)]
    for t, lr in enumerate(rates, start=1):
        g = h * theta + scale * noise[:, t - 1]
        if isinstance(optimizer, nqm.Adam):
            m = optimizer.beta1 * m + (1 - optimizer.beta1) * g
            v = optimizer.beta2 * v + (1 - optimizer.beta2) * g**2
            root = np.sqrt(v / (1 - optimizer.beta2**t)) + optimizer.eps
            theta = theta - lr * m / (1 - optimizer.beta1**t) / root
            averaged = theta
        else:
            g = h**-optimizer.preconditioner_power * g
            buffer = optimizer.momentum * buffer + g
            moved = g + optimizer.momentum * buffer if optimizer.nesterov else buffer
            theta = theta - lr * moved
            averaged = optimizer.ema_decay * averaged + (1 - optimizer.ema_decay) * theta
        losses.append(averaged**2 @ (0.5 * spectrum.multiplicity * h))
    return np.array(losses)


@pytest.mark.parametrize("schedule", [nqm.Constant(), nqm.Cosine(0.1, 0.2)])
@pytest.mark.parametrize("optimizer", LINEAR + ADAMS)
def test_kernels_are_the_updates_on_the_same_noise(optimizer, schedule, monkeypatch):
    # Chunks of a few steps, the last of them short.
    monkeypatch.setattr(simulation, "CHUNK", 7 * len(SPECTRUM))
    steps, replicas = 60, 5
    run = nqm.simulate(PROBLEM, optimizer, schedule, n_steps=steps, n_replicas=replicas, seed=2)
    rates = optimizer.learning_rate * schedule.at_steps(np.arange(float(steps)), steps)
    starts, noise = draws(PROBLEM, steps, replicas, 2)
    losses = step_by_step(PROBLEM, optimizer, rates, starts, noise)
    np.testing.assert_allclose(run.mean, losses.mean(axis=1), rtol=1e-11)
    error = losses.std(axis=1, ddof=1) / np.sqrt(replicas)
    np.testing.assert_allclose(run.standard_error, error, rtol=1e-10)


@pytest.mark.parametrize(
    "optimizer", [nqm.SGD(0.2, 0.9, nesterov=True, ema_decay=0.5), nqm.Adam(0.05)]
)
def test_result_depends_neither_on_threads_nor_on_chunks(optimizer, monkeypatch):
    problem = nqm.NoisyQuadratic(nqm.power_law(100), 4)

    def run(n_jobs):
        return nqm.simulate(problem, optimizer, n_steps=50, n_replicas=9, seed=3, n_jobs=n_jobs)

    one = run(1)
    for n_jobs, chunk in ((2, 2**16), (16, 2**16), (None, 2**16), (2, 1), (1, 700)):
        monkeypatch.setattr(simulation, "CHUNK", chunk)
        other = run(n_jobs)
        np.testing.assert_array_equal(other.mean, one.mean)
        np.testing.assert_array_equal(other.standard_error, one.standard_error)


def test_replicas_and_modes_have_noise_of_their_own():
    _, noise = draws(PROBLEM, 400, 6, 0)
    streams = np.moveaxis(noise, 1, 2).reshape(-1, 400)
    correlation = np.corrcoef(streams) - np.eye(len(streams))
    assert np.abs(correlation).max() < 5.0 / np.sqrt(400)


def test_starts_fall_one_into_each_stratum():
    starts, _ = draws(nqm.NoisyQuadratic(nqm.power_law(20), 4), 0, 10, 0)
    strata = np.sort(np.floor(10 * ndtr(starts)), axis=0)
    np.testing.assert_array_equal(strata, np.broadcast_to(np.arange(10.0)[:, None], (10, 20)))
    assert not np.array_equal(np.argsort(starts[:, 0]), np.argsort(starts[:, 1]))


def test_standard_error_errs_on_the_large_side():
    runs = [
        nqm.simulate(PROBLEM, nqm.SGD(0.05), n_steps=80, n_replicas=4, seed=seed)
        for seed in range(400)
    ]
    scatter = np.var([run.mean for run in runs], axis=0, ddof=1)
    stated = np.mean([run.standard_error**2 for run in runs], axis=0)
    # The scatter of 400 means is itself known to some 10 percent.
    assert np.all(scatter < 1.3 * stated)
    assert scatter[0] < 0.7 * stated[0], "stratified starts gain nothing"


@pytest.mark.parametrize("optimizer", [nqm.SGD(1e100, 0.9), nqm.Adam(1e200), nqm.SGD(1e308)])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_divergence_shows_in_the_losses_and_nowhere_else(optimizer, n_jobs):
    # Warnings are errors here.
    run = nqm.simulate(PROBLEM, optimizer, lambda _: 2.0, n_steps=50, n_jobs=n_jobs)
    assert np.isfinite(run.mean[0])
    assert not np.any(np.isfinite(run.mean[2:]))
    assert not np.any(np.isfinite(run.standard_error[2:]))


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to a process")
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_interrupt_ends_it_soon(n_jobs):
    program = (
        "import nqm_study as nqm\n"
        "problem = nqm.NoisyQuadratic(nqm.power_law(10_000), 16)\n"
        "nqm.simulate(problem, nqm.Adam(0.1), n_steps=1)\n"
        "print('ready', flush=True)\n"
        f"nqm.simulate(problem, nqm.Adam(0.1), n_steps=10**6, n_jobs={n_jobs})"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=20)
        finally:
            process.kill()
    assert errors.rstrip().endswith("KeyboardInterrupt")


@pytest.mark.parametrize("optimizer", LINEAR)
def test_mean_loss_agrees_with_the_exact_risk(optimizer):
    steps = 60
    run = nqm.simulate(PROBLEM, optimizer, n_steps=steps, n_replicas=4000, seed=1)
    exact = nqm.risk_curve(PROBLEM, optimizer, steps=range(steps + 1))
    distance = np.abs(run.mean - exact) / run.standard_error
    assert distance.max() < 4.0, f"off by {distance.max():.1f} errors at {distance.argmax()}"


def test_same_seed_gives_the_same_run():
    for optimizer in (nqm.SGD(0.3, momentum=0.9), nqm.Adam(0.01)):
        np.random.seed(0)  # noqa: NPY002 (the global state is what must not matter)
        one = nqm.simulate(PROBLEM, optimizer, n_steps=20, n_replicas=3, seed=5)
        np.random.seed(1)  # noqa: NPY002
        two = nqm.simulate(PROBLEM, optimizer, n_steps=20, n_replicas=3, seed=5)
        np.testing.assert_array_equal(one.mean, two.mean)
        np.testing.assert_array_equal(one.standard_error, two.standard_error)
        other = nqm.simulate(PROBLEM, optimizer, n_steps=20, n_replicas=3, seed=6)
        assert np.all(other.mean[1:] != one.mean[1:])


def test_global_random_state_is_left_alone():
    np.random.seed(0)  # noqa: NPY002 (the global state is what is looked at)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    nqm.simulate(PROBLEM, nqm.SGD(0.1), n_steps=5)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_simulation_starts_at_the_initial_risk():
    run = nqm.simulate(PROBLEM, nqm.SGD(0.1), n_steps=0, n_replicas=100)
    assert run.mean.shape == run.standard_error.shape == (1,)
    # Stratified starts are far closer than the standard error of independent ones.
    assert abs(run.mean[0] - SPECTRUM.initial_risk) < 0.5 * run.standard_error[0]


def test_one_replica_has_no_standard_error():
    run = nqm.simulate(PROBLEM, nqm.Adam(0.1), n_steps=3, n_replicas=1)
    assert np.all(np.isnan(run.standard_error))
    assert np.all(np.isfinite(run.mean))


def test_adam_without_noise_is_torchs_recursion():
    h = SPECTRUM.curvature
    still = nqm.Spectrum(h, 0.0, 1.0, [1.0, -2.0, 0.5, 3.0], 0.0)
    run = nqm.simulate(nqm.NoisyQuadratic(still, 1), nqm.Adam(0.1, 0.8, 0.9, 1e-3), n_steps=30,
                       n_replicas=1)  # fmt: skip
    theta, m, v = still.initial_mean.copy(), 0.0, 0.0
    for t in range(1, 31):
        g = h * theta
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
        theta = theta - 0.1 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.9**t)) + 1e-3)
        assert run.mean[t] == pytest.approx(0.5 * np.sum(h * theta**2), rel=1e-10)


def test_mode_with_nothing_to_move_stays():
    still = nqm.Spectrum([1.0, 0.5], noise=0.0, initial_mean=[0.0, 2.0], initial_variance=0.0)
    alone = nqm.Spectrum([0.5], noise=0.0, initial_mean=2.0, initial_variance=0.0)
    both, one = (
        nqm.simulate(nqm.NoisyQuadratic(each, 1), nqm.Adam(1e-3, eps=0.0), n_steps=10).mean
        for each in (still, alone)
    )
    np.testing.assert_allclose(both, one, rtol=1e-14)


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_steps", -1), ("n_steps", 2.0), ("n_steps", True), ("n_replicas", 0),
     ("n_replicas", None), ("seed", -1), ("seed", 1.5), ("n_jobs", 0), ("n_jobs", 2.0)],
)  # fmt: skip
def test_bad_counts_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"^{name}=.*must be an integer of at least"):
        nqm.simulate(PROBLEM, nqm.SGD(0.1), **{"n_steps": 1} | {name: value})
