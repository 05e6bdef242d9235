"""Compression: a rule of few nodes that keeps what the risk can see of a spectrum."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays
from strategies import repeatable

import nqm_study as nqm
from nqm_study.model.problems.compression import COARSEST_WIDTH, ORDER, Measure


@st.composite
def measures(draw):
    """Measures that are dense somewhere, so that there is something to compress."""
    n = draw(st.integers(1, 300))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    spread = draw(st.sampled_from([1e-13, 1e-6, 0.1, 3.0]))
    weight = draw(st.sampled_from([0.0, 1.0, 4.0]))
    return Measure.of(
        10.0 ** (-spread * rng.random(n)), 10.0 ** (-weight * rng.random(n)) * (rng.random(n) < 0.9)
    )


@repeatable
@given(measures(), st.integers(0, 6))
def test_rules_have_positive_weights_and_keep_the_mass(measure, level):
    nodes, weights = measure.nodes(level)
    assert np.all(weights > 0.0) or weights.size == 0
    assert np.all(np.diff(nodes) <= 0.0), "nodes are in descending order"
    assert weights.sum() == pytest.approx(measure.weight.sum(), rel=1e-12)


@repeatable
@given(measures(), st.integers(0, 3))
def test_rules_are_exact_for_polynomials_in_log_curvature(measure, level):
    if measure.weight.size == 0:
        return
    nodes, weights = measure.nodes(level)
    centre = np.log(measure.curvature[0])
    scale = max(np.ptp(np.log(measure.curvature)), 1e-300)
    for degree in range(2 * ORDER):
        exact = np.sum(measure.weight * ((np.log(measure.curvature) - centre) / scale) ** degree)
        value = np.sum(weights * ((np.log(nodes) - centre) / scale) ** degree)
        # exp and log of a node round by 1e-16 beside a spread that may be as small.
        slack = 1e-11 + degree * 1e-15 / scale
        assert value == pytest.approx(exact, rel=1e-11, abs=slack * measure.weight.sum()), degree


def test_tiny_weights_neither_vanish_nor_spoil_the_rule():
    curvature = np.exp(-np.linspace(0.0, 0.4, 50))
    weight = np.where(np.arange(50) % 3 == 0, 1e-300, 1.0)
    nodes, weights = Measure.of(curvature, weight).nodes(0)
    assert np.all(np.isfinite(nodes))
    assert weights.sum() == pytest.approx(weight.sum())
    nodes, weights = Measure.of(curvature, 1e-300 * np.ones(50)).nodes(0)
    assert weights.sum() == pytest.approx(50e-300, rel=1e-12, abs=0.0)


def test_degree_beyond_the_rule_is_not_exact():
    # Were it exact as well, the test above would show nothing.
    curvature = np.exp(-np.linspace(0.0, 0.99 * COARSEST_WIDTH, 200))
    measure = Measure.of(curvature, np.ones(200))
    nodes, weights = measure.nodes(0)
    assert nodes.size == ORDER
    t = 4.0 * np.log(curvature) + 1.0
    s = 4.0 * np.log(nodes) + 1.0
    error = abs(np.sum(weights * s ** (2 * ORDER)) - np.sum(t ** (2 * ORDER)))
    assert error > 1e-6 * np.sum(t ** (2 * ORDER))


@repeatable
@given(measures())
def test_last_level_is_the_measure_itself(measure):
    nodes, weights = measure.nodes(measure.last_level)
    np.testing.assert_array_equal(nodes, measure.curvature)
    np.testing.assert_array_equal(weights, measure.weight)
    np.testing.assert_array_equal(measure.nodes(measure.last_level + 5)[0], nodes)


def test_papers_spectrum_is_compressed_well():
    measure = nqm.power_law(10_000).loss
    nodes, _ = measure.nodes(0)
    assert nodes.size < 250, "the coarsest level is meant to be cheap"
    assert measure.nodes(measure.last_level)[0].size == 10_000


@repeatable
@given(measures(), st.integers(0, 5))
def test_every_rule_differs_from_that_of_the_next_level(measure, level):
    # Where two levels shared the rule of some bin, its error could not be seen in their difference:
    # modes that lie closely together would be taken for compressed well.
    if level >= measure.last_level:
        return
    coarse, fine = measure.nodes(level)[0], measure.nodes(level + 1)[0]
    modes = set(measure.curvature.tolist())
    stand_ins = set(coarse.tolist()) - modes
    assert stand_ins
    assert not stand_ins & set(fine.tolist()) or np.ptp(np.log(measure.curvature)) < 1e-10


def test_a_narrow_group_of_modes_is_not_taken_for_compressed_well():
    # All within one bin of the two coarsest levels; with rates that large five nodes are far off.
    spectrum = nqm.Spectrum(np.linspace(0.83, 1.0, 100))
    problem = nqm.NoisyQuadratic(spectrum, 1e6)
    optimizer = nqm.SGD(1.37, 0.849, nesterov=True)
    steps = [1, 10, 37, 57]
    np.testing.assert_allclose(
        nqm.risk_curve(problem, optimizer, steps=steps),
        nqm.risk_curve(problem, optimizer, steps=steps, tolerance=0.0),
        rtol=2e-9,
    )


@repeatable
@given(arrays(np.float64, st.integers(1, 20), elements=st.sampled_from([1.0, 0.5, 0.25])))
def test_equal_curvatures_are_merged(curvature):
    measure = Measure.of(curvature, np.ones(curvature.size))
    assert np.all(np.diff(measure.curvature) < 0.0)
    assert measure.weight.sum() == curvature.size


def test_curvatures_no_logarithm_can_tell_apart_are_merged():
    # Bins of log(curvature) can never separate them, however narrow: a search for the level that
    # does would not end.
    curvature = 1e-5 * (1.0 + np.finfo(float).eps * np.arange(40))
    measure = Measure.of(curvature, np.ones(40))
    assert measure.curvature.size < 10
    problem = nqm.NoisyQuadratic(nqm.Spectrum(curvature, multiplicity=1e5), 256)
    found = nqm.steps_to_target(problem, nqm.SGD(0.5), target=1.0)
    assert found.status == "reached"


@pytest.mark.parametrize("gap", [1e-15, 1e-12, 1e-6])
def test_clusters_are_compressed_and_searched(gap):
    cluster = 1.0 + gap * np.arange(200)
    problem = nqm.NoisyQuadratic(nqm.Spectrum(cluster), 256)
    merged = nqm.NoisyQuadratic(nqm.Spectrum([1.0], multiplicity=[200.0]), 256)
    optimizer = nqm.SGD(0.1, momentum=0.5)
    steps = [0, 1, 10, 100]
    np.testing.assert_allclose(
        nqm.risk_curve(problem, optimizer, steps=steps),
        nqm.risk_curve(merged, optimizer, steps=steps),
        rtol=2e-9 + 1e4 * gap,
    )


def test_empty_measures_are_compressed_to_nothing():
    measure = Measure.of(np.array([1.0, 0.5]), np.zeros(2))
    assert measure.nodes(0)[0].size == 0
    still = nqm.Spectrum([1.0, 0.5], noise=0.0, initial_variance=0.0)
    found = nqm.steps_to_target(nqm.NoisyQuadratic(still, 1), nqm.SGD(0.1))
    assert (found.steps, found.risk) == (0, 0.0)
