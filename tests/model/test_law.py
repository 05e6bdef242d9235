"""Power laws of more modes than are made: sums, risks and steps equal to those over every mode."""

import pickle

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.special import digamma, zeta
from strategies import logarithmic, repeatable

import nqm_study as nqm
from nqm_study.model.problems.law import MOST_NODES, PowerLaw

DIM = 200_000
LAW = nqm.power_law(DIM)
EVERY_MODE = nqm.Spectrum(1.0 / np.arange(1, DIM + 1))


@repeatable
@given(st.integers(10, 3000), logarithmic(0.05, 4.0), st.integers(0, 5), st.integers(0, 19))
def test_entries_sum_powers_of_the_index_as_the_modes_do(dim, exponent, level, power):
    curvature, multiplicity = PowerLaw(dim, exponent).entries(level)
    index = np.arange(1, dim + 1) / dim
    entry = curvature ** (-1.0 / exponent) / dim
    exact = np.sum(index ** float(power))
    assert np.sum(multiplicity * entry ** float(power)) == pytest.approx(exact, rel=1e-11)
    assert np.all(multiplicity > 0.0)
    assert np.all(np.diff(curvature) < 0.0)


@pytest.mark.parametrize("dim", [10**6, 10**9, 10**12, 2**53])
@pytest.mark.parametrize("level", [0, 3, 6])
def test_sums_over_any_dimension_are_exact(dim, level):
    # sum 1/i = digamma(dim + 1) + gamma; sum i^-s = zeta(s) - zeta(s, dim + 1).
    for exponent, exact in (
        (1.0, digamma(dim + 1.0) + np.euler_gamma),
        (1.5, zeta(1.5) - zeta(1.5, dim + 1.0)),
        (3.0, zeta(3.0) - zeta(3.0, dim + 1.0)),
    ):
        curvature, multiplicity = PowerLaw(dim, exponent).entries(level)
        assert np.sum(multiplicity * curvature) == pytest.approx(exact, rel=1e-14)
        assert np.sum(multiplicity) == pytest.approx(dim, rel=1e-14)


@pytest.mark.parametrize(
    "optimizer",
    [
        nqm.SGD(0.5),
        nqm.SGD(3.0, 0.997),
        nqm.SGD(0.01, 0.999, nesterov=True),
        nqm.SGD(1.0, ema_decay=0.999),
        nqm.SGD(0.02, preconditioner_power=0.5),
    ],
)
def test_risks_and_steps_are_those_of_every_mode(optimizer):
    law, modes = (nqm.NoisyQuadratic(s, 2.0**16) for s in (LAW, EVERY_MODE))
    steps = [0, 1, 10, 100, 1000, 10_000]
    risks = nqm.risk_curve(modes, optimizer, steps=steps, tolerance=0.0)
    np.testing.assert_allclose(nqm.risk_curve(law, optimizer, steps=steps), risks, rtol=2e-9)
    for target in risks[2:] * 1.0001:
        found = nqm.steps_to_target(law, optimizer, target=float(target))
        assert found.steps == nqm.steps_to_target(modes, optimizer, target=float(target)).steps
        assert found.error is not None
        assert found.error < 1e-9


def test_adams_risks_are_those_of_every_mode():
    law, modes = (nqm.NoisyQuadratic(s, 4096) for s in (LAW, EVERY_MODE))
    curves = [nqm.risk_curve(p, nqm.Adam(0.01), steps=[1, 30, 100]) for p in (law, modes)]
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-9)


def test_bounds_are_those_of_every_mode():
    for target in (3.0, 1.0, 0.3):
        law, modes = (
            nqm.bayes_bound(nqm.NoisyQuadratic(s, 256), target=target) for s in (LAW, EVERY_MODE)
        )
        assert law == modes
    assert LAW.initial_risk == pytest.approx(EVERY_MODE.initial_risk, rel=1e-14)


def test_a_trillion_modes_are_a_few_thousand_entries():
    spectrum = nqm.power_law(10**12)
    assert len(spectrum) < 10_000
    assert spectrum.initial_risk == pytest.approx(
        0.5 * (digamma(1e12 + 1.0) + np.euler_gamma), rel=1e-14
    )
    problem = nqm.NoisyQuadratic(spectrum, 256)
    found = nqm.steps_to_target(problem, nqm.SGD(0.5), target=12.0)
    # With c = h and s = 1, one step shrinks h E theta^2 by (1 - x)^2 and adds lr^2 h^2 c / B.
    assert found.status == "reached"
    h, m = PowerLaw(10**12, 1.0).entries(9)
    floor = 0.25 * h / 256 / (1.0 - (1.0 - 0.5 * h) ** 2)

    def risk(steps):
        second_moment = floor + (1.0 - floor) * (1.0 - 0.5 * h) ** (2.0 * steps)
        return 0.5 * np.sum(m * h * second_moment)

    assert risk(found.steps) <= 12.0 < risk(found.steps - 1)


def test_where_a_law_cannot_be_fine_enough_the_error_is_told():
    # An almost undamped run of 10^7 steps turns thousands of times within the finest bins.
    problem = nqm.NoisyQuadratic(nqm.power_law(10**12), 1e12)
    optimizer = nqm.SGD(1.0, 1.0 - 1e-8)
    with pytest.raises(ValueError, match=r"^tolerance=1e-09: must be at least .* for a power law"):
        nqm.risk_curve(problem, optimizer, steps=[10**7])
    found = nqm.steps_to_target(problem, optimizer, target=1e-3, max_steps=3000)
    assert found.error is not None
    assert found.status == "max_steps"


def test_laws_are_scaled_pickled_and_told_apart():
    scaled = LAW.scaled(4.0)
    np.testing.assert_allclose(scaled.curvature, 4.0 * LAW.curvature, rtol=1e-15)
    np.testing.assert_allclose(scaled.noise, 16.0 * LAW.noise, rtol=1e-15)
    np.testing.assert_allclose(scaled.at(5).noise, 4.0 * scaled.at(5).curvature, rtol=1e-15)
    _ = LAW.signal.nodes(0)
    again = pickle.loads(pickle.dumps(LAW))  # noqa: S301 (made in the line itself)
    assert again.digest == LAW.digest == nqm.power_law(DIM).digest
    assert len({LAW.digest, scaled.digest, nqm.power_law(DIM + 1).digest}) == 3


def test_modes_are_listed_as_long_as_they_can_be_held():
    assert nqm.power_law(MOST_NODES).law is None
    assert len(nqm.power_law(MOST_NODES)) == MOST_NODES
    assert nqm.power_law(MOST_NODES + 1).law == PowerLaw(MOST_NODES + 1, 1.0)
    flat = nqm.power_law(10**12, 0.0)
    assert (len(flat), flat.initial_risk) == (1, 0.5e12)


def test_powers_that_vanish_are_refused():
    with pytest.raises(ValueError, match=r"^exponent=40: must be at most 34\.1836"):
        nqm.power_law(10**9, 40.0)
    with pytest.raises(ValueError, match=r"^dim=.*: must be an integer of at least 1 and at most"):
        nqm.power_law(2**53 + 1)
    assert nqm.power_law(10**9, 34.0).curvature[-1] > 0.0


@repeatable
@given(logarithmic(1e-12, 1e-6), st.sampled_from([nqm.SGD(3.0, 0.997), nqm.SGD(0.5)]))
def test_every_tolerance_is_met(tolerance, optimizer):
    problem = nqm.NoisyQuadratic(nqm.power_law(10_000), 4096)
    steps = [10, 500, 2000]
    exact = nqm.risk_curve(problem, optimizer, steps=steps, tolerance=0.0)
    loose = nqm.risk_curve(problem, optimizer, steps=steps, tolerance=tolerance)
    np.testing.assert_allclose(loose, exact, rtol=tolerance)


def test_no_tolerance_means_every_mode():
    problem = nqm.NoisyQuadratic(nqm.power_law(10_000), 256)
    found = nqm.steps_to_target(problem, nqm.SGD(0.775), tolerance=0.0)
    assert (found.steps, found.error) == (25_778, 0.0)
    near = nqm.steps_to_target(problem, nqm.SGD(0.775))
    assert near.error is not None
    assert 0.0 < near.error < 1e-9
    # What Adam's closure may be off by is not a matter of the compression.
    whole, compressed = (
        nqm.steps_to_target(problem, nqm.Adam(0.01), target=1.0, tolerance=tolerance)
        for tolerance in (0.0, 1e-9)
    )
    assert whole.steps == compressed.steps
    assert whole.error == pytest.approx(compressed.error, rel=1e-3)


@pytest.mark.parametrize("tolerance", [-1e-9, 0.02, np.nan, "x", None])
def test_bad_tolerances_are_refused(tolerance):
    problem = nqm.NoisyQuadratic(nqm.power_law(10), 256)
    for call in (
        lambda: nqm.steps_to_target(problem, nqm.SGD(0.1), tolerance=tolerance),
        lambda: nqm.risk_curve(problem, nqm.SGD(0.1), steps=[1], tolerance=tolerance),
    ):
        with pytest.raises(ValueError, match=r"^tolerance=.*of at least 0 and at most 1e-06"):
            call()
