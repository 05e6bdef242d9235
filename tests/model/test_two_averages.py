"""Two averages of the gradient move as a plain loop does, and as what they hold."""

import chains
import numpy as np
import pytest

import nqm_study as nqm


@pytest.mark.parametrize("schedule", chains.SCHEDULES, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("wrapped", ["", "averaged", "preconditioned"])
def test_they_are_the_rule_step_by_step(wrapped: str, schedule: nqm.Schedule) -> None:
    def loop(theta, rates, gradient):
        fast = slow = np.zeros_like(theta)
        average = theta
        for t, rate in enumerate(rates):
            g = gradient(theta, t)
            fast, slow = 0.8 * fast + 0.2 * g, 0.98 * slow + 0.02 * g
            theta = theta - rate * (fast + 3.0 * slow)
            average = 0.7 * average + 0.3 * theta
            yield average if wrapped == "averaged" else theta

    optimizer: nqm.LinearOptimizer = nqm.TwoAverages(0.2, 0.8, 0.98, 3.0)
    if wrapped == "averaged":
        optimizer = nqm.Averaged(optimizer, 0.7)
    elif wrapped:
        optimizer = nqm.Preconditioned(optimizer, 0.5)
    chains.require_same(optimizer, schedule, loop, power=0.5 if wrapped == "preconditioned" else 0)


def test_without_the_slow_one_they_are_heavy_ball() -> None:
    problem = nqm.NoisyQuadratic(nqm.power_law(200), 32)
    for schedule in (nqm.Constant(), nqm.Linear()):
        found = [
            nqm.steps_to_target(problem, each, schedule, target=0.05)
            for each in (nqm.TwoAverages(0.4, 0.9, 0.5, 0.0), nqm.QHM(0.4, 0.9, 1.0))
        ]
        assert found[0].steps == found[1].steps is not None


def test_the_limit_of_stability_is_that_of_the_spectral_radius() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        decays = 1.0 - 10.0 ** rng.uniform(-3.0, 0.0, 2)
        optimizer = nqm.TwoAverages(1.0, *decays.tolist(), float(10.0 ** rng.uniform(-2.0, 2.0)))
        limit = optimizer.stability_limit(0.5)
        for share, stable in ((0.999, True), (1.001, False)):
            matrix = optimizer.with_rate(share * limit).transition(np.array([0.5])).matrix[:, :, 0]
            values = np.linalg.eigvals(matrix)
            assert bool(np.abs(values).max() < 1.0) is stable
            assert optimizer.with_rate(share * limit).is_stable(np.array([0.5])) is stable


@pytest.mark.parametrize("name", ["beta1", "beta3", "alpha"])
def test_what_is_out_of_range_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}=-1.*: must be"):
        nqm.TwoAverages(0.1, **{name: -1.0})
