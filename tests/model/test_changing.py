"""Optimizers whose coefficients change with the step: short runs exact, long ones by stretches."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from changing import Free, Mean, TwoScales, mean_risk, risks_of

import nqm_study as nqm
from nqm_study.model.linear.runs import Runs
from nqm_study.model.numerics.horizon import FAIR, GOOD, Along, Look

PAPER = nqm.NoisyQuadratic(nqm.power_law(10_000), 256)
SMALL = nqm.NoisyQuadratic(nqm.power_law(30), 16)

OPTIMIZERS = [
    Mean(1.0), Mean(0.3, 0.9), Mean(1.0, start=3000), Free(3.0), Free(1.0, 0.98),
    TwoScales(0.3), TwoScales(0.3, 0.1, 0.5), nqm.Averaged(Free(1.0), 0.99),
    nqm.Preconditioned(Mean(0.05), 0.5),
]  # fmt: skip


def random_optimizer(rng: Any) -> Any:
    """One of the kinds, at a rate between far too small and next to too large."""
    rate = float(10.0 ** rng.uniform(-2.0, 0.2))
    gap = float(10.0 ** rng.uniform(-2.5, -0.3))
    kind = rng.integers(5)
    if kind == 0:
        return Mean(rate)
    if kind == 1:
        return Mean(rate * gap, 1.0 - gap, int(rng.choice([0, 7, 400])))
    if kind == 2:
        return Free(2.0 * rate, float(rng.choice([0.5, 0.9, 0.98])))
    if kind == 3:
        return TwoScales(0.4 * rate, float(10.0 ** rng.uniform(-3.0, -1.0)))
    return TwoScales(0.4 * rate, float(10.0 ** rng.uniform(-2.0, 0.0)), float(rng.uniform(0, 0.8)))


def assert_crossings_are_those_of_the_recursion(seed: int, most: float, work: float) -> None:
    """Of a random case of up to ``most`` steps, as far as ``work`` numbers of modes go."""
    rng = np.random.default_rng(seed)
    steps = int(10.0 ** rng.uniform(1.5, np.log10(most)))
    size = int(10.0 ** rng.uniform(0.0, np.log10(min(1e4, max(work / steps, 1.0)))))
    curvature = np.arange(1.0, size + 1.0) ** -rng.uniform(0.5, 2.0)
    spectrum = nqm.Spectrum(curvature, noise=curvature * rng.uniform(0.0, 2.0, size))
    problem = nqm.NoisyQuadratic(spectrum, float(2.0 ** rng.integers(0, 16)))
    optimizer = random_optimizer(rng)
    schedule = nqm.InverseSqrt(100.0) if rng.random() < 0.25 else nqm.Constant()
    factors = schedule.at_steps(np.arange(float(steps)), steps)
    with np.errstate(over="ignore", invalid="ignore"):
        risks = risks_of(problem, optimizer, optimizer.learning_rate * factors)
    records = np.flatnonzero(risks[1:] < np.fmin.accumulate(risks)[:-1]) + 1
    where = int(rng.choice(records)) if records.size else steps
    target = 0.5 * float(np.nanmin(risks))
    if records.size:
        target = float(np.sqrt(risks[where] * risks[:where].min()))
    found = nqm.steps_to_target(problem, optimizer, schedule, target=target, max_steps=steps)
    case = (seed, optimizer, schedule, size, steps, target)
    if records.size:
        assert (found.steps, found.status) == (where, "reached"), (case, found)
        assert found.risk == pytest.approx(risks[where], rel=1e-6), (case, found)
        kept = nqm.steps_to_target(
            problem, optimizer, schedule, target=target, max_steps=where - 1
        )  # a step too short
        assert kept.steps is None, (case, kept)
    else:
        assert found.steps is None, (case, found)
        grows = not risks[-1] <= risks[0]
        assert (found.status == "diverged") <= grows, (case, found)


@pytest.mark.parametrize("seed", range(40))
def test_first_crossings_are_those_of_the_recursion_over_all_modes(seed: int) -> None:
    assert_crossings_are_those_of_the_recursion(seed, 3e3, 1e5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1300))
def test_many_first_crossings_are_those_of_the_recursion_over_all_modes(seed: int) -> None:
    assert_crossings_are_those_of_the_recursion(seed, 1e5, 3e6)


SCHEDULES = [(nqm.Constant(), 10**5), (nqm.Cosine(), 10**5), (nqm.WarmupStableDecay(), 30_000)]
LONG = [
    *((optimizer, *each) for optimizer in OPTIMIZERS for each in SCHEDULES),
    (Mean(1.0), nqm.InverseSqrt(1000.0), 10**6),
    (TwoScales(0.3), nqm.InverseSqrt(1000.0), 10**6),
    (Free(3.0), nqm.Constant(), 10**6),
    (Free(3.0), nqm.Constant(), 10**7),
]


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "schedule", "steps"), LONG)
def test_risks_of_long_runs_are_those_of_their_steps(
    optimizer: Any, schedule: Any, steps: int
) -> None:
    exact = Runs(PAPER, optimizer, schedule, 0).stepped(steps)
    for quality, most in ((FAIR, 1e-3), (GOOD, 1e-6)):
        found = Runs(PAPER, optimizer, schedule, 0).look(steps, quality)
        off = abs(found.risk / exact.risk - 1.0)
        assert off <= min(most, found.error), (off, found)
        assert found.floor == pytest.approx(exact.floor, rel=10 * most)


@pytest.mark.parametrize("steps", [10**4, 10**5, 10**7, 10**9])
def test_the_mean_of_iterates_is_that_of_its_closed_form(steps: int) -> None:
    (found,) = nqm.risk_curve(PAPER, Mean(0.999), steps=[steps])
    assert found == pytest.approx(mean_risk(PAPER, 0.999, steps), rel=1e-6)


@pytest.mark.parametrize("target", [1e-2, 1e-4, 1e-6, 3e-8])
def test_a_late_first_crossing_is_that_of_the_closed_form(target: float) -> None:
    found = nqm.steps_to_target(PAPER, Mean(0.999), target=target)
    assert found.steps is not None
    assert found.error is not None
    below, above = (1.0 + sign * found.error for sign in (-1.0, 1.0))
    assert mean_risk(PAPER, 0.999, found.steps) <= target * above
    assert mean_risk(PAPER, 0.999, found.steps - 1) > target * below
    assert found.error < 1e-5


@pytest.mark.parametrize("optimizer", [Mean(0.5), Free(2.0), TwoScales(0.2, 0.003)])
def test_a_long_run_crosses_where_its_curve_does(optimizer: Any) -> None:
    curve = nqm.risk_curve(SMALL, optimizer, steps=np.arange(200_001))
    for share in (0.9, 0.3):
        where = int(np.argmin(curve[: int(share * curve.size)]))
        target = float(0.5 * (curve[where] + curve[:where].min()))
        exact = nqm.steps_to_target(SMALL, optimizer, target=target, thorough=True)
        assert (exact.steps, exact.smallest) == (where, True)
        found = nqm.steps_to_target(PAPER, optimizer, target=1e-3)
        assert found.steps is None or found.error < 1e-4


@dataclass(frozen=True)
class Jumps(Mean):
    """The mean begins anew at a step, of which its knots tell, or not."""

    told: bool = True
    jump = 20_000

    @property
    def knots(self) -> tuple[int, ...]:
        return (0, self.jump) if self.told else ()

    def update(self, step: Any, rate: Any) -> nqm.Update:
        return super().update(np.where(step < self.jump, step, step - self.jump), rate)


@pytest.mark.parametrize("told", [True, False])
def test_what_jumps_is_told_of_by_a_knot_or_shows_in_the_error(told: bool) -> None:
    optimizer = Jumps(1.0, told=told)
    exact = Runs(PAPER, optimizer, nqm.Constant(), 0).stepped(60_000)
    found = Runs(PAPER, optimizer, nqm.Constant(), 0).look(60_000, GOOD)
    assert abs(found.risk / exact.risk - 1.0) <= found.error
    assert (found.error < 2e-6) == told


def test_the_first_step_at_the_target_is_found_along_a_run_that_swings() -> None:
    every = np.arange(1.0, 3e6)
    risks = (1e4 / every) ** 0.5 * (1.0 + 0.6 * np.sin(20.0 * np.log(every)))

    def looks(steps: Any, quality: int) -> list[Look]:
        rough = 1e-4 * np.sin(steps.size + steps) if quality == FAIR else np.zeros(steps.size)
        return [Look(risk, 0.0, 1e-9, 0.0) for risk in risks[steps - 1] * (1.0 + rough)]

    for target in np.geomspace(0.05, 0.3, 50):
        first = int(np.flatnonzero(risks <= target)[0]) + 1
        assert Along(looks, float(target), 2_000_000, 8192).smallest().steps == first
    assert Along(looks, 0.01, 2_000_000, 8192).smallest().steps is None


def test_long_runs_that_rest_or_diverge_say_so() -> None:
    rests = nqm.steps_to_target(PAPER, TwoScales(0.3, 0.003), target=1e-4)
    assert (rests.steps, rests.status, rests.smallest) == (None, "floor_above_target", False)
    grows = nqm.steps_to_target(PAPER, Mean(2.0 + 1e-3), target=1e-4)
    assert (grows.steps, grows.status) == (None, "diverged")
    cut = nqm.steps_to_target(PAPER, Mean(0.999), target=1e-6, max_steps=10**6)
    assert (cut.steps, cut.status, cut.smallest) == (None, "max_steps", False)
    assert cut.risk == pytest.approx(mean_risk(PAPER, 0.999, 10**6), rel=1e-6)
