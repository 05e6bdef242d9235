"""The constants of perfect scaling are the limit of what is computed exactly at small batches."""

import math

import numpy as np
import pytest

import nqm_study as nqm
from nqm_study.model.problems.small_batch import small_batch

PAPER = nqm.power_law(10_000)

# T B and lr / B of tuned SGD as B falls, to the digits given: model.md, section 3.
FIGURES = {
    0.0: (6.024e6, 3.40e-3),
    0.25: (2.380e6, 9.19e-4),
    0.5: (1.392e6, 1.71e-4),
    0.75: (1.049e6, 2.59e-5),
    1.0: (1.180e6, 3.57e-6),
}


@pytest.mark.parametrize("power", sorted(FIGURES))
def test_the_constants_are_those_of_tuned_sgd_at_small_batches(power: float) -> None:
    examples, rate = FIGURES[power]
    found = small_batch(PAPER, power)
    assert found is not None
    assert found.examples == pytest.approx(examples, rel=1e-3)
    assert found.rate == pytest.approx(rate, rel=5e-3)


def test_adams_constants_are_those_of_the_root_of_the_curvature_where_noise_is_curvature() -> None:
    assert small_batch(PAPER, "adam") == pytest.approx(small_batch(PAPER, 0.5))
    high = small_batch(PAPER, "adam", target=0.1)
    assert high is not None
    # model.md, section 4: lr* = 1.6e-3 sqrt(B), T B = 8.0e4 at target 0.1.
    assert high.rate == pytest.approx(1.6e-3, rel=0.05)
    assert high.examples == pytest.approx(8.0e4, rel=0.02)


def test_no_rate_needs_fewer_examples_at_a_batch_far_below_one() -> None:
    spectrum = nqm.power_law(30)
    found = small_batch(spectrum, target=0.1)
    assert found is not None
    problem = nqm.NoisyQuadratic(spectrum, batch_size=1e-3)
    steps = {
        factor: nqm.steps_to_target(problem, nqm.SGD(factor * found.rate * 1e-3), target=0.1).steps
        for factor in (0.8, 0.98, 1.0, 1.02, 1.25)
    }
    assert steps[1.0] is not None
    assert steps[1.0] * 1e-3 == pytest.approx(found.examples, rel=1e-3)
    assert all(count is None or count >= 0.9999 * steps[1.0] for count in steps.values())


def test_rescaling_the_loss_changes_the_rate_only() -> None:
    one, other = small_batch(PAPER, target=0.02), small_batch(PAPER.scaled(7.0), target=0.14)
    assert one is not None
    assert other is not None
    assert other.examples == pytest.approx(one.examples, rel=1e-6)
    assert other.rate == pytest.approx(one.rate / 7.0, rel=1e-6)


def test_without_noise_small_batches_are_no_limit() -> None:
    found = small_batch(nqm.Spectrum(np.array([1.0, 0.1]), noise=0.0), target=0.01)
    assert found is not None
    assert found.examples == 0.0
    assert math.isinf(found.rate)


def test_a_target_that_is_met_at_the_start_has_no_constants() -> None:
    assert small_batch(nqm.power_law(10), target=100.0) is None


def test_a_target_one_rounding_below_the_start_is_no_endless_search() -> None:
    spectrum = nqm.power_law(1000)
    below = float(np.nextafter(spectrum.initial_risk, 0.0))
    found = small_batch(spectrum, target=below)
    assert found is None or found.examples > 0.0


@pytest.mark.parametrize(
    ("power", "target", "message"),
    [(1.5, 0.01, "preconditioner=1.5: must be"), (0.0, -1.0, "target=-1: must be")],
)
def test_bad_values_are_refused(power: float, target: float, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        small_batch(PAPER, power, target=target)
