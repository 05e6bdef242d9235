"""Batch sizes that change: their mean and bounds, and what runs with them do."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from moments import rule_recursion

import nqm_study as nqm
from nqm_study.model.schedules.batches import Batched, batched

SMALL = nqm.power_law(40)

RAMPS: dict[str, Callable[[Any], nqm.BatchSchedule]] = {
    "linear": lambda rng: nqm.BatchRamp(end=np.exp(rng.uniform(-3, 6)), curve="linear"),
    "geometric": lambda rng: nqm.BatchRamp(end=np.exp(rng.uniform(-3, 6))),
    "power": lambda rng: nqm.BatchRamp(end=np.exp(rng.uniform(0, 6)), power=rng.uniform(0.3, 6.0)),
    "steps": lambda rng: nqm.BatchSteps(
        growth=rng.uniform(0.5, 4.0), stages=int(rng.integers(1, 7))
    ),
    "pieces": lambda rng: nqm.BatchPieces(tuple(rng.uniform(0.1, 9.0, rng.integers(1, 9)))),
    "coupled": lambda rng: nqm.BatchCoupled(power=rng.uniform(0.3, 2.0)),
    "integer": lambda rng: nqm.BatchRamp(end=np.exp(rng.uniform(0.0, 4.0)), integer=True),
    "bounds": lambda rng: nqm.BatchRamp(end=99.0, min=rng.uniform(1, 6), max=rng.uniform(9, 30)),
}
"""Random batch schedules; their means are from 7 to 9."""

OPTIMIZERS: dict[str, Callable[[float], nqm.LinearOptimizer]] = {
    "sgd": nqm.SGD,
    "nesterov": lambda rate: nqm.Nesterov(0.3 * rate, 0.8),
    "averaged": lambda rate: nqm.Averaged(nqm.HeavyBall(0.5 * rate, 0.5), 0.8),
    "polyak": lambda rate: nqm.PolyakAverage(nqm.HeavyBall(rate), 7),
    "preconditioned": lambda rate: nqm.Preconditioned(nqm.HeavyBall(rate), 0.5),
}

SCHEDULES = (nqm.Constant(), nqm.Cosine(0.1, warmup_fraction=0.2), nqm.StepDecay(0.3))


@pytest.mark.parametrize("steps", [1, 2, 7, 100, 4321, 300_000])
@pytest.mark.parametrize("name", [name for name in RAMPS if name != "integer"])
def test_the_mean_is_the_batch_size(name: str, steps: int) -> None:
    for seed in range(3):
        ramp = RAMPS[name](np.random.default_rng(seed))
        for schedule in SCHEDULES:
            sizes = nqm.batch_sizes(ramp, steps, 8.0, schedule)
            assert sizes.mean() == pytest.approx(8.0, rel=1e-12 if steps < 10**5 else 1e-5)
            assert np.all(sizes >= (ramp.min or 0.0))
            assert np.all(sizes <= (ramp.max or np.inf))


def test_the_sizes_are_those_of_the_formulas() -> None:
    linear = nqm.batch_sizes(nqm.BatchRamp(end=3.0, curve="linear"), 4, 7.0)
    np.testing.assert_allclose(linear, 4.0 * np.array([1.0, 1.5, 2.0, 2.5]))
    curved = nqm.batch_sizes(nqm.BatchRamp(end=16.0, power=2.0), 2, 3.0)
    np.testing.assert_allclose(curved, [2.0, 4.0])
    np.testing.assert_allclose(
        nqm.batch_sizes(nqm.BatchSteps(2.0, 3), 6, 7.0), [3, 3, 6, 6, 12, 12]
    )
    np.testing.assert_allclose(nqm.batch_sizes(nqm.BatchPieces((1.0, 4.0)), 4, 5.0), [2, 2, 8, 8])
    np.testing.assert_allclose(nqm.batch_sizes(lambda u: 3.0 + u, 2, 999.0), [3.0, 3.5])
    rounded = nqm.batch_sizes(nqm.BatchRamp(end=3.0, integer=True), 4, 0.7)
    np.testing.assert_allclose(rounded, [1.0, 1.0, 1.0, 1.0])
    # Within bounds what is cut off on one side is spread over the rest.
    bounded = nqm.batch_sizes(nqm.BatchPieces((1.0, 2.0, 3.0, 10.0), max=8.0), 4, 5.0)
    np.testing.assert_allclose(bounded, [2.0, 4.0, 6.0, 8.0])


def test_coupled_batches_times_rates_are_constant_after_the_warm_up() -> None:
    schedule = nqm.Linear(0.1, warmup_fraction=0.25)
    sizes = nqm.batch_sizes(nqm.BatchCoupled(), 400, 8.0, schedule)
    rates = schedule(np.arange(400) / 400)
    np.testing.assert_allclose((sizes * rates)[100:], (sizes * rates)[100])
    np.testing.assert_allclose(sizes[:100], sizes[100])
    seesaw = nqm.batch_sizes(nqm.BatchCoupled(2.0), 400, 8.0, schedule)
    np.testing.assert_allclose((seesaw * rates**2)[100:], (seesaw * rates**2)[100])


def ends(
    problem: nqm.NoisyQuadratic, optimizer: Any, schedule: Any, ramp: Any, horizon: int
) -> np.ndarray:
    """The risks along a run, by the recursion over all modes."""
    sizes = nqm.batch_sizes(ramp, horizon, problem.batch_size, schedule)
    rates = optimizer.learning_rate * schedule.at_steps(np.arange(float(horizon)), horizon)
    if isinstance(optimizer, nqm.Preconditioned):
        scale = optimizer.preconditioner(problem.spectrum.curvature)
    else:
        scale = 1.0
    return np.array(rule_recursion(problem, optimizer, rates, scale, sizes))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", RAMPS)
def test_risks_and_crossings_are_those_of_the_recursion(name: str, optimizer: str) -> None:
    rng = np.random.default_rng([*name.encode(), *optimizer.encode()])
    problem = nqm.NoisyQuadratic(SMALL, batch_size=rng.uniform(7.0, 9.0))
    made, schedule = OPTIMIZERS[optimizer](rng.uniform(0.3, 1.2)), SCHEDULES[rng.integers(3)]
    ramp = RAMPS[name](rng)
    every = [ends(problem, made, schedule, ramp, horizon) for horizon in range(1, 61)]
    curve = nqm.risk_curve(
        problem, made, schedule, steps=range(61), horizon=60, batch_schedule=ramp
    )
    np.testing.assert_allclose(curve, every[-1], rtol=1e-9)
    last = np.array([problem.spectrum.initial_risk, *(risks[-1] for risks in every)])
    target = 0.5 * (last[30:].min() + last[29])
    found = nqm.steps_to_target(problem, made, schedule, target=target, batch_schedule=ramp)
    assert found.steps == np.flatnonzero(last <= target)[0] or found.tie
    assert found.smallest


@pytest.mark.parametrize("name", ["linear", "steps", "coupled", "bounds"])
@pytest.mark.parametrize("optimizer", ["sgd", "polyak"])
def test_long_runs_end_where_stepping_through_them_does(name: str, optimizer: str) -> None:
    rng = np.random.default_rng(3)
    problem = nqm.NoisyQuadratic(SMALL, 8.0)
    made, schedule, ramp = OPTIMIZERS[optimizer](0.03), SCHEDULES[1], RAMPS[name](rng)
    last = ends(problem, made, schedule, ramp, 12_000)[-1]
    found = nqm.steps_to_target(problem, made, schedule, target=last, batch_schedule=ramp)
    assert found.status == "reached"
    assert found.steps == pytest.approx(12_000, rel=2e-4)
    curve = nqm.risk_curve(
        problem, made, schedule, steps=[12_000], horizon=12_000, batch_schedule=ramp
    )
    assert curve[0] == pytest.approx(last, rel=2e-6)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("steps", [50, 6000])
def test_the_best_batches_of_a_mean_are_those_of_the_fewest_examples(
    optimizer: str, steps: int
) -> None:
    made = OPTIMIZERS[optimizer](0.9)
    schedule = nqm.Linear(0.05, warmup_fraction=0.1)
    problem = nqm.NoisyQuadratic(SMALL, 4.0)
    given = {"steps": [steps], "horizon": steps, "batch_schedule": nqm.BatchOptimal()}
    ends_at = nqm.risk_curve(problem, made, schedule, **given)[0]
    best = nqm.optimal_batch_sizes(problem, made, schedule, target=ends_at, steps=steps)
    assert best.mean_batch_size == pytest.approx(4.0, rel=1e-6 if steps < 2000 else 1e-5)
    sizes = nqm.risk_curve(problem, made, schedule, steps=[steps], horizon=steps)
    assert ends_at < sizes[0]
    found = nqm.steps_to_target(
        problem, made, schedule, target=ends_at, batch_schedule=nqm.BatchOptimal()
    )
    assert found.steps == pytest.approx(steps, rel=1e-3)


def test_the_best_batches_stay_within_their_bounds_and_beat_every_ramp() -> None:
    problem = nqm.NoisyQuadratic(SMALL, 8.0)
    run = {"steps": [400], "horizon": 400}
    made, schedule = nqm.HeavyBall(0.3, 0.5), nqm.Cosine(0.2)

    def end(batches: Any) -> float:
        return nqm.risk_curve(problem, made, schedule, **run, batch_schedule=batches)[0]

    best, bounded = end(nqm.BatchOptimal()), end(nqm.BatchOptimal(min=6.0, max=12.0))
    assert best < bounded < end(None)
    rng = np.random.default_rng(0)
    for ramp in RAMPS.values():
        for _ in range(5):
            assert best <= end(replace(ramp(rng), integer=False))
    for _ in range(20):
        inside = nqm.BatchPieces(tuple(rng.uniform(1.0, 2.0, 7)), min=3.0, max=9.0)
        assert bounded <= end(inside)


def test_simulated_runs_of_a_ramp_agree_with_its_risks() -> None:
    problem = nqm.NoisyQuadratic(SMALL, 4.0)
    for made in (nqm.HeavyBall(0.2, 0.6), nqm.Adam(0.02)):
        for batches in (
            nqm.BatchRamp(end=50.0, power=2.0),
            nqm.BatchSteps(),
            lambda u: 1.0 + 9.0 * u,
        ):
            given = {"schedule": nqm.Cosine(0.1), "batch_schedule": batches}
            seen = nqm.simulate(problem, made, n_steps=150, n_replicas=64, seed=1, **given)
            risks = nqm.risk_curve(problem, made, steps=[50, 149, 150], horizon=150, **given)
            off = (seen.mean[[50, 149, 150]] - risks) / seen.standard_error[[50, 149, 150]]
            assert np.all(np.abs(off) < 4.0)


def test_equal_batches_are_the_batch_size() -> None:
    problem = nqm.NoisyQuadratic(SMALL, 8.0)
    plain = nqm.steps_to_target(problem, nqm.SGD(0.5), nqm.Cosine(), target=0.1)
    for same in (
        nqm.BatchRamp(end=1.0),
        nqm.BatchPieces((3.0,)),
        nqm.BatchConstant(),
        lambda _: 8.0,
    ):
        found = nqm.steps_to_target(
            problem, nqm.SGD(0.5), nqm.Cosine(), target=0.1, batch_schedule=same
        )
        assert (found.steps, found.status) == (plain.steps, plain.status)


def test_a_schedule_of_ones_own_is_scaled_to_the_mean() -> None:
    @dataclass(frozen=True)
    class Late(nqm.BatchSchedule):
        share: float = 0.9

        @property
        def knots(self) -> tuple[float, ...]:
            return (self.share,)

        def factor(self, fraction: np.ndarray) -> np.ndarray:
            return np.where(fraction < self.share, 1.0, 11.0)

    np.testing.assert_allclose(nqm.batch_sizes(Late(), 10, 4.0), [2.0] * 9 + [22.0])
    np.testing.assert_allclose(nqm.batch_sizes(Late(max=13.0), 10, 4.0), [3.0] * 9 + [13.0])


def test_what_is_no_batch_schedule_is_refused_in_one_line() -> None:
    problem = nqm.NoisyQuadratic(SMALL, 8.0)

    def refused(line: str, ramp: Any) -> None:
        with pytest.raises(ValueError, match=f"^{re.escape(line)}"):
            nqm.steps_to_target(problem, nqm.SGD(0.5), target=0.1, batch_schedule=ramp())

    refused("batch_schedule=3: must be a batch schedule, such as BatchRamp()", lambda: 3)
    refused("min=9: must be at most batch_size=8, the mean", lambda: nqm.BatchRamp(min=9.0))
    refused("max=7: must be at least batch_size=8, the mean", lambda: nqm.BatchRamp(max=7.0))
    refused("min=3: must be at most max=2", lambda: nqm.BatchRamp(min=3.0, max=2.0))
    refused("end=0: must be a finite number greater than 0", lambda: nqm.BatchRamp(end=0.0))
    refused("curve='cubic': must be one of geometric", lambda: nqm.BatchRamp(curve="cubic"))  # type: ignore[arg-type]
    refused("factors=(): must have at least one", lambda: nqm.BatchPieces(()))
    refused("stages=0: must be an integer of at least 1", lambda: nqm.BatchSteps(stages=0))
    refused(
        "growth=2: must be from 0.887 to 1.13 with stages=5000", lambda: nqm.BatchSteps(stages=5000)
    )
    refused("integer='no': must be true or false", lambda: nqm.BatchRamp(integer="no"))  # type: ignore[arg-type]
    refused("factors[1]=0: must be a finite number greater", lambda: nqm.BatchPieces((1.0, 0.0)))
    line = r"^batch_schedule=BatchOptimal\(.*\): must be another one with Adam"
    with pytest.raises(ValueError, match=line):
        nqm.steps_to_target(problem, nqm.Adam(0.01), batch_schedule=nqm.BatchOptimal())
    for size, said in ((0, "0"), (-3.0, "-3"), (None, "None"), (np.inf, "inf")):
        line = f"batch_schedule(0)={said}: must be a finite number greater than 0"
        refused(line, lambda size=size: lambda _: size)


@pytest.mark.parametrize("name", [*RAMPS, "function"])
def test_what_a_run_costs_is_the_sum_over_its_steps(name: str) -> None:
    ramp: Any = (lambda u: 5.0 + 6.0 * u) if name == "function" else None
    for seed in range(3):
        given = ramp or RAMPS[name](np.random.default_rng(seed))
        for steps in (1, 7, 4321, 100_000):
            found = batched(nqm.Cosine(0.1), given, 8.0)
            assert isinstance(found, Batched)
            sizes = nqm.batch_sizes(given, steps, 8.0, nqm.Cosine(0.1))
            time = float(np.sum(np.maximum(1.0, sizes / 8.0) ** 0.7))
            cost = found.total(steps, lambda size: np.maximum(1.0, size / 8.0) ** 0.7)
            assert cost == pytest.approx(time, rel=1e-12 if steps < 10**5 else 1e-5)
            assert found.examples(steps) == pytest.approx(sizes.sum(), rel=1e-5)
