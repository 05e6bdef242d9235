"""Dimension-adapted Nesterov acceleration moves as a plain loop does."""

import chains
import numpy as np
import pytest

import nqm_study as nqm

PROBLEM = nqm.NoisyQuadratic(nqm.power_law(1000), 64)


@pytest.mark.parametrize("schedule", chains.SCHEDULES, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("wrapped", ["", "averaged", "preconditioned"])
@pytest.mark.parametrize("power", [0.0, 0.5])
def test_it_is_the_rule_step_by_step(wrapped: str, power: float, schedule: nqm.Schedule) -> None:
    def loop(theta, rates, gradient):
        y, average = np.zeros_like(theta), theta
        for t, rate in enumerate(rates):
            g = gradient(theta, t)
            y = (1.0 - 6.5 / (1.0 + t)) * y + 0.7 * g
            # The schedule's factor is that of the whole step.
            theta = theta - rate * g - rate / 0.3 * 0.02 * (1.0 + t) ** -power * y
            average = 0.7 * average + 0.3 * theta
            yield average if wrapped == "averaged" else theta

    optimizer: nqm.LinearOptimizer = nqm.DANA(0.3, 0.7, 0.02, 6.5, power)
    if wrapped == "averaged":
        optimizer = nqm.Averaged(optimizer, 0.7)
    elif wrapped:
        optimizer = nqm.Preconditioned(optimizer, 0.5)
    chains.require_same(optimizer, schedule, loop, power=0.5 if wrapped == "preconditioned" else 0)


def test_without_momentum_it_is_sgd() -> None:
    found = [
        nqm.steps_to_target(PROBLEM, each, target=0.05).steps
        for each in (nqm.DANA(0.4, g3=0.0), nqm.SGD(0.4))
    ]
    assert found[0] == found[1] is not None


@pytest.mark.parametrize("g3", [0.0, 0.1, 1.0, 3.9])
def test_the_limit_of_stability_is_that_of_the_spectral_radius_late(g3: float) -> None:
    optimizer = nqm.DANA(1.0, g3=g3)
    limit = nqm.stability_limit(PROBLEM, optimizer)
    assert limit == pytest.approx(2.0 - 0.5 * g3)
    for share, stable in ((0.999, True), (1.001, False)):
        matrix = optimizer.with_rate(share * limit).transition(np.ones(1), 10**9).matrix[:, :, 0]
        assert bool(np.abs(np.linalg.eigvals(matrix)).max() < 1.0) is stable
        assert optimizer.with_rate(share * limit).is_stable(np.ones(1)) is stable
    assert nqm.stability_limit(PROBLEM, nqm.DANA(1.0, g3=4.1)) == 0.0


@pytest.mark.parametrize("name", ["g1", "g3", "delta", "power"])
def test_what_is_out_of_range_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}=-1.*: must be"):
        nqm.DANA(0.1, **{name: -1.0})
