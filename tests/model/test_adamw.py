"""Weight decay in Adam's closure: its arithmetic, its agreement with simulation, and its floor."""

import dataclasses

import numpy as np
import pytest
import textbook
from hypothesis import given, settings
from strategies import logarithmic, repeatable, spectra
from test_adam import adams, by_closure, stepped

import nqm_study as nqm
from nqm_study.model.adaptive.chains import sampled_risks
from nqm_study.model.adaptive.nodes import Nodes
from nqm_study.model.adaptive.run import Closure, Rest

SPECTRUM = nqm.power_law(300)


@settings(repeatable, max_examples=30)
@given(spectra(most=4), adams(), logarithmic(1.0, 1e5), logarithmic(1e-3, 30.0))
def test_closure_is_the_textbooks(spectrum, adam, batch_size, weight_decay):
    noisy = dataclasses.replace(spectrum, noise=spectrum.noise + 1e-4)
    problem = nqm.NoisyQuadratic(noisy, batch_size)
    optimizer = dataclasses.replace(adam, weight_decay=weight_decay)
    steps = [0, 1, 2, 5, 40, 150]
    for schedule in (nqm.Constant(), nqm.Cosine(0.1)):
        factors = schedule.at_steps(np.arange(150.0), 150)
        risks = textbook.adam_risks(Nodes.of(problem, None), optimizer, 150, factors)
        closure = Closure.of(problem, optimizer, schedule, None).within(150)
        curve = [closure.risk_after(step) for step in steps]
        np.testing.assert_allclose(curve, risks[steps], rtol=1e-7, atol=1e-12 * risks.max())


@pytest.mark.parametrize(
    ("batch_size", "optimizer", "target"),
    [
        (2**4, nqm.Adam(0.01, weight_decay=0.03), 0.2),
        (2**6, nqm.Adam(0.02, 0.5, 0.99, weight_decay=0.1), 0.2),
        (2**8, nqm.Adam(0.02, weight_decay=0.1), 0.1),
        (2**12, nqm.Adam(0.02, 0.95, 0.999, weight_decay=0.01), 0.02),
        (2**14, nqm.Adam(0.03, 0.5, 0.99, weight_decay=0.1), 0.02),
        (2**16, nqm.Adam(0.04, weight_decay=0.03), 0.01),
        (2**18, nqm.Adam(0.3, weight_decay=1.0), 0.6),
    ],
)
def test_first_crossing_of_the_mean_simulated_risk_agrees(batch_size, optimizer, target):
    problem = nqm.NoisyQuadratic(SPECTRUM, batch_size)
    found = nqm.steps_to_target(problem, optimizer, target=target, max_steps=5000)
    run = nqm.simulate(problem, optimizer, n_steps=int(1.1 * found.steps) + 2, n_replicas=100)
    simulated = textbook.first_at_most(run.mean, target)
    assert abs(found.steps - simulated) <= max(1.0, 0.03 * simulated)
    plain = dataclasses.replace(optimizer, weight_decay=0.0)
    assert found.steps != nqm.steps_to_target(problem, plain, target=target).steps


@pytest.mark.parametrize("mean", [1.5, -1.5])
def test_starts_off_zero_agree_with_simulation(mean):
    spectrum = nqm.Spectrum(nqm.power_law(100).curvature, initial_mean=mean)
    problem, optimizer = nqm.NoisyQuadratic(spectrum, 8192), nqm.Adam(0.01, weight_decay=0.3)
    steps = np.arange(0, 241, 20)
    run = nqm.simulate(problem, optimizer, n_steps=240, n_replicas=64, seed=3)
    curve = nqm.risk_curve(problem, optimizer, steps=steps)
    np.testing.assert_allclose(curve, run.mean[steps], rtol=0.03)


def test_sampled_risks_are_those_of_the_simulation():
    problem, schedule = nqm.NoisyQuadratic(SPECTRUM, 2**12), nqm.Cosine()
    optimizer = nqm.Adam(0.2, 0.9, 0.9, weight_decay=0.3)
    run = nqm.simulate(problem, optimizer, schedule, n_steps=40, n_replicas=400, seed=1)
    found = sampled_risks(problem, optimizer, schedule, n_steps=40, level=0)
    error = np.hypot(run.standard_error, found.standard_errors)
    assert np.all(np.abs(found.risks - run.mean) < 4.0 * error)
    assert np.all(found.standard_errors < 0.05 * found.risks)


@pytest.mark.parametrize(
    "schedule", [nqm.Constant(), nqm.Cosine(warmup_fraction=0.05), nqm.InverseSqrt(1000.0)]
)
@pytest.mark.parametrize(
    ("batch_size", "optimizer"),
    [
        (4, nqm.Adam(1e-3, weight_decay=0.03)),
        (64, nqm.Adam(0.01, 0.5, 0.99, weight_decay=1.0)),
        (2**10, nqm.Adam(0.003, 0.95, 0.9999, weight_decay=0.1)),
    ],
)
def test_jumping_agrees_with_stepping(batch_size, optimizer, schedule):
    problem, horizon = nqm.NoisyQuadratic(nqm.power_law(100), batch_size), 50_000
    closure = Closure.of(problem, optimizer, schedule, 0).within(horizon)
    moments, jumping = closure.start(), closure.start()
    for steps in (10_000, horizon):
        closure.step(moments, steps - moments.steps)
        closure.advance(jumping, steps)
        assert closure.risk(jumping) == pytest.approx(closure.risk(moments), rel=1e-3)


@settings(repeatable, max_examples=20)
@given(logarithmic(1.0, 1e6), logarithmic(1e-4, 0.1), logarithmic(1e-3, 1.0), logarithmic(0.01, 1))
def test_crossings_of_jumps_are_those_of_steps(batch_size, learning_rate, weight_decay, target):
    problem = nqm.NoisyQuadratic(nqm.power_law(100), batch_size)
    optimizer = nqm.Adam(learning_rate, weight_decay=weight_decay)
    found = by_closure(problem, optimizer, target, 20_000).steps
    reference = stepped(problem, optimizer, target, 20_000)
    assert (found is None) == (reference is None)
    assert found is None or found == pytest.approx(reference, rel=0.002)


def test_a_decay_of_next_to_nothing_does_nothing():
    problem, steps = nqm.NoisyQuadratic(SPECTRUM, 64), [1, 100, 3000, 50_000]
    for schedule in (nqm.Constant(), nqm.Linear()):
        plain, decayed = (
            nqm.risk_curve(problem, each, schedule, steps=steps, horizon=50_000)
            for each in (nqm.Adam(0.002), nqm.Adam(0.002, weight_decay=1e-12))
        )
        np.testing.assert_allclose(decayed, plain, rtol=1e-6)


@pytest.mark.parametrize("schedule", [nqm.Constant(), nqm.Linear(0.1), nqm.Cosine()])
@pytest.mark.parametrize(
    ("batch_size", "optimizer"),
    [
        (4, nqm.Adam(0.03, weight_decay=0.1)),
        (2**8, nqm.Adam(0.03, 0.0, 0.99, weight_decay=0.3)),
        (2**14, nqm.Adam(0.05, 0.9, 0.99, weight_decay=1.0)),
    ],
)
def test_the_floor_is_where_long_runs_end(batch_size, optimizer, schedule):
    problem = nqm.NoisyQuadratic(nqm.power_law(10), batch_size)
    closure = Closure.of(problem, optimizer, schedule, 0).within(100_000)
    floor, moments = Rest.of(closure).floor, closure.start()
    closure.step(moments, 100_000)
    slack = 1e-6 if schedule == nqm.Constant() else 0.02  # falls as one over the horizon
    assert floor == pytest.approx(closure.risk(moments), rel=slack)
    for share in (0.5, 0.9, 0.99):
        missed = nqm.steps_to_target(problem, optimizer, schedule, target=share * floor)
        assert (missed.steps, missed.status) == (None, "floor_above_target")


@pytest.mark.parametrize("weight_decay", [0.1, 1.0])
@pytest.mark.parametrize("beta1", [0.0, 0.9])
@pytest.mark.parametrize("rate", [0.01, 0.3])
def test_floor_above_the_target_is_said_only_where_no_step_reaches_it(rate, beta1, weight_decay):
    problem = nqm.NoisyQuadratic(nqm.power_law(10), 64)
    optimizer = nqm.Adam(rate, beta1, weight_decay=weight_decay)
    risks = textbook.adam_risks(Nodes.of(problem, 0), optimizer, 10_000)
    for share in (0.5, 0.99, 1.01):
        target = float(share * risks.min())
        found = by_closure(problem, optimizer, target, 10_000)
        first = textbook.first_at_most(risks, target)
        assert (found.steps is None) == (first is None)
        assert found.steps is None or found.steps == pytest.approx(first, rel=0.002)
        assert share > 0.5 or found.status == "floor_above_target"


@pytest.mark.parametrize("schedule", [nqm.Constant(), nqm.Cosine()])
def test_a_pull_of_more_than_twice_the_way_diverges(schedule):
    problem, optimizer = nqm.NoisyQuadratic(SPECTRUM, 64), nqm.Adam(1.0, weight_decay=50.0)
    found = nqm.steps_to_target(problem, optimizer, schedule, target=0.1, max_growth=1000)
    assert (found.steps, found.status) == (None, "diverged")


def test_weight_decay_is_validated():
    with pytest.raises(ValueError, match=r"weight_decay=-0\.1: must be"):
        nqm.Adam(0.1, weight_decay=-0.1)
