"""Extreme but legal floats: every answer is true, or a ValueError says which value is refused.

Warnings are errors. NQM_EXTREMES is the number of examples of each property, few unless set; it
then also bounds the time of each call.
"""

import math
import os
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from strategies import (
    HUGE,
    TINY,
    extreme_adams,
    extreme_linear_optimizers,
    extreme_problems,
    extreme_schedules,
    extreme_spectra,
    extremes,
    linear_optimizers,
    problems,
    repeatable,
)

import nqm_study as nqm
from nqm_study.model.problems.small_batch import small_batch

EXAMPLES = int(os.environ.get("NQM_EXTREMES", "0"))
SECONDS = 5.0

whole = settings(repeatable, max_examples=EXAMPLES or 25)
some_steps = st.lists(st.sampled_from([0, 1, 2, 5, 30, 1000]), min_size=1, max_size=3)
limits = st.sampled_from([0, 1, 30, 1000, 10**9, 2**62])
inside = extremes(0.0, 1.0)


def answered(call, *args, **kwargs):
    """The answer; None where a value is refused, which has to be in the words of the house."""
    started = time.perf_counter()
    try:
        return call(*args, **kwargs)
    except ValueError as error:
        if "must" not in str(error):
            raise
        return None
    finally:
        assert not EXAMPLES or time.perf_counter() - started < SECONDS, (args, kwargs)


def check_crossing(found, problem, target, max_steps):
    initial = problem.spectrum.initial_risk
    if initial <= target:
        assert found.status == "reached"
        assert found.steps == 0
    if found.status == "reached":
        assert 0 <= found.steps <= max_steps
        assert found.risk <= target * (1.0 + 1e-6) or found.steps == 0
    else:
        assert found.steps is None
        assert found.risk > target * (1.0 - 1e-6) or math.isnan(found.risk)


@whole
@given(extreme_problems(), extreme_linear_optimizers(), extremes(), limits)
def test_steps_to_target_at_a_constant_rate(problem, optimizer, target, max_steps):
    found = nqm.steps_to_target(problem, optimizer, target=target, max_steps=max_steps)
    check_crossing(found, problem, target, max_steps)


@whole
@given(extreme_problems(), extreme_adams(), extremes(), limits)
def test_steps_to_target_of_adam(problem, optimizer, target, max_steps):
    found = nqm.steps_to_target(problem, optimizer, target=target, max_steps=max_steps)
    check_crossing(found, problem, target, max_steps)


@whole
@given(
    extreme_problems(),
    extreme_linear_optimizers() | extreme_adams(),
    st.just(nqm.Constant()) | extreme_schedules(),
    extremes(),
    limits,
    st.sampled_from([None, None, 1.0, 1000.0, 1e300]),
    st.booleans(),
)
def test_steps_to_target_under_a_schedule(
    problem, optimizer, schedule, target, max_steps, max_growth, thorough
):
    found = answered(
        nqm.steps_to_target,
        problem,
        optimizer,
        schedule,
        target=target,
        max_steps=max_steps,
        max_growth=max_growth,
        thorough=thorough,
    )
    if max_growth is None and found is not None:
        check_crossing(found, problem, target, max_steps)


@whole
@given(
    extreme_problems(),
    extreme_linear_optimizers() | extreme_adams(),
    extreme_schedules(),
    some_steps,
    st.sampled_from([1000, 10**6, 2**62]),
    st.sampled_from([None, None, 1.0, 1e300]),
)
def test_risks_under_a_schedule(problem, optimizer, schedule, steps, horizon, max_growth):
    risks = answered(
        nqm.risk_curve,
        problem,
        optimizer,
        schedule,
        steps=[*steps, horizon],
        horizon=horizon,
        max_growth=max_growth,
    )
    if risks is not None:
        assert not np.any(risks < 0.0)


@whole
@given(
    problems(),
    st.sampled_from(["sgd", "preconditioned", "momentum"]),
    extremes(),
    st.sampled_from([0, 1, 30, 1000]),
)
def test_tuned_at_any_target(problem, family, target, max_steps):
    found = answered(nqm.tuned, problem, family, target=target, max_steps=max_steps)
    if found is not None and found.steps is not None:
        assert found.steps <= max_steps


@whole
@given(extreme_problems(), extremes(), st.sampled_from([0, 1, 1000, 10**4]), st.just(0.0) | inside)
def test_greedy_schedule(problem, target, max_steps, power):
    found = answered(
        nqm.greedy_schedule,
        problem,
        target=target,
        max_steps=max_steps,
        preconditioner_power=power,
    )
    if found is not None:
        assert found.risk <= problem.spectrum.initial_risk * (1.0 + 1e-9)
        check_crossing(found, problem, target, max_steps)


@whole
@given(extreme_problems(), extreme_linear_optimizers() | extreme_adams(), some_steps)
def test_risks_at_a_constant_rate(problem, optimizer, steps):
    risks = answered(nqm.risk_curve, problem, optimizer, steps=steps)
    if risks is not None:
        assert not np.any(risks < 0.0)
        at_start = risks[np.array(steps) == 0]
        np.testing.assert_allclose(at_start, problem.spectrum.initial_risk, rtol=1e-9)


@whole
@given(extreme_spectra(), extremes(), st.just("adam") | inside)
def test_small_batch(spectrum, target, preconditioner):
    found = answered(small_batch, spectrum, preconditioner, target=target)
    if found is not None:
        numbers = np.array([found.examples, found.rate, found.time, found.least_time, found.speed])
        assert np.all(numbers >= 0.0)


@whole
@given(extreme_problems(), extreme_linear_optimizers() | extreme_adams(), extreme_schedules())
def test_simulate(problem, optimizer, schedule):
    if len(problem.spectrum) < 1000:
        found = nqm.simulate(problem, optimizer, schedule, n_steps=5, n_replicas=3)
        assert not np.any(found.mean < 0.0)


@whole
@given(extreme_schedules(), st.integers(1, 2**62))
def test_factors_are_numbers_of_at_least_0(schedule, horizon):
    steps = np.unique(np.linspace(0, np.nextafter(horizon, 0.0), 9).round())
    factors = schedule.at_steps(steps[steps < horizon], float(horizon))
    assert np.all((factors >= 0.0) & (factors < np.inf))


@whole
@given(
    extreme_problems(),
    extreme_linear_optimizers(),
    some_steps,
    st.sampled_from(["simple", "hessian"]),
)
def test_gradient_noise_scale(problem, optimizer, steps, weighting):
    scale = answered(nqm.gradient_noise_scale, problem, optimizer, steps=steps, weighting=weighting)
    if scale is not None:
        assert not np.any(scale < 0.0)


@whole
@given(st.integers(1, 2**53), extremes(0.0))
def test_power_law(dim, exponent):
    spectrum = answered(nqm.power_law, min(dim, 2**60 // dim), exponent)
    if spectrum is not None:
        assert np.all(spectrum.curvature > 0.0)


@whole
@given(
    st.lists(st.tuples(*[extremes(0.0) | st.floats(-1e300, 1e300)] * 2), min_size=1, max_size=4),
    st.integers(1, 2**53),
    st.booleans(),
)
def test_spectrum_from_density(pairs, dim, rescale):
    nodes, noise = zip(*pairs, strict=True)
    weights = [1.0 / len(nodes)] * len(nodes)
    made = answered(nqm.spectrum_from_density, nodes, weights, dim, noise=noise, rescale=rescale)
    if made is not None:
        assert "kept" in made.report
        assert not rescale or made.spectrum.curvature[0] == pytest.approx(1.0)


@whole
@given(st.lists(st.tuples(*[extremes(0.0)] * 5), min_size=1, max_size=4))
def test_load_spectrum(tmp_path_factory, rows):
    names = ("curvature", "noise", "multiplicity", "initial_mean", "initial_variance")
    path = tmp_path_factory.getbasetemp() / "extreme.csv"
    lines = [",".join(names), *(",".join(map(repr, row)) for row in rows)]
    path.write_text("\n".join(lines))
    loaded = answered(nqm.load_spectrum, path)
    given = answered(nqm.Spectrum, *np.transpose(rows))
    assert (loaded is None) == (given is None)
    assert loaded is None or loaded.digest == given.digest


@whole
@given(extreme_spectra(), extremes())
def test_scaled_spectra_come_back(spectrum, factor):
    there = answered(spectrum.scaled, factor)
    back = None if there is None else answered(there.scaled, 1.0 / factor)
    if back is not None:
        np.testing.assert_allclose(back.curvature, spectrum.curvature, rtol=1e-12)
        np.testing.assert_allclose(back.noise, spectrum.noise, rtol=1e-12)


def exact_bayes_risk(problem, steps):
    spectrum, total = problem.spectrum, Fraction(0)
    fields = (spectrum.curvature, spectrum.noise, spectrum.multiplicity, spectrum.initial_variance)
    for h, c, m, s in zip(*(map(Fraction, each.tolist()) for each in fields), strict=True):
        prior = m * h * s / 2
        if steps == 0 or prior == 0:
            total += prior
        elif c > 0:
            total += prior * c / (c + steps * s * Fraction(problem.batch_size) * h * h)
    return total


@whole
@given(extreme_problems(), extremes())
def test_bayes_bound_is_right_in_exact_arithmetic(problem, target):
    bound = nqm.bayes_bound(problem, target=target)
    if len(problem.spectrum) > 10:
        return
    near, goal = Fraction(1, 10**12), Fraction(target)
    if bound == 0:  # by the initial risk, which the smallest floats round
        near += Fraction(len(problem.spectrum) * TINY) / goal
    assert exact_bayes_risk(problem, bound) <= goal * (1 + near)
    assert bound == 0 or exact_bayes_risk(problem, bound - 1) >= goal * (1 - near)


@whole
@given(extreme_problems(), extremes())
def test_classical_bound_is_right_in_exact_arithmetic(problem, target):
    bound = nqm.classical_bound(problem, target=target)
    spectrum = problem.spectrum
    if len(spectrum) > 10:
        return
    fields = (spectrum.multiplicity, spectrum.noise, spectrum.curvature)
    terms = zip(*(map(Fraction, each.tolist()) for each in fields), strict=True)
    exact = sum(m * c / h for m, c, h in terms)
    exact /= 2 * Fraction(target) * Fraction(problem.batch_size)
    if exact >= Fraction(HUGE):
        assert bound == math.inf
    else:
        assert bound == pytest.approx(float(exact), rel=1e-12, abs=1e-300)


def test_a_target_that_hardly_any_steps_reach_has_a_bound():
    problem = nqm.NoisyQuadratic(nqm.Spectrum([1.0]), 1.0)
    assert nqm.bayes_bound(problem, target=5e-324) == pytest.approx(2**1073, rel=1e-15)
    paper = nqm.NoisyQuadratic(nqm.power_law(10_000), 4.0)
    bound = nqm.bayes_bound(paper, target=5e-324)
    assert math.log2(bound) == pytest.approx(math.log2(10_000 / 8) + 1074)


@whole
@given(problems(), st.integers(-180, 180), st.integers(-180, 180), st.data())
def test_units_out_of_scale_leave_steps_unchanged(problem, k, q, data):
    # Powers of two, so that not a digit changes: loss times 2^k, theta times 2^q.
    spectrum = problem.spectrum
    optimizer = data.draw(linear_optimizers(spectrum.curvature))
    optimizer = nqm.SGD(optimizer.learning_rate, optimizer.momentum, bool(optimizer.nesterov))
    target = spectrum.initial_risk * data.draw(extremes(1e-3, 0.9))
    other = nqm.NoisyQuadratic(
        nqm.Spectrum(
            np.ldexp(spectrum.curvature, k),
            np.ldexp(spectrum.noise, k + 2 * q),
            spectrum.multiplicity,
            np.ldexp(spectrum.initial_mean, q),
            np.ldexp(spectrum.initial_variance, 2 * q),
        ),
        math.ldexp(problem.batch_size, -k),
    )
    rate = math.ldexp(optimizer.learning_rate, -k)
    scaled = nqm.SGD(rate, optimizer.momentum, optimizer.nesterov)
    goal = math.ldexp(target, k + 2 * q)
    found, again = (
        nqm.steps_to_target(where, which, target=aim, max_steps=10_000)
        for where, which, aim in ((problem, optimizer, target), (other, scaled, goal))
    )
    assert (found.steps, found.status) == (again.steps, again.status)
    assert nqm.bayes_bound(problem, target=target) == nqm.bayes_bound(other, target=goal)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: nqm.NoisyQuadratic(nqm.Spectrum([1.0]), 1e-310),
            r"^batch_size=1e-310: must be at least 2.78134e-309, ",
        ),
        (
            lambda: nqm.StepDecay(1e160, drops=3),
            r"^decay_rate=1e\+160: must be at most .* with drops=3, ",
        ),
        (
            lambda: nqm.Spectrum([1.0]).scaled(1e160),
            r"^factor=1e\+160: must leave curvature and noise from 2.23e-308 to 1.8e\+308",
        ),
        # The noise would be 0, and every target within reach.
        (lambda: nqm.Spectrum([1.0]).scaled(1e-170), r"^factor=1e-170: must leave curvature"),
        (
            lambda: nqm.power_law(20, HUGE),
            r"^exponent=1.79769e\+308: must be at most 236.469, ",
        ),
    ],
)
def test_what_floats_cannot_hold_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_gradients_of_flat_modes_are_weighed_though_their_squares_are_0():
    steep, flat = (nqm.NoisyQuadratic(nqm.Spectrum([h]), 1.0) for h in (1.0, 2.0**-700))
    for weighting in ("simple", "hessian"):
        one, other = (
            nqm.gradient_noise_scale(each, nqm.SGD(1e-9), steps=[0], weighting=weighting)[0]
            for each in (steep, flat)
        )
        assert other == one * 2.0**700


def test_a_law_that_falls_by_less_than_rounding_is_one_mode():
    flat = nqm.power_law(2**53, 1e-320)
    assert flat.curvature.tolist() == [1.0]
    assert flat.multiplicity.tolist() == [2.0**53]


def test_weights_of_the_smallest_floats_are_compressed():
    # Noise 1/2 h^2, of 1e-324 at the end.
    spectrum = nqm.Spectrum(np.geomspace(1e-150, 1e-161, 1000))
    measure = spectrum.gradient_noise
    nodes, weight = measure.nodes(0)
    assert np.all(np.isfinite(nodes))
    assert weight.sum() == pytest.approx(measure.weight.sum())
