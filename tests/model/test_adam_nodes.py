"""The starts that Adam's closure is averaged over: Gauss rules on each side of theta_0 = 0."""

import math

import numpy as np
import pytest
from hypothesis import given
from scipy.integrate import quad
from scipy.stats import norm
from strategies import logarithmic, repeatable, spectra

import nqm_study as nqm
from nqm_study.model.adaptive.closure import adam_crossing, first_step
from nqm_study.model.adaptive.nodes import COMPRESSION_LEVEL, USUAL, Nodes, half_normal, starts
from nqm_study.model.adaptive.run import Closure


@pytest.mark.parametrize("count", [2, 4, 8, 16, 24])
def test_half_normal_rule_has_the_moments_of_its_order(count):
    z, weight = half_normal(count)
    assert np.all(z > 0.0)
    assert np.all(weight > 0.0)
    for power in range(min(2 * count, 24)):
        moment = 2.0 ** (power / 2) * math.gamma((power + 1) / 2) / math.sqrt(math.pi)
        assert np.sum(weight * z**power) == pytest.approx(moment, rel=1e-8), power


@pytest.mark.parametrize("mean", [0.0, 1e-3, 0.5, -2.0, 5.0, 40.0])
def test_starts_have_the_moments_of_theta_and_of_its_absolute_value(mean):
    theta, weight = starts(np.array([mean, 1.0]), np.array([0.49, 0.0]), 16)
    np.testing.assert_allclose(weight.sum(axis=0), 1.0, rtol=1e-12)
    assert np.sum(weight[:, 0] * theta[:, 0]) == pytest.approx(mean, abs=1e-7)
    assert np.sum(weight[:, 0] * theta[:, 0] ** 2) == pytest.approx(mean**2 + 0.49, rel=1e-7)
    density = norm(mean, 0.7)
    sides = [
        quad(lambda x: abs(x) * density.pdf(x), *ends, epsabs=1e-13)[0]
        for ends in ((mean - 8.0, 0.0), (0.0, mean + 8.0))
        if ends[0] < ends[1]
    ]
    assert np.sum(weight[:, 0] * np.abs(theta[:, 0])) == pytest.approx(sum(sides), rel=1e-7)
    # Without a variance there is one start, whatever the others need.
    np.testing.assert_allclose(theta[:, 1], 1.0, rtol=1e-12)


@repeatable
@given(spectra(), logarithmic(1.0, 1e6))
def test_nodes_stand_for_every_mode_and_its_start(spectrum, batch_size):
    nodes = Nodes.of(nqm.NoisyQuadratic(spectrum, batch_size), None)
    total = 0.5 * np.sum(spectrum.multiplicity * spectrum.curvature)
    assert nodes.weight.sum() == pytest.approx(total, rel=1e-10, abs=1e-300)
    risk = nodes.risk(nodes.second_moment)
    assert risk == pytest.approx(spectrum.initial_risk, rel=1e-6, abs=1e-300)


def test_modes_of_much_noise_need_few_nodes():
    counts = [
        Nodes.of(nqm.NoisyQuadratic(nqm.Spectrum([1e-3]), batch_size), None).weight.size
        for batch_size in (1e-3, 1.0, 50.0, 500.0, 1e4)
    ]
    assert counts == [2, 4, 8, 16, 24]


def test_a_kink_is_integrated_well():
    # What is left of |theta_0| after it has come nearer by s at a constant pace.
    z, weight = half_normal(24)
    for s in (0.5, 1.5, 2.5):
        left = np.sum(weight * np.maximum(z - s, 0.0) ** 2)
        exact = 2.0 * ((1.0 + s * s) * norm.sf(s) - s * norm.pdf(s))
        assert left == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize(
    ("batch_size", "optimizer", "target"),
    [
        (2**20, nqm.Adam(0.06), 0.01),
        (2**18, nqm.Adam(0.1), 0.01),
        (2**16, nqm.Adam(0.03), 0.01),
        (2**14, nqm.Adam(0.03, 0.5, 0.99), 0.05),
        (2**8, nqm.Adam(0.02), 0.2),
        (64, nqm.Adam(0.003), 0.2),
    ],
)
def test_more_nodes_give_the_same_steps(batch_size, optimizer, target):
    problem = nqm.NoisyQuadratic(nqm.power_law(1000), batch_size)
    found, many = (
        first_step(
            Closure.of(problem, optimizer, nqm.Constant(), 0, refinement),
            target, 10**6, problem.spectrum.initial_risk,
        ).crossing.steps
        for refinement in (USUAL, USUAL + 2)
    )  # fmt: skip
    assert abs(found - many) <= max(1, 0.002 * many)


@pytest.mark.parametrize(
    "optimizer", [nqm.Adam(0.01), nqm.Adam(0.03, 0.95, 0.99), nqm.Adam(0.003, 0.0, 0.9999)]
)
@pytest.mark.parametrize("batch_size", [256, 2**14])
def test_compression_agrees_with_all_modes(optimizer, batch_size):
    steps = [0, 1, 10, 100, 300]
    problem = nqm.NoisyQuadratic(nqm.power_law(10_000), batch_size)
    compressed, whole = (
        [Closure.of(problem, optimizer, nqm.Constant(), level).risk_after(step) for step in steps]
        for level in (COMPRESSION_LEVEL, None)
    )
    np.testing.assert_allclose(compressed, whole, rtol=1e-7)


def test_compressed_crossing_agrees_with_that_of_all_modes():
    problem, optimizer = nqm.NoisyQuadratic(nqm.power_law(3000), 4096), nqm.Adam(0.01)
    compressed, whole = (
        adam_crossing(problem, optimizer, 0.02, 10_000, nqm.Constant(), level)
        for level in (COMPRESSION_LEVEL, None)
    )
    assert compressed.steps == whole.steps
    assert whole.status == "reached"
