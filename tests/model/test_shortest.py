"""The smallest number of steps under a schedule, and what is said where it is not certain."""

import numpy as np
import pytest
import textbook

import nqm_study as nqm
from nqm_study.model.linear.runs import Runs

FEW_MODES = [
    ([1.0], 1e6, nqm.SGD(1.8), nqm.WarmupStableDecay(), 7.0326e-7, 9),
    ([1.0], 1e6, nqm.SGD(1.5), nqm.Linear(), 5.67e-7, 3),
    ([0.39613831752, 0.00107608745], 1e12, nqm.SGD(5.29896), nqm.Cosine(exponent=3), 3.5297e-3, 3),
    ([1, 1 / 2, 1 / 3], 4096, nqm.SGD(1.8622749), nqm.Constant(0.1300978), 1.829636e-3, 14),
    (
        [1, 1 / 2],
        524288,
        nqm.SGD(0.1430088, momentum=0.99967434),
        nqm.Exponential(0.00826367),
        2.4925e-4,
        293,
    ),
    (
        [0.0344535],
        1e12,
        nqm.SGD(0.0196429, momentum=0.99, nesterov=True),
        nqm.Polynomial(0.1, power=2),
        1.01381e-7,
        158,
    ),
    (
        [1, 1 / 2],
        262144,
        nqm.SGD(1.487006956962552, momentum=0.99),
        nqm.InverseSqrt(4.23397092024148),
        1.336155800975394e-5,
        1167,
    ),
]
"""Dips between the horizons that a search looks at, with their places in quadruple precision."""

MANY_MODES = [
    (
        524288,
        2.258138968229472,
        0.97,
        nqm.InverseSqrt(6547.2020154552365),
        0.03681192896907641,
        116,
    ),
    (512, 1.1770970881292162, 0.99, nqm.Constant(0.1), 1.0509032363039095, 109),
    (131072, 2.7504303031471014, 0.99, nqm.Cosine(), 0.02047460787992117, 230),
    (32768, 1.1066024521973072, 0.99, nqm.WarmupStableDecay(), 0.05902089500296686, 204),
]
"""Oscillations that the coarsest compression of 200 modes does not have."""


def ends(problem, optimizer, schedule, last):
    """L_T over all modes of the runs of T = 0 .. last steps."""
    found = [problem.spectrum.initial_risk]
    for horizon in range(1, last + 1):
        factors = schedule.at_steps(np.arange(horizon, dtype=float), horizon)
        found.append(textbook.linear_risks(problem, optimizer, horizon, factors)[-1])
    return np.array(found)


@pytest.mark.parametrize(
    ("curvature", "batch_size", "optimizer", "schedule", "target", "steps"), FEW_MODES
)
def test_a_narrow_dip_is_found(curvature, batch_size, optimizer, schedule, target, steps):
    problem = nqm.NoisyQuadratic(nqm.Spectrum(curvature=curvature), batch_size)
    found = nqm.steps_to_target(problem, optimizer, schedule, target=target)
    assert (found.steps, found.smallest, found.tie) == (steps, True, False)
    before = nqm.steps_to_target(problem, optimizer, schedule, target=target, max_steps=steps - 1)
    assert (before.status, before.smallest) == ("max_steps", True)
    same = nqm.steps_to_target(problem, optimizer, schedule, target=target, max_steps=steps)
    assert same == found


@pytest.mark.parametrize(
    ("batch_size", "rate", "momentum", "schedule", "target", "steps"), MANY_MODES
)
def test_a_dip_is_found_that_a_coarse_compression_has_not(
    batch_size, rate, momentum, schedule, target, steps
):
    problem = nqm.NoisyQuadratic(nqm.power_law(200), batch_size)
    optimizer = nqm.SGD(rate, momentum)
    for tolerance in (1e-9, 0.0):
        found = nqm.steps_to_target(
            problem, optimizer, schedule, target=target, tolerance=tolerance, max_steps=steps + 5
        )
        assert found.steps == steps
        assert found.smallest or tolerance == 0.0


def test_steps_that_are_not_proved_say_so_and_a_thorough_search_proves_them():
    problem = nqm.NoisyQuadratic(nqm.Spectrum(curvature=[1.0, 0.5]), 2**19)
    optimizer, schedule = nqm.SGD(0.05, momentum=0.99967434), nqm.Exponential(0.00826367)
    risks = ends(problem, optimizer, schedule, 900)
    # A target just above a dip: the search sees it or not, and says which.
    inner = risks[400:-1]
    dips = 400 + np.flatnonzero((inner < risks[399:-2]) & (inner < risks[401:]))
    for dip in dips[:: max(1, dips.size // 8)]:
        target = float(risks[dip]) * (1.0 + 1e-6)
        right = int(np.flatnonzero(risks <= target)[0])
        for thorough in (False, True):
            found = nqm.steps_to_target(
                problem, optimizer, schedule, target=target, thorough=thorough
            )
            assert found.smallest or not thorough
            if found.smallest:
                assert found.steps == right
            else:
                assert found.steps >= right


def test_a_bound_excludes_shorter_runs_of_plain_descent():
    problem, optimizer = nqm.NoisyQuadratic(nqm.power_law(100), 2**20), nqm.SGD(1.2)
    for schedule in (nqm.Linear(), nqm.WarmupStableDecay(0.0, 0.1, 0.4), nqm.OneCycle()):
        runs = Runs(problem, optimizer, schedule, problem.spectrum.last_level)
        risks = ends(problem, optimizer, schedule, 320)
        least = np.minimum.accumulate(risks)
        assert runs.excludes(320, 0.5 * least[320])
        for horizon in (4, 20, 100, 320):
            assert not runs.excludes(horizon, least[horizon])
        found = nqm.steps_to_target(problem, optimizer, schedule, target=1e-4)
        assert found.steps > 320
        assert found.smallest


@pytest.mark.parametrize(
    "schedule", [nqm.Constant(), nqm.InverseSqrt(20.0), nqm.Linear()], ids=repr
)
def test_a_risk_within_rounding_of_the_target_is_a_tie(schedule):
    problem, optimizer = nqm.NoisyQuadratic(nqm.power_law(5), 2**20), nqm.SGD(3.2, 0.97)
    risks = ends(problem, optimizer, schedule, 150)
    if not schedule.needs_horizon:
        factors = schedule.at_steps(np.arange(150.0), 150)
        risks = textbook.linear_risks(problem, optimizer, 150, factors)
    lowest = np.minimum.accumulate(risks)
    records = np.flatnonzero(risks[1:] < 0.9 * lowest[:-1]) + 1
    assert records.size > 5
    for step in records.tolist():
        for away, tie in ((1e-14, True), (-1e-14, True), (1e-9, False), (-1e-9, False)):
            target = float(risks[step]) * (1.0 + away)
            found = nqm.steps_to_target(problem, optimizer, schedule, target=target, max_steps=step)
            assert found.tie is tie
            assert tie or (found.steps == step) == (away > 0.0)


@pytest.mark.parametrize(
    ("batch_size", "optimizer", "schedule"),
    [
        (128, nqm.SGD(0.76956, momentum=0.99), nqm.InverseSqrt(21.27)),
        (16, nqm.SGD(0.957, momentum=0.9), nqm.WarmupStableDecay(0.0, 0.0506, 0.2748, "cosine")),
    ],
    ids=repr,
)
@pytest.mark.parametrize("dim", [4, 15, 200])
def test_the_error_of_a_long_run_covers_the_truth(batch_size, optimizer, schedule, dim):
    problem = nqm.NoisyQuadratic(nqm.power_law(dim), batch_size)
    factors = schedule.at_steps(np.arange(12_143, dtype=float), 12_143)
    target = float(textbook.linear_risks(problem, optimizer, 12_143, factors)[-1])
    found = nqm.steps_to_target(problem, optimizer, schedule, target=1.001 * target)
    assert found.steps is not None
    factors = schedule.at_steps(np.arange(found.steps, dtype=float), found.steps)
    right = float(textbook.linear_risks(problem, optimizer, found.steps, factors)[-1])
    assert found.error < 2e-6
    assert abs(found.risk / right - 1.0) <= found.error + 1e-15 * found.steps


def test_sampled_horizons_are_all_looked_at_where_the_closure_may_reach_the_target():
    # In 400,000 runs of each length, with starts drawn wider and weighted, the loss over the target
    # is 1.008 +- 0.004 after 62 steps and 0.997 +- 0.004 after 63; the closure says 55.
    problem = nqm.NoisyQuadratic(nqm.Spectrum(curvature=[1, 1 / 2, 1 / 3]), 65536)
    optimizer, schedule = nqm.Adam(0.1474, 0.0, 0.99), nqm.Constant(0.3)
    found = nqm.steps_to_target(problem, optimizer, schedule, target=0.0010104710952317149)
    assert found.sampled
    assert found.smallest
    assert 61 <= found.steps <= 65


@pytest.mark.parametrize("rate", [2.5, 3.856])
def test_risks_that_vanish_are_no_obstacle(rate):
    # Without noise a mode may end at exactly nothing, in a run whose loss overflows in others.
    curvature = np.random.default_rng(56).uniform(0.5, 1.0, 3)
    problem = nqm.NoisyQuadratic(nqm.Spectrum(curvature=curvature, noise=0.0 * curvature), 256)
    schedule = nqm.StepDecay(decay_rate=0.1, drops=3, warmup_fraction=0.3)
    target = 0.01 * problem.spectrum.initial_risk
    for limit in (None, 3.0):
        found = nqm.steps_to_target(
            problem, nqm.SGD(rate), schedule, target=target, max_growth=limit
        )
        assert found.risk <= target or found.steps is None
        assert found.steps is not None or found.status == "diverged"
    below = np.flatnonzero(ends(problem, nqm.SGD(rate), schedule, 300) <= target)
    short = nqm.steps_to_target(problem, nqm.SGD(rate), schedule, target=target, max_steps=300)
    assert short.steps == (int(below[0]) if below.size else None)
