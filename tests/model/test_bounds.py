"""The Bayes bound, below which no algorithm comes, and the classical one, which is not strict."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from strategies import linear_optimizers, logarithmic, problems, repeatable

import nqm_study as nqm
from nqm_study.model.problems.bounds import classical_bound


def bayes_risk(problem, steps):
    """1/2 sum m h / (1/s + T B h^2 / c), mode by mode."""
    spectrum, total = problem.spectrum, 0.0
    for h, c, m, s in zip(spectrum.curvature, spectrum.noise, spectrum.multiplicity,
                          spectrum.initial_variance, strict=True):  # fmt: skip
        if s == 0.0 or (c == 0.0 and steps > 0):
            continue
        information = 0.0 if steps == 0 else steps * problem.batch_size * h**2 / c
        total += 0.5 * m * h / (1.0 / s + information)
    return total


def test_bound_on_the_papers_problem():
    for batch_size in (1 / 16, 1.0, 4.0):
        problem = nqm.NoisyQuadratic(nqm.power_law(10_000), batch_size)
        bound = nqm.bayes_bound(problem)
        assert bound * batch_size == pytest.approx(495_016, abs=max(2.0, batch_size))


@repeatable
@given(problems(), logarithmic(1e-3, 1.0))
def test_bound_is_the_first_step_at_which_the_bayes_risk_is_at_the_target(problem, fraction):
    target = fraction * max(bayes_risk(problem, 0), 1e-6)
    bound = nqm.bayes_bound(problem, target=target)
    assert bayes_risk(problem, bound) <= target * (1.0 + 1e-12)
    assert bound == 0 or bayes_risk(problem, bound - 1) > target * (1.0 - 1e-12)


def test_without_noise_one_gradient_is_enough():
    problem = nqm.NoisyQuadratic(nqm.Spectrum([1.0, 1e-3], noise=0.0), 1)
    assert nqm.bayes_bound(problem, target=1e-9) == 1
    assert nqm.bayes_bound(problem, target=1e9) == 0


def test_modes_too_flat_to_be_seen_raise_no_warning():
    spectrum = nqm.Spectrum([1.0, 1e-200], noise=[1.0, 0.0])
    assert nqm.bayes_bound(nqm.NoisyQuadratic(spectrum, 1e3)) == 1


@repeatable
@given(problems(), st.data())
def test_no_linear_optimizer_beats_the_bound(problem, data):
    optimizer = data.draw(linear_optimizers(problem.spectrum.curvature))
    target = problem.spectrum.initial_risk * data.draw(logarithmic(1e-3, 0.9))
    found = nqm.steps_to_target(problem, optimizer, target=target, max_steps=3000)
    if found.steps is not None:
        assert nqm.bayes_bound(problem, target=target) <= found.steps, optimizer


@pytest.mark.parametrize("batch_size", [16, 256, 2**14, 2**20])
def test_no_tuned_optimizer_beats_the_bound(batch_size):
    problem = nqm.NoisyQuadratic(nqm.power_law(1000), batch_size)
    bound = nqm.bayes_bound(problem)
    tried = [
        nqm.SGD(float(lr), momentum, False, power, decay)
        for lr in np.geomspace(1e-3, 3.9, 12)
        for momentum in (0.0, 0.9, 0.99)
        for power in (0.0, 0.5)
        for decay in (0.0, 0.99, 0.999)
    ]
    steps = [nqm.steps_to_target(problem, o, max_steps=10**6).steps for o in tried]
    reached = [s for s in steps if s is not None]
    assert reached
    assert min(reached) >= bound


@pytest.mark.parametrize("target", [0.0, -1.0, np.nan, np.inf, "0.01", None])
def test_bad_targets_are_refused(target):
    with pytest.raises(ValueError, match=r"^target=.*must be a finite number greater than 0"):
        nqm.bayes_bound(nqm.NoisyQuadratic(nqm.power_law(3), 1), target=target)
    with pytest.raises(ValueError, match=r"^target=.*must be a finite number greater than 0"):
        classical_bound(nqm.NoisyQuadratic(nqm.power_law(3), 1), target=target)


@pytest.mark.parametrize(
    ("dim", "exponent"),
    [(1, 1.0), (10_000, 1.0), (10**6, 1.0), (10**6, 2.0), (10**12, 1.0), (10**12, 0.5)],
)
def test_classical_bound_of_a_power_law_counts_its_modes(dim, exponent):
    # The law's arrays are a quadrature beyond 2^17 modes; its weights must still sum to d.
    for batch_size, target in ((1.0, 0.01), (256, 0.3)):
        problem = nqm.NoisyQuadratic(nqm.power_law(dim, exponent), batch_size)
        expected = dim / (2.0 * target * batch_size)
        assert classical_bound(problem, target=target) == pytest.approx(expected, rel=1e-14)
        scaled = nqm.NoisyQuadratic(problem.spectrum.scaled(3.0), batch_size)
        assert classical_bound(scaled, target=3.0 * target) == pytest.approx(expected, rel=1e-14)


def test_classical_bound_of_the_papers_problem_lies_above_the_strict_one():
    problem = nqm.NoisyQuadratic(nqm.power_law(10_000), 1)
    assert classical_bound(problem) == pytest.approx(500_000, rel=1e-14)
    assert nqm.bayes_bound(problem) < 0.995 * classical_bound(problem)


@repeatable
@given(problems(), logarithmic(1e-3, 1.0))
def test_classical_bound_is_the_bayes_bound_of_a_start_that_is_not_known(problem, fraction):
    spectrum = problem.spectrum
    target = fraction * problem.spectrum.initial_risk
    total = sum(
        m * c / h
        for m, c, h in zip(spectrum.multiplicity, spectrum.noise, spectrum.curvature, strict=True)
    )
    bound = classical_bound(problem, target=target)
    assert bound == pytest.approx(total / (2.0 * target * problem.batch_size), rel=1e-12)
    # One gradient is needed where nothing is known, and whole steps are counted.
    wide = nqm.Spectrum(spectrum.curvature, spectrum.noise, spectrum.multiplicity,
                        initial_variance=1e30)  # fmt: skip
    strict = nqm.bayes_bound(nqm.NoisyQuadratic(wide, problem.batch_size), target=target)
    assert strict == pytest.approx(max(1.0, np.ceil(bound)), abs=1.0, rel=1e-9)
    assert nqm.bayes_bound(problem, target=target) <= max(1.0, np.ceil(bound * (1.0 + 1e-12)))


def test_modes_that_start_at_their_minimum_count_in_the_classical_bound():
    spectrum = nqm.Spectrum([1.0, 0.5], noise=[2.0, 3.0], initial_variance=[1.0, 0.0])
    problem = nqm.NoisyQuadratic(spectrum, 4)
    assert classical_bound(problem, target=0.1) == pytest.approx((2.0 + 6.0) / (2 * 0.1 * 4))


def test_classical_bound_of_modes_too_flat_to_be_seen_is_infinite_without_a_warning():
    flat = nqm.Spectrum([1.0, 1e-300], noise=[1.0, 1e200])
    assert classical_bound(nqm.NoisyQuadratic(flat, 1)) == np.inf
    absent = nqm.Spectrum([1.0, 1e-300], noise=[1.0, 1e200], multiplicity=[1.0, 0.0])
    assert classical_bound(nqm.NoisyQuadratic(absent, 1)) == pytest.approx(50.0)
