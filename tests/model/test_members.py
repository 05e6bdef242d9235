"""Many members at a time: as the engines of risks.py, transition by transition, have them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import optimize
from strategies import problems, repeatable

import nqm_study as nqm
from nqm_study.model.linear.members import (
    FLAT,
    MOST_CALLS,
    SIDES,
    SMALL,
    Family,
    Members,
    form_of,
    rules,
)
from nqm_study.model.linear.risks import Engine

FAMILIES = [
    Family(),
    Family({"preconditioner_power": 0.5}),
    Family({"momentum": 0.7}),
    Family({"momentum": 0.7, "nesterov": True, "ema_decay": 0.4}),
    Family(decay="momentum"),
    Family({"preconditioner_power": 0.25}, "momentum"),
    Family({"nesterov": True}, "momentum"),
    Family({"ema_decay": 0.9}, "momentum"),
    Family(decay="ema_decay"),
    Family({"momentum": 0.9}, "ema_decay"),
    Family({"momentum": 0.9, "nesterov": True, "preconditioner_power": 1.0}, "ema_decay"),
]
families = st.sampled_from(FAMILIES)
points = st.tuples(st.floats(-6.0, 0.5), st.just(0.0) | st.floats(-8.0, -0.01))
PAPER = nqm.NoisyQuadratic(nqm.power_law(10_000), 256)


@settings(repeatable, max_examples=100)
@given(families, st.lists(points, min_size=1, max_size=3))
def test_compiled_rules_are_those_of_the_optimizer(family, where):
    found = rules(form_of(family), np.array(where))
    for index, point in enumerate(where):
        optimizer = family.optimizer(point)
        twin = optimizer.rule(np.zeros(1, np.int64), np.array([optimizer.learning_rate]))
        drift, gain, at = (part[index] for part in found)
        if twin.start.size == gain.size:  # a decay of 0 has a component less
            np.testing.assert_allclose(drift, twin.drift[0], rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(gain, twin.gain[0], rtol=1e-12)
            np.testing.assert_array_equal(at, twin.point[0])


@settings(repeatable, max_examples=100)
@given(problems(), families, st.lists(points, min_size=1, max_size=4), st.integers(1, 3000))
def test_members_that_are_made_of_their_class_are_those_of_compiled_rules(
    problem, family, where, steps
):
    made = replace(family, make=lambda values: nqm.SGD(**values))
    each = [steps + index for index in range(len(where))]
    here, there = (
        Members(problem, which, 0.01).excesses(where, each, problem.spectrum.first_level)
        for which in (family, made)
    )
    np.testing.assert_allclose(here, there, rtol=1e-8, atol=1e-8)


@settings(repeatable, max_examples=200)
@given(
    problems() | st.just(PAPER),
    families,
    st.lists(points, min_size=1, max_size=4),
    st.integers(1, 3000),
)
def test_risks_of_many_members_are_those_of_their_engines(problem, family, where, steps):
    level = problem.spectrum.first_level
    each = [steps + index for index in range(len(where))]
    found = Members(problem, family, 0.01).excesses(where, each, level)
    for point, taken, excess in zip(where, each, found, strict=True):
        engine = Engine.build(problem, family.optimizer(point), level, taken)
        (risk,) = engine.risks(np.array((taken,)))
        if 0.0 < risk < 1e100:
            assert 0.01 * np.exp(excess) == pytest.approx(risk, rel=1e-8), (point, taken)
        elif risk == 0.0:
            assert excess < -600.0  # zero, or next to nothing
        else:
            assert excess > 200.0  # overflow


@settings(repeatable, max_examples=100)
@given(problems(), families, st.lists(points, min_size=2, max_size=4), st.floats(0.01, 0.9))
def test_first_crossings_on_one_bench_are_those_of_engines(problem, family, where, share):
    target = share * problem.spectrum.initial_risk
    level = problem.spectrum.first_level
    bench = Members(problem, family, target).bench(level)
    for point in where:
        engine = Engine.build(problem, family.optimizer(point), level, 1000)
        found, expected = bench.search(point, 1000), engine.search(target, 1000)
        assert (found.reason, found.step) == (expected.reason, expected.step)
        assert found.risk == pytest.approx(expected.risk, rel=1e-8)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("target", [0.01, 1.0])
def test_the_least_risk_is_that_of_scipy(family, target):
    members = Members(PAPER, family, target)
    free = 1 if family.decay is None else 2
    start, steps = (-3.0, -3.0 if free == 2 else 0.0), 300
    sides = np.diag(SIDES)
    simplex = np.array(start) + np.vstack((np.zeros(2), sides))[: free + 1]
    twin = optimize.minimize(
        lambda x: members.excesses([(x[0], x[1] if free == 2 else 0.0)], steps, 0)[0],
        start[:free],
        method="Nelder-Mead",
        bounds=[(-300.0, 300.0), (-34.0, 0.0)][:free],
        options={
            "initial_simplex": simplex[:, :free],
            "xatol": SMALL,
            "fatol": FLAT,
            "maxfev": MOST_CALLS,
        },
    )
    found, value = members._least(start, steps, 0)
    if twin.fun <= 0.0:
        assert value == pytest.approx(twin.fun, abs=1e-9)
        np.testing.assert_allclose(found[:free], twin.x, atol=1e-4)
    else:  # given up, but only near the least that there is
        assert value == pytest.approx(twin.fun, rel=0.05)
    assert members.excesses([found], steps, 0)[0] == pytest.approx(value, abs=1e-12)


def test_the_level_is_the_coarsest_that_agrees_with_the_next():
    members = Members(PAPER, Family(decay="momentum"), 0.01)
    for point, steps in (((-1.0, -2.0), 150), ((-2.85, -10.4), 300_000)):
        level = members.level(point, steps)
        risks = [members.excesses([point], steps, each)[0] for each in range(level + 2)]
        gaps = np.abs(np.diff(risks))
        assert gaps[-1] <= 1e-9
        assert np.all(gaps[:-1] > 1e-9)
