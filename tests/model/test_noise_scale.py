"""The gradient noise scale against closed forms, the step-by-step recursion and a simulation."""

import math
from dataclasses import replace

import numpy as np
import pytest
import textbook
from hypothesis import given, strategies as st
from strategies import linear_optimizers, problems, repeatable

import nqm_study as nqm
from nqm_study.model.adaptive.nodes import Nodes
from nqm_study.model.noise_scale import WEIGHTINGS

SPECTRUM = nqm.Spectrum(
    curvature=[2.0, 0.5, 0.1, 0.1],
    noise=[1.0, 2.0, 0.0, 0.3],
    multiplicity=[1.0, 3.0, 2.0, 5.0],
    initial_mean=[0.0, 1.0, -0.5, 2.0],
    initial_variance=[1.0, 0.0, 0.5, 1.0],
)
PROBLEM = nqm.NoisyQuadratic(SPECTRUM, 4)
POWER = {"simple": 1, "hessian": 2}


def one_mode_at_a_time(problem, optimizer, n_steps, factors, weighting):
    """The ratio of the two sums, with E theta^2 of each mode from the textbook's recursion.

    By definition it is 0 where there is no noise, also where there is no gradient left.
    """
    spectrum = problem.spectrum
    noise, gradient = 0.0, 0.0
    for i in range(len(spectrum)):
        h, c, m = (float(v[i]) for v in (spectrum.curvature, spectrum.noise, spectrum.multiplicity))
        alone = nqm.Spectrum(
            [h], [c], [1.0], [spectrum.initial_mean[i]], [spectrum.initial_variance[i]]
        )
        one = nqm.NoisyQuadratic(alone, problem.batch_size)
        if isinstance(optimizer, nqm.Adam):
            nodes = Nodes.of(one, None, 4)
            risks = textbook.adam_risks(nodes, optimizer, n_steps, factors)
        else:
            risks = textbook.linear_risks(one, optimizer, n_steps, factors)
        second_moment = 2.0 * risks / h
        # G = h theta, and G^T H G has one more h, as tr(H Sigma) has.
        more = h if weighting == "hessian" else 1.0
        noise += m * c * more
        gradient = gradient + m * h**2 * second_moment * more
    with np.errstate(divide="ignore"):
        return noise / gradient if noise > 0.0 else np.zeros(n_steps + 1)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_of_one_mode_it_is_the_closed_form(weighting):
    h, c, m, size, lr = 0.5, 3.0, 7.0, 4.0, 0.6
    problem = nqm.NoisyQuadratic(nqm.Spectrum([h], [c], [m], [1.5], [0.25]), size)
    steps = np.array([0, 1, 2, 10, 1000])
    shrink = (1.0 - lr * h) ** (2.0 * steps)
    floor = lr**2 * c / size / (1.0 - (1.0 - lr * h) ** 2)
    second_moment = shrink * (1.5**2 + 0.25) + (1.0 - shrink) * floor
    found = nqm.gradient_noise_scale(problem, nqm.SGD(lr), steps=steps, weighting=weighting)
    # m and one h cancel, with either weight.
    np.testing.assert_allclose(found, c / (h**2 * second_moment), rtol=1e-12)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_it_is_zero_without_noise_also_at_the_minimum(weighting):
    # A rate of 1 reaches the minimum in the first step: no noise, and no gradient from there on.
    problem = nqm.NoisyQuadratic(nqm.Spectrum([1.0], [0.0], [1.0], [0.0], [1.0]), 1)
    found = nqm.gradient_noise_scale(problem, nqm.SGD(1.0), steps=[0, 1, 40], weighting=weighting)
    assert found.tolist() == [0.0, 0.0, 0.0]


@repeatable
@given(problems(), st.data())
def test_it_is_the_recursion_mode_by_mode(problem, data):
    optimizer = data.draw(linear_optimizers(problem.spectrum.curvature))
    weighting = data.draw(st.sampled_from(WEIGHTINGS))
    exact = one_mode_at_a_time(problem, optimizer, 40, None, weighting)
    steps = np.arange(41)
    found = nqm.gradient_noise_scale(problem, optimizer, steps=steps, weighting=weighting)
    np.testing.assert_allclose(found, exact, rtol=1e-7)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize(
    "optimizer", [nqm.SGD(0.4, 0.5, ema_decay=0.8), nqm.Adam(0.02), nqm.Adam(0.05, 0.5, 0.99)]
)
def test_it_is_that_of_a_run_under_a_schedule(optimizer, weighting):
    schedule, horizon = nqm.Cosine(0.1, 0.2), 200
    factors = [schedule(t / horizon) for t in range(horizon)]
    exact = one_mode_at_a_time(PROBLEM, optimizer, horizon, factors, weighting)
    steps = [200, 0, 3, 50, 3]
    found = nqm.gradient_noise_scale(
        PROBLEM, optimizer, schedule, steps=steps, horizon=horizon, weighting=weighting
    )
    rtol = 1e-9 if isinstance(optimizer, nqm.SGD) else 3e-3
    np.testing.assert_allclose(found, exact[steps], rtol=rtol)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize(
    "optimizer", [nqm.SGD(0.3), nqm.SGD(0.1, 0.9), nqm.SGD(0.3, 0.0, ema_decay=0.9)]
)
def test_gradients_of_a_simulation_have_its_length(optimizer, weighting):
    n_steps, replicas = 40, 4000
    rng = np.random.default_rng(5)
    h, m = SPECTRUM.curvature, SPECTRUM.multiplicity
    spread = np.sqrt(SPECTRUM.initial_variance)
    theta = SPECTRUM.initial_mean + spread * rng.standard_normal((replicas, h.size))
    average, buffer = theta, np.zeros_like(theta)
    weight = m * h ** (POWER[weighting] - 1.0)
    noise = np.sum(weight * SPECTRUM.noise)
    steps = [0, 1, 10, 40]
    found = nqm.gradient_noise_scale(PROBLEM, optimizer, steps=steps, weighting=weighting)
    lengths = {0: (h * average) ** 2 @ weight}
    for t in range(1, n_steps + 1):
        drawn = rng.standard_normal(theta.shape) * np.sqrt(SPECTRUM.noise / PROBLEM.batch_size)
        buffer = optimizer.momentum * buffer + h * theta + drawn
        theta = theta - optimizer.learning_rate * buffer
        average = optimizer.ema_decay * average + (1.0 - optimizer.ema_decay) * theta
        lengths[t] = (h * average) ** 2 @ weight
    for step, scale in zip(steps, found, strict=True):
        error = lengths[step].std(ddof=1) / math.sqrt(replicas)
        assert abs(noise / scale - lengths[step].mean()) < 4.0 * error


@pytest.mark.parametrize("optimizer", [nqm.SGD(0.5, 0.5), nqm.Adam(0.01)])
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_at_the_start_it_depends_on_the_spectrum_alone(optimizer, weighting):
    h, m, c = SPECTRUM.curvature, SPECTRUM.multiplicity, SPECTRUM.noise
    more = m * h ** (POWER[weighting] - 1.0)
    second_moment = SPECTRUM.initial_mean**2 + SPECTRUM.initial_variance
    start = np.sum(more * c) / np.sum(more * h**2 * second_moment)
    found = nqm.gradient_noise_scale(PROBLEM, optimizer, steps=[0], weighting=weighting)
    assert found == pytest.approx([start], rel=1e-9)


def test_on_the_papers_problem_it_starts_at_the_harmonic_number_over_its_square_sum():
    i = np.arange(1, 10_001)
    problem = nqm.NoisyQuadratic(nqm.power_law(10_000), 256)
    steps = [0, 10, 100, 1000, 10_000, 25_000]
    found = nqm.gradient_noise_scale(problem, nqm.SGD(0.5), steps=steps)
    assert found[0] == pytest.approx(np.sum(1.0 / i) / np.sum(1.0 / i**2), rel=1e-9)
    assert np.all(np.diff(found) > 0.0), "it does not grow along training"


@repeatable
@given(problems(), st.floats(-2.0, 2.0), st.data())
def test_units_of_the_loss_do_not_matter(problem, exponent, data):
    k = 10.0**exponent
    optimizer = data.draw(linear_optimizers(problem.spectrum.curvature))
    power = 1.0 - optimizer.preconditioner_power
    scaled = nqm.NoisyQuadratic(problem.spectrum.scaled(k), problem.batch_size)
    slower = replace(optimizer, learning_rate=optimizer.learning_rate / k**power)
    for weighting in WEIGHTINGS:
        one, two = (
            nqm.gradient_noise_scale(p, o, steps=[0, 1, 7, 30], weighting=weighting)
            for p, o in ((problem, optimizer), (scaled, slower))
        )
        np.testing.assert_allclose(one, two, rtol=1e-5)


def test_without_noise_it_is_zero_and_without_a_gradient_infinite():
    still = nqm.NoisyQuadratic(nqm.Spectrum([1.0, 0.5], 0.0), 4)
    for optimizer in (nqm.SGD(1.0), nqm.Adam(0.1)):
        assert list(nqm.gradient_noise_scale(still, optimizer, steps=[0, 5])) == [0.0, 0.0]
    at_rest = nqm.NoisyQuadratic(nqm.Spectrum([1.0], 2.0, initial_variance=0.0), 4)
    assert list(nqm.gradient_noise_scale(at_rest, nqm.SGD(0.5), steps=[0, 1])) == [
        math.inf,
        pytest.approx(2.0 / (0.25 * 2.0 / 4.0)),
    ]


def test_of_a_diverged_run_it_is_zero():
    found = nqm.gradient_noise_scale(PROBLEM, nqm.SGD(1e100), steps=[0, 1, 10])
    assert found[0] > 0.0
    assert found[2] == 0.0


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_a_law_has_that_of_every_mode(weighting):
    dim = 200_000
    modes = nqm.Spectrum(1.0 / np.arange(1, dim + 1))
    law = nqm.power_law(dim)
    assert law.law is not None
    steps = [0, 10, 1000, 100_000]
    for optimizer in (nqm.SGD(0.5), nqm.SGD(0.05, 0.95)):
        exact, found = (
            nqm.gradient_noise_scale(
                nqm.NoisyQuadratic(spectrum, 64), optimizer, steps=steps, weighting=weighting
            )
            for spectrum in (modes, law)
        )
        np.testing.assert_allclose(found, exact, rtol=1e-8)


def test_weighted_spectra_are_kept_and_leave_digests_as_they_were():
    law = nqm.power_law(10**9)
    assert law.weighted(1) is law.weighted(1)
    assert len({law.digest, law.weighted(1).digest, law.weighted(2).digest}) == 3
    # As stored studies have it.
    assert repr(law.law) == "PowerLaw(dim=1000000000, exponent=1.0, scale=1.0)"
    both = law.scaled(4.0).weighted(1)
    np.testing.assert_allclose(both.multiplicity, law.multiplicity * law.curvature, rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weighting": "noise"}, r"^weighting='noise': must be one of simple, hessian"),
        ({"steps": [0, -1]}, r"^steps\[1\]=-1: must be an integer of at least 0"),
        ({"steps": [11], "horizon": 10}, r"^steps=11: must be at most horizon=10"),
        ({"schedule": nqm.Cosine()}, r"^horizon=None: must be given"),
        ({"tolerance": 1.0}, r"^tolerance=1"),
        ({"precision": 1e-9}, r"^precision=1e-09"),
        ({"problem": SPECTRUM}, r"^problem=.*must be NoisyQuadratic"),
    ],
)
def test_bad_values_are_refused(arguments, message):
    given_values = {"problem": PROBLEM, "optimizer": nqm.SGD(0.1), "steps": [1], **arguments}
    with pytest.raises(ValueError, match=message):
        nqm.gradient_noise_scale(**given_values)


def test_a_rough_curve_under_a_schedule_is_about_as_exact_as_it_was_asked_to_be():
    problem = nqm.NoisyQuadratic(nqm.power_law(1000), 4)
    run = {"steps": [0, 100, 10_000, 300_000], "horizon": 300_000}
    optimizers = (nqm.SGD(0.03), nqm.SGD(0.003, 0.9))
    for call in (nqm.risk_curve, nqm.gradient_noise_scale):
        for optimizer in optimizers:
            exact, rough = (
                call(problem, optimizer, nqm.Cosine(), precision=precision, **run)
                for precision in (1e-6, 1e-3)
            )
            np.testing.assert_allclose(rough, exact, rtol=3e-3)
            assert np.any(rough != exact), "it takes no less time"
