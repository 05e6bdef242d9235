"""Simulated least squares against the exact moments, and against inputs drawn one by one."""

import least_squares
import numpy as np
import pytest
from scipy.stats import ks_2samp

import nqm_study as nqm
from nqm_study.model import fresh_examples
from nqm_study.model.schedules import as_schedule, batched

SPECTRUM = nqm.Spectrum(
    curvature=[1.0, 0.5, 0.1, 0.02],
    multiplicity=[1.0, 2.0, 3.0, 10.0],
    initial_mean=[0.0, 1.0, -0.5, 1.0],
    initial_variance=[1.0, 0.0, 0.5, 1.0],
)
LINEAR = [
    nqm.SGD(0.2),
    nqm.SGD(0.04, momentum=0.8),
    nqm.SGD(0.04, momentum=0.8, nesterov=True),
    nqm.SGD(0.2, ema_decay=0.9),
    nqm.PolyakAverage(nqm.SGD(0.2), start=20),
    nqm.SGD(0.1, preconditioner_power=0.5),
    nqm.ScheduleFree(0.2),
    nqm.WeightDecayed(nqm.SGD(0.2), weight_decay=0.1),
]


def plain_losses(problem, optimizer, rates, sizes, replicas, seed=0):
    """The losses of replicas after each step, every input and label drawn; batches of a size."""
    m = problem.spectrum.multiplicity.astype(int)
    h, a, s = (
        each.repeat(m)
        for each in (
            problem.spectrum.curvature,
            problem.spectrum.initial_mean,
            problem.spectrum.initial_variance,
        )
    )
    rng = np.random.default_rng(seed)
    theta = a + np.sqrt(s) * rng.normal(size=(replicas, h.size))
    first, u, v = theta, np.zeros_like(theta), np.zeros_like(theta)
    losses = [0.5 * theta**2 @ h]
    for t, (rate, size) in enumerate(zip(rates, sizes, strict=True), start=1):
        x = np.sqrt(h) * rng.normal(size=(replicas, size, h.size))
        e = np.sqrt(problem.label_noise) * rng.normal(size=(replicas, size))
        residual = (x @ theta[:, :, None])[:, :, 0] - e
        g = np.mean(x * residual[:, :, None], axis=1)
        if isinstance(optimizer, nqm.Adam):
            u = optimizer.beta1 * u + (1 - optimizer.beta1) * g
            v = optimizer.beta2 * v + (1 - optimizer.beta2) * g**2
            below = np.sqrt(v / (1 - optimizer.beta2**t)) + optimizer.eps
            moved = u / (1 - optimizer.beta1**t) / below
            theta = theta - rate * (moved + optimizer.weight_decay * (theta - first))
        else:
            u = optimizer.momentum * u + g
            theta = theta - rate * u
        losses.append(0.5 * theta**2 @ h)
    return np.array(losses).T


@pytest.mark.parametrize(("size", "label_noise"), [(1, 0.0), (1, 1.0), (16, 0.0), (16, 1.0)])
@pytest.mark.parametrize("optimizer", LINEAR)
def test_mean_is_the_exact_risk(optimizer, size, label_noise):
    problem = nqm.LeastSquares(SPECTRUM, size, label_noise)
    run = nqm.simulate(problem, optimizer, n_steps=60, n_replicas=1000, seed=3)
    exact = least_squares.risks(problem, optimizer, 60)
    assert np.all(run.standard_error < 0.2 * exact)
    assert np.all(np.abs(run.mean - exact) < 4.0 * run.standard_error)


@pytest.mark.parametrize("optimizer", [LINEAR[0], LINEAR[2], LINEAR[4]])
def test_mean_is_the_exact_risk_under_schedules(optimizer):
    problem = nqm.LeastSquares(SPECTRUM, 5, 0.3)
    schedule, ramp, steps = nqm.Cosine(0.05, warmup_fraction=0.1), nqm.BatchRamp(), np.arange(60.0)
    run = nqm.simulate(
        problem, optimizer, schedule, n_steps=60, n_replicas=2000, batch_schedule=ramp
    )
    shape = batched(as_schedule(schedule), ramp, problem.batch_size)
    sizes = problem.batch_size / shape.noise(steps, 60)
    assert sizes.min() >= 1.0
    assert sizes.max() > 1.5 * sizes.min()
    exact = least_squares.risks(problem, optimizer, 60, shape.at_steps(steps, 60), sizes)
    assert np.all(np.abs(run.mean - exact) < 4.0 * run.standard_error)


@pytest.mark.parametrize(
    "optimizer",
    [nqm.SGD(0.1, momentum=0.8), nqm.Adam(0.05, 0.8, 0.95), nqm.Adam(0.1, weight_decay=0.5)],
)
@pytest.mark.parametrize(("size", "label_noise"), [(1, 0.5), (3, 0.0), (8, 0.5)])
def test_losses_are_distributed_as_those_of_inputs_drawn_one_by_one(optimizer, size, label_noise):
    problem = nqm.LeastSquares(SPECTRUM, size, label_noise)
    rates, sizes, replicas = np.full(12, optimizer.learning_rate), np.full(12, size), 3000
    plain = plain_losses(problem, optimizer, rates, sizes, replicas)
    ours = fresh_examples.fresh_losses(problem, optimizer, rates, 1.0 * sizes, replicas, 5, 2)
    for step in (0, 1, 2, 5, 12):
        assert ks_2samp(plain[:, step], ours[:, step]).pvalue > 1e-3
    error = np.hypot(plain.std(axis=0), ours.std(axis=0)) / np.sqrt(replicas)
    assert np.all(np.abs(plain.mean(axis=0) - ours.mean(axis=0)) < 4.0 * error)


def test_gradient_has_the_moments_of_a_batch_between_two_whole_ones():
    # One step of SGD from a given start tells the second moment of each mode's gradient.
    spectrum = nqm.Spectrum([1.0, 0.5], initial_mean=[1.0, -2.0], initial_variance=0.0)
    for size in (1.0, 1.5, 2.5):
        problem = nqm.LeastSquares(spectrum, size, 0.3)
        run = nqm.simulate(problem, nqm.SGD(0.7), n_steps=1, n_replicas=4000)
        exact = least_squares.risks(problem, nqm.SGD(0.7), 1)
        assert run.mean[0] == pytest.approx(exact[0])
        assert abs(run.mean[1] - exact[1]) < 4.0 * run.standard_error[1]


def test_weights_at_the_optimum_move_by_label_noise_alone():
    spectrum = nqm.Spectrum([1.0, 0.5], initial_variance=0.0)
    still = nqm.simulate(nqm.LeastSquares(spectrum, 2, 0.0), nqm.SGD(0.5), n_steps=5)
    np.testing.assert_array_equal(still.mean, 0.0)
    problem = nqm.LeastSquares(spectrum, 2, 0.6)
    run = nqm.simulate(problem, nqm.SGD(0.5), n_steps=5, n_replicas=4000)
    exact = least_squares.risks(problem, nqm.SGD(0.5), 5)
    assert np.all(np.abs(run.mean - exact)[1:] < 4.0 * run.standard_error[1:])


@pytest.mark.parametrize("optimizer", [nqm.SGD(0.2, 0.5), nqm.Adam(0.05)])
def test_result_depends_neither_on_threads_nor_on_chunks(optimizer, monkeypatch):
    problem = nqm.LeastSquares(nqm.power_law(101), 4)

    def run(n_jobs):
        return nqm.simulate(problem, optimizer, n_steps=50, n_replicas=5, seed=3, n_jobs=n_jobs)

    one = run(1)
    for n_jobs, chunk in ((2, 2**14), (None, 700), (1, 1)):
        monkeypatch.setattr(fresh_examples, "CHUNK", chunk)
        np.testing.assert_array_equal(run(n_jobs).mean, one.mean)
    assert not np.array_equal(
        nqm.simulate(problem, optimizer, n_steps=50, n_replicas=5, seed=4).mean, one.mean
    )


def test_unstable_runs_grow_without_a_warning():
    problem = nqm.LeastSquares(nqm.power_law(10), 1)
    run = nqm.simulate(problem, nqm.SGD(9.0), n_steps=2000, n_replicas=2)
    assert not np.isfinite(run.mean[-1])


def test_one_replica_has_no_standard_error():
    problem = nqm.LeastSquares(nqm.power_law(10), 4)
    assert np.isnan(nqm.simulate(problem, nqm.SGD(0.1), n_steps=3, n_replicas=1).standard_error[3])


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (
            nqm.LeastSquares(nqm.power_law(4), 0.5),
            r"^batch_size=0\.5: must be at least 1 where examples are drawn$",
        ),
        (
            nqm.LeastSquares(nqm.Spectrum([1.0, 0.5], multiplicity=[2.0, 1.5]), 4),
            r"^multiplicity\[1\]=1\.5: must be an integer where examples are drawn$",
        ),
        (
            nqm.LeastSquares(nqm.Spectrum([1.0, 0.5], multiplicity=[2.0, 2**20]), 4),
            r"^multiplicity: must add up to at most 1,048,576 modes where examples are drawn$",
        ),
        (
            nqm.LeastSquares(nqm.Spectrum([1.0, 0.5], noise=[1.0, 0.4]), 4),
            r"^noise\[1\]=0\.4: must be the curvature where examples are drawn, whose noise that",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(problem, message):
    with pytest.raises(ValueError, match=message):
        nqm.simulate(problem, nqm.SGD(0.1), n_steps=3)
