"""Direct simulation: its arithmetic, its draws, and its agreement with the exact risks.

The simulation shares no formula with the exact risks, and is an oracle of them.
"""

import os
import signal
import subprocess
import sys

import chains
import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import kstest

import nqm_study as nqm
from nqm_study.model import simulate as simulation
from nqm_study.model.numerics.replicas import quantiles

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


def step_by_step(problem, optimizer, rates, starts, noise):
    """theta^2 of every chain after each step, as one would write it in NumPy; chains come first."""
    spectrum = problem.spectrum
    h = spectrum.curvature[:, None]
    scale = np.sqrt(spectrum.noise / problem.batch_size)[:, None]
    theta = averaged = starts
    m, v, buffer = np.zeros_like(theta), np.zeros_like(theta), np.zeros_like(theta)
    squares = [averaged**2]
    for t, lr in enumerate(rates, start=1):
        g = h * theta + scale * noise[t - 1]
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
        squares.append(averaged**2)
    return np.array(squares)


@pytest.mark.parametrize("schedule", [nqm.Constant(), nqm.Cosine(0.1, 0.2)])
@pytest.mark.parametrize("optimizer", LINEAR + ADAMS)
def test_kernels_are_the_updates_on_the_same_noise(optimizer, schedule, monkeypatch):
    # Chunks of a few steps, the last of them short.
    monkeypatch.setattr(simulation, "CHUNK", 7 * 2 * 52 * len(SPECTRUM))
    steps, replicas = 60, 5
    run = nqm.simulate(PROBLEM, optimizer, schedule, n_steps=steps, n_replicas=replicas, seed=2)
    rates = optimizer.learning_rate * schedule.at_steps(np.arange(float(steps)), steps)
    starts, weights, noise = chains.drawn(PROBLEM, steps, replicas, 2)
    mean, error = chains.told(weights, step_by_step(PROBLEM, optimizer, rates, starts, noise))
    np.testing.assert_allclose(run.mean, mean, rtol=1e-11)
    np.testing.assert_allclose(run.standard_error, error, rtol=1e-9)


@pytest.mark.parametrize(
    "optimizer", [nqm.SGD(0.2, 0.9, nesterov=True, ema_decay=0.5), nqm.Adam(0.05)]
)
def test_result_depends_neither_on_threads_nor_on_chunks(optimizer, monkeypatch):
    problem = nqm.NoisyQuadratic(nqm.power_law(100), 4)

    def run(n_jobs):
        return nqm.simulate(problem, optimizer, n_steps=50, n_replicas=9, seed=3, n_jobs=n_jobs)

    one = run(1)
    for n_jobs, chunk in ((2, 2**14), (16, 2**14), (None, 2**14), (2, 1), (1, 700)):
        monkeypatch.setattr(simulation, "CHUNK", chunk)
        other = run(n_jobs)
        np.testing.assert_array_equal(other.mean, one.mean)
        np.testing.assert_array_equal(other.standard_error, one.standard_error)
    monkeypatch.setattr(simulation, "BLOCK", 1000)
    other = run(1)
    np.testing.assert_allclose(other.mean, one.mean, rtol=1e-13)  # another order of the sum
    np.testing.assert_allclose(other.standard_error, one.standard_error, rtol=1e-12)


def test_noise_is_standard_normal_and_each_chains_own():
    _, _, noise = chains.drawn(PROBLEM, 400, 6, 0)
    assert kstest(noise.ravel()[::3], "norm").pvalue > 0.01
    assert np.mean(noise**2) == pytest.approx(1.0, abs=5.0 * np.sqrt(2.0 / noise.size))
    values = quantiles()
    assert [np.mean(values**k) for k in (1, 2, 3, 4)] == pytest.approx([0, 1, 0, 3], abs=1e-3)
    streams = noise.reshape(400, -1).T
    assert len(streams) == 6 * 2 * 4 * 43
    correlation = np.corrcoef(streams) - np.eye(len(streams))
    assert np.abs(correlation).max() < 6.0 / np.sqrt(400)
    apart = [np.corrcoef(noise[:-lag].ravel(), noise[lag:].ravel())[0, 1] for lag in (1, 2, 7)]
    assert np.abs(apart).max() < 5.0 / np.sqrt(noise.size)


def test_twins_start_in_one_stratum_each_and_count_as_normal_starts():
    spectrum = nqm.power_law(20)
    starts, weights, _ = chains.drawn(nqm.NoisyQuadratic(spectrum, 4), 1, 10, 0)
    pairs = starts.shape[3]
    # z = y sqrt(1 + k y^2), backwards.
    k = simulation.STRETCH
    y = np.sign(starts) * np.sqrt((np.sqrt(1.0 + 4.0 * k * starts**2) - 1.0) / (2.0 * k))
    stratum = np.floor(10 * pairs * ndtr(y)).transpose(1, 2, 0, 3).reshape(2, 20, -1)
    np.testing.assert_array_equal(stratum[0], stratum[1])
    every = np.broadcast_to(np.arange(10.0 * pairs), stratum[0].shape)
    np.testing.assert_array_equal(np.sort(stratum[0], axis=1), every)
    assert not np.array_equal(stratum[0, 0], stratum[0, 1])
    share = weights * 2 * pairs / (0.5 * spectrum.curvature[:, None])
    assert share.max() < 1.7
    for values, expected, rel in (
        (np.ones_like(starts), 1.0, 1e-3),
        (starts**2, 1.0, 5e-3),
        (starts**4, 3.0, 0.02),
        (np.abs(starts) > 3.0, 2.0 * ndtr(-3.0), 0.03),
        (np.abs(starts) > 5.0, 2.0 * ndtr(-5.0), 0.2),
    ):
        assert np.mean(share * values) == pytest.approx(expected, rel=rel)


SETTINGS = [
    (PROBLEM, nqm.SGD(0.05), 80),
    (PROBLEM, nqm.SGD(0.3, momentum=0.9, ema_decay=0.5), 80),
    (nqm.NoisyQuadratic(nqm.power_law(8), 4096), nqm.SGD(1.9), 80),
    (PROBLEM, nqm.Adam(0.05), 80),
    (nqm.NoisyQuadratic(nqm.power_law(8), 4096), nqm.Adam(0.1, 0.0, 0.9), 80),
    (nqm.NoisyQuadratic(nqm.Spectrum([1.0]), 65536), nqm.Adam(0.04), 80),
]


@pytest.mark.parametrize("work", [0, 2**17], ids=["few chains", "some chains"])
@pytest.mark.parametrize(("problem", "optimizer", "steps"), SETTINGS)
def test_standard_error_is_the_scatter_of_means_over_seeds(
    problem, optimizer, steps, work, monkeypatch
):
    monkeypatch.setattr(simulation, "WORK", work)
    n = 200
    runs = [
        nqm.simulate(problem, optimizer, n_steps=steps, seed=seed, n_jobs=1) for seed in range(n)
    ]
    means = np.array([run.mean for run in runs])
    stated = np.mean([run.standard_error**2 for run in runs], axis=0)
    ratio = np.sqrt(stated / means.var(axis=0, ddof=1))
    # The scatter of 200 means is itself known to 5 percent, more where few starts carry it.
    assert np.median(ratio) == pytest.approx(1.0, abs=0.1)
    assert np.all(np.abs(np.log(ratio)) < (0.3 if work else 0.5))


def test_rare_starts_far_out_are_seen_and_the_error_covers():
    # At 50 steps only what starts beyond |theta_0| = 2 is left: 1.42560e-2 by importance sampling,
    # of which 8 or 512 starts drawn as they are distributed see a tenth or two thirds.
    problem, optimizer = nqm.NoisyQuadratic(nqm.Spectrum([1.0]), 65536), nqm.Adam(0.04)
    right = 1.42560e-2
    runs = [nqm.simulate(problem, optimizer, n_steps=200, seed=seed) for seed in range(200)]
    z = np.array([(run.mean[50] - right) / run.standard_error[50] for run in runs])
    assert np.abs(z).max() < 5.0
    assert abs(z.mean()) < 0.25
    assert 0.85 < z.std() < 1.15
    assert max(run.standard_error[50] for run in runs) < 0.02 * right
    many = nqm.simulate(problem, optimizer, n_steps=200, n_replicas=512)
    assert abs(many.mean[50] - right) < 4.0 * many.standard_error[50]
    # At 150 steps it is what starts beyond 4 standard deviations, one in 16,000.
    assert np.all(runs[0].standard_error < 0.3 * runs[0].mean)


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
    assert abs(run.mean[0] - SPECTRUM.initial_risk) < 4.0 * run.standard_error[0]
    assert run.standard_error[0] < 0.01 * run.mean[0]


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
