"""Runs whose expected loss rises too high on the way do not count."""

import numpy as np
import pytest
import textbook

import nqm_study as nqm

MOMENTUM = nqm.SGD(3.89, momentum=0.95)
"""Near its limit of stability: the loss rises first."""


def curve(problem, optimizer, schedule, horizon):
    factors = schedule.at_steps(np.arange(horizon, dtype=float), horizon)
    return textbook.linear_risks(problem, optimizer, horizon, factors)


@pytest.mark.parametrize("limit", [1.0, 1.5, 20.0, 1000.0])
@pytest.mark.parametrize(
    ("optimizer", "schedule"),
    [
        (nqm.SGD(3.0), nqm.Linear()),
        (nqm.SGD(2.4), nqm.Cosine(0.1)),
        (MOMENTUM, nqm.Linear()),
        (MOMENTUM, nqm.Constant(0.3)),
        (nqm.SGD(1.3, 0.9, nesterov=True), nqm.WarmupStableDecay(0.0, 0.2, 0.3)),
        (nqm.SGD(3.0, 0.9, ema_decay=0.9), nqm.OneCycle()),
    ],
    ids=repr,
)
def test_smallest_horizon_that_does_not_rise_is_found(optimizer, schedule, limit):
    problem = nqm.NoisyQuadratic(nqm.power_law(20), 1024)
    runs = {horizon: curve(problem, optimizer, schedule, horizon) for horizon in range(1, 241)}
    initial = problem.spectrum.initial_risk
    for target in (0.5 * initial, 0.1, 0.01):
        reached = [horizon for horizon, risks in runs.items() if risks[-1] <= target]
        kept = [horizon for horizon in reached if runs[horizon].max() <= limit * initial]
        found = nqm.steps_to_target(
            problem, optimizer, schedule, target=target, max_steps=240, max_growth=limit
        )
        assert found.steps == (kept[0] if kept else None)
        if reached and not kept:
            assert found.status == "diverged"
        assert found.smallest


@pytest.mark.parametrize(
    "optimizer",
    [
        MOMENTUM,
        nqm.SGD(3.9, 0.97),
        nqm.SGD(1.3, 0.95, nesterov=True),
        nqm.SGD(1.9),
        nqm.SGD(2.02),
        nqm.SGD(3.6, 0.95, ema_decay=0.9),
    ],
    ids=repr,
)
def test_a_first_crossing_counts_if_the_loss_stayed_below_the_limit(optimizer):
    problem = nqm.NoisyQuadratic(nqm.power_law(50), 4096)
    risks = textbook.linear_risks(problem, optimizer, 3000)
    highest = np.maximum.accumulate(risks) / risks[0]
    for target in (0.9 * risks[0], 0.3, 0.05):
        below = np.flatnonzero(risks <= target)
        if not below.size:
            continue
        first = int(below[0])
        for limit in (1.0, 0.999 * highest[first], 1.001 * highest[first]):
            if limit < 1.0:
                continue
            found = nqm.steps_to_target(problem, optimizer, target=target, max_growth=limit)
            kept = highest[first] <= limit
            assert (found.steps, found.status) == (
                (first, "reached") if kept else (None, "diverged")
            )


@pytest.mark.parametrize(
    "schedule", [nqm.Constant(), nqm.Linear(), nqm.InverseSqrt(50.0)], ids=repr
)
def test_a_curve_is_infinite_from_where_it_rose(schedule):
    problem = nqm.NoisyQuadratic(nqm.power_law(50), 4096)
    risks = curve(problem, MOMENTUM, schedule, 500)
    highest = np.maximum.accumulate(risks) / risks[0]
    assert highest[-1] > 2.5
    for limit in (1.0, 0.5 * highest[-1], 2.0 * highest[-1]):
        steps = list(range(501))
        found = nqm.risk_curve(
            problem, MOMENTUM, schedule, steps=steps, horizon=500, max_growth=limit
        )
        plain = nqm.risk_curve(problem, MOMENTUM, schedule, steps=steps, horizon=500)
        np.testing.assert_allclose(plain, risks, rtol=1e-8)
        np.testing.assert_array_equal(found, np.where(highest <= limit, plain, np.inf))


@pytest.mark.parametrize("schedule", [nqm.Constant(), nqm.Linear()], ids=repr)
def test_adam_that_rises_does_not_count(schedule):
    problem = nqm.NoisyQuadratic(nqm.power_law(20), 64)
    optimizer = nqm.Adam(4.0)
    found = nqm.steps_to_target(problem, optimizer, schedule, target=0.9)
    assert found.steps is not None
    steps = range(found.steps + 1)
    risks = nqm.risk_curve(problem, optimizer, schedule, steps=steps, horizon=found.steps)
    growth = float(risks.max() / risks[0])
    assert growth > 3.0
    wide, narrow = (
        nqm.steps_to_target(problem, optimizer, schedule, target=0.9, max_growth=limit)
        for limit in (2.0 * growth, 0.5 * growth)
    )
    assert wide == found
    assert narrow.status == "diverged"


@pytest.mark.parametrize(
    ("batch_size", "optimizer", "schedule"),
    [
        (4096, nqm.SGD(4.3), nqm.Linear(0.158)),
        (4096, nqm.SGD(4.88), nqm.Cosine(0.2)),
        (1024, nqm.SGD(2.22), nqm.Linear()),
        (64, nqm.SGD(2.22), nqm.Linear()),
    ],
    ids=repr,
)
def test_a_run_that_no_computer_could_train_is_diverged(batch_size, optimizer, schedule):
    problem = nqm.NoisyQuadratic(nqm.power_law(1000), batch_size)
    free = nqm.steps_to_target(problem, optimizer, schedule)
    assert free.status == "reached"
    assert nqm.steps_to_target(problem, optimizer, schedule, max_growth=1000).status == "diverged"
    best = nqm.tuned(problem, "sgd", schedule=schedule)
    assert best.optimizer.learning_rate <= 2.0
    steps = range(best.steps + 1)
    risks = nqm.risk_curve(problem, best.optimizer, schedule, steps=steps, horizon=best.steps)
    assert risks.max() <= 1.001 * risks[0]


def test_an_optimum_that_rises_too_much_is_searched_elsewhere():
    problem = nqm.NoisyQuadratic(nqm.power_law(30), 2**20)
    free = nqm.tuned(problem, "momentum", target=0.001, max_growth=None)
    risks = nqm.risk_curve(problem, free.optimizer, steps=range(free.steps + 1))
    growth = float(risks.max() / risks[0])
    assert growth > 1.02
    kept = nqm.tuned(problem, "momentum", target=0.001, max_growth=1.0)
    assert kept.steps >= free.steps
    assert not kept.exact
    risks = nqm.risk_curve(problem, kept.optimizer, steps=range(kept.steps + 1))
    assert risks.max() <= risks[0]


@pytest.mark.parametrize("value", [0.5, -1.0, float("nan"), "much"])
def test_a_limit_below_the_first_loss_is_refused(value):
    problem = nqm.NoisyQuadratic(nqm.power_law(5), 4)
    for call in (
        lambda: nqm.steps_to_target(problem, nqm.SGD(0.1), max_growth=value),
        lambda: nqm.risk_curve(problem, nqm.SGD(0.1), steps=[1], max_growth=value),
        lambda: nqm.tuned(problem, "sgd", max_growth=value),
        lambda: nqm.run_study(problem, "sgd", n_trials=1, max_growth=value),
    ):
        with pytest.raises(ValueError, match="max_growth="):
            call()
