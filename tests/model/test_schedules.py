"""Schedules: their factors, and steps to a target under them against the step-by-step recursion."""

import math
from dataclasses import replace

import numpy as np
import pytest
import textbook
from hypothesis import assume, given, settings, strategies as st
from moments import recursion
from strategies import linear_optimizers, logarithmic, problems, repeatable

import nqm_study as nqm
from nqm_study.model.adaptive.nodes import Nodes
from nqm_study.model.linear.runs import Runs
from nqm_study.model.numerics.horizon import GOOD
from nqm_study.model.schedules import as_schedule

PAPER = nqm.power_law(10_000)
MOST = 600
"""Horizons up to here are all replayed."""


def factors(schedule, horizon):
    """The factor of each step, one call at a time where the schedule can be called."""
    if isinstance(schedule, nqm.InverseSqrt):
        return schedule.at_steps(np.arange(horizon, dtype=float), horizon).tolist()
    return [float(schedule(t / horizon)) for t in range(horizon)]


def last_risk(problem, optimizer, schedule, horizon):
    """L_T, replayed step by step over all modes."""
    return list(recursion(problem, optimizer, factors(schedule, horizon)))[-1]


fractions = st.floats(0.0, 0.9)


@st.composite
def schedules(draw):
    """Every family, with random shapes."""
    final = draw(st.sampled_from([0.0, 1.0]) | logarithmic(1e-4, 1.0))
    warm = draw(st.just(0.0) | fractions)
    pieces = draw(st.lists(logarithmic(1e-3, 1.0) | st.just(0.0), min_size=1, max_size=5))
    cuts = sorted(draw(st.sets(st.floats(0.01, 0.99), min_size=len(pieces) - 1, max_size=4)))
    boundaries = tuple(cuts) if len(cuts) == len(pieces) - 1 else None
    return draw(
        st.sampled_from(
            [
                nqm.Constant(max(warm, 0.01)),
                nqm.Linear(final, warm),
                nqm.Polynomial(final, warm, draw(st.floats(0.3, 5.0))),
                nqm.Cosine(final, warm, draw(st.floats(0.5, 2.0))),
                nqm.Exponential(max(final, 1e-4), warm),
                nqm.InverseSqrt(draw(logarithmic(1.0, 1e4)), warm),
                nqm.PiecewiseConstant(tuple(pieces), boundaries, warm),
                nqm.StepDecay(draw(logarithmic(0.01, 1.0)), draw(st.integers(1, 5)), warm),
                *(
                    nqm.WarmupStableDecay(final, warm, draw(st.floats(0.01, 1.0)), decay)
                    for decay in ("linear", "cosine", "sqrt")
                ),
                nqm.OneCycle(final, warm, draw(st.floats(0.05, 0.95))),
                lambda u: (1.0 - u) ** 2,
            ]
        )
    )


@repeatable
@given(schedules())
def test_a_factor_is_a_share_and_a_function_of_the_fraction(schedule):
    schedule = as_schedule(schedule)
    steps = np.arange(200.0)
    factor = schedule.at_steps(steps, 200)
    assert np.all(np.isfinite(factor))
    assert np.all(factor >= 0.0)
    # At once or one by one, in a run of 200 steps or at the same fractions of a longer one.
    np.testing.assert_array_equal(
        factor, [schedule.at_steps(np.array([step]), 200)[0] for step in steps]
    )
    if not isinstance(schedule, nqm.InverseSqrt):
        np.testing.assert_array_equal(factor, schedule.at_steps(4.0 * steps, 800))


@pytest.mark.parametrize(
    ("schedule", "fraction", "factor"),
    [
        # optax 0.2: the schedule of 100 steps at step 100 * fraction, peak 1.
        (nqm.Linear(0.1), 0.25, 0.775),
        (nqm.Polynomial(0.1, power=3.0), 0.5, 0.1 + 0.9 * 0.125),
        (nqm.Cosine(0.1), 0.25, 0.9 * (1 + math.sqrt(0.5)) / 2 + 0.1),
        (nqm.Cosine(exponent=2.0), 0.5, 0.25),
        (nqm.Exponential(0.01), 0.5, 0.1),
        (nqm.StepDecay(0.5, drops=3), 0.5, 0.25),
        (nqm.StepDecay(0.5, drops=3), 0.49, 0.5),
        (nqm.PiecewiseConstant((1.0, 0.2, 0.3), (0.1, 0.5)), 0.1, 0.2),
        (nqm.PiecewiseConstant((1.0, 0.2, 0.3)), 2 / 3, 0.3),
        (nqm.WarmupStableDecay(0.0, 0.0, 0.5), 0.49, 1.0),
        (nqm.WarmupStableDecay(0.0, 0.0, 0.5), 0.75, 0.5),
        (nqm.WarmupStableDecay(0.1, 0.0, 0.5, "cosine"), 0.75, 0.55),
        (nqm.WarmupStableDecay(0.0, 0.0, 0.4, "sqrt"), 0.7, 1 - math.sqrt(0.25)),
        (nqm.OneCycle(pct_start=0.3, div_factor=25.0), 0.0, 0.04),
        (nqm.OneCycle(pct_start=0.3, div_factor=25.0), 0.15, 0.52),
        (nqm.OneCycle(pct_start=0.3, div_factor=25.0), 0.3, 1.0),
        (nqm.OneCycle(0.1, pct_start=0.3), 0.65, 0.55),
        (nqm.Constant(0.2), 0.1, 0.5),
        (nqm.Cosine(0.0, 0.2), 0.0, 0.0),
        (nqm.Cosine(0.0, 0.2), 0.1, 0.5),
        (nqm.Cosine(0.0, 0.2), 0.6, 0.5),
        (nqm.Linear(0.0, 0.2), 0.2, 1.0),
    ],
)
def test_factors_are_those_of_the_formulas(schedule, fraction, factor):
    assert schedule(fraction) == pytest.approx(factor, rel=1e-12)
    assert schedule(np.array([fraction, fraction]))[1] == schedule(fraction)


def test_inverse_sqrt_counts_steps_from_the_end_of_the_warmup():
    steps = np.array([0.0, 300.0])
    np.testing.assert_allclose(nqm.InverseSqrt(100.0).at_steps(steps, 500), [1.0, 0.5])
    warmed = nqm.InverseSqrt(100.0, warmup_fraction=0.2).at_steps(np.array([50.0, 400.0]), 500)
    np.testing.assert_allclose(warmed, [0.5, 0.5])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nqm.Cosine(-0.1), "final_fraction=-0.1: must be a finite number of at least 0"),
        (lambda: nqm.Exponential(0.0), "final_fraction=0"),
        (lambda: nqm.Linear(0.0, 1.0), "warmup_fraction=1"),
        (lambda: nqm.Polynomial(power=0.0), "power=0"),
        (lambda: nqm.Cosine(exponent=math.nan), "exponent=nan"),
        (lambda: nqm.InverseSqrt(0.0), "timescale=0"),
        (lambda: nqm.StepDecay(drops=0), "drops=0: must be an integer of at least 1"),
        (lambda: nqm.StepDecay(0.0), "decay_rate=0"),
        (lambda: nqm.PiecewiseConstant(()), "factors="),
        (lambda: nqm.PiecewiseConstant((1.0, -1.0)), r"factors\[1\]=-1"),
        (lambda: nqm.PiecewiseConstant(0.5), "factors=0.5: must be a sequence of numbers"),
        (lambda: nqm.PiecewiseConstant((1.0, 0.5), (0.2, 0.4)), "boundaries=.*must be 1, one less"),
        (lambda: nqm.PiecewiseConstant((1.0, 0.5), (1.0,)), "boundaries=.*must ascend"),
        (lambda: nqm.PiecewiseConstant((1.0, 0.5, 1.0), (0.5, 0.4)), "boundaries=.*must ascend"),
        (lambda: nqm.WarmupStableDecay(decay_fraction=0.0), "decay_fraction=0"),
        (lambda: nqm.WarmupStableDecay(decay="exp"), "decay='exp': must be one of linear, cosine"),
        (lambda: nqm.OneCycle(pct_start=1.0), "pct_start=1"),
        (lambda: nqm.OneCycle(div_factor=0.5), "div_factor=0.5"),
    ],
)
def test_bad_shapes_are_refused(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("cosine", "schedule='cosine': must be a schedule, such as Cosine"),
        (nqm.Cosine, "schedule=<class"),
        (lambda u: -u, r"schedule\(.*must be a finite number of at least 0"),
        (lambda u: u + math.nan, r"schedule\(0\)=nan"),
        (lambda u: [u], r"schedule\(0\): must return a number"),
    ],
)
def test_bad_schedules_are_refused(schedule, message):
    problem = nqm.NoisyQuadratic(nqm.power_law(10), 16)
    with pytest.raises(ValueError, match=f"^{message}"):
        nqm.steps_to_target(problem, nqm.SGD(0.1), schedule, target=0.5)


@settings(repeatable, max_examples=60)
@given(problems(), st.data())
def test_steps_are_the_first_horizon_of_all_that_are_replayed(problem, data):
    optimizer = data.draw(linear_optimizers(problem.spectrum.curvature))
    schedule = data.draw(schedules())
    risks = [last_risk(problem, optimizer, schedule, horizon) for horizon in range(41)]
    target = problem.spectrum.initial_risk * data.draw(logarithmic(1e-3, 2.0))
    found = nqm.steps_to_target(problem, optimizer, schedule, target=target, max_steps=40)
    # On the edge, rounding may decide either way.
    sure = [h for h, risk in enumerate(risks) if risk <= target * (1 - 1e-9)]
    perhaps = [h for h, risk in enumerate(risks) if risk <= target * (1 + 1e-9)]
    if found.steps is None:
        assert not sure
        assert found.status in {"max_steps", "diverged", "floor_above_target"}
    else:
        assert perhaps[0] <= found.steps <= (sure or [40])[0]
        assert found.risk == pytest.approx(risks[found.steps], rel=1e-9)


@pytest.mark.parametrize("seed", range(60))
def test_no_earlier_horizon_is_missed_where_the_risk_swings_or_jumps(seed):
    # Every horizon up to 600 on up to 30 modes, momentum up to 0.995, rates up to unstable ones.
    rng = np.random.default_rng(seed)

    def log_uniform(low, high):
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    n = rng.integers(1, 30)
    spectrum = nqm.Spectrum(
        np.exp(rng.uniform(-6.0, 1.0, n)),
        rng.integers(0, 2) * np.exp(rng.normal(0.0, 2.0, n)),
        initial_mean=rng.normal(0.0, 1.0, n),
    )
    momentum = float(rng.choice([0.0, 1.0 - log_uniform(0.005, 0.9)]))
    rate = log_uniform(0.01, 1.2) * 2.0 * (1.0 + momentum) / spectrum.curvature.max()
    average = float(rng.choice([0.0, 1.0 - log_uniform(0.01, 0.9)]))
    optimizer = nqm.SGD(rate, momentum, ema_decay=average)
    warm = float(rng.choice([0.0, rng.uniform(0.0, 0.9)]))
    schedule = [
        nqm.Constant(max(warm, 0.01)),
        nqm.Cosine(0.0, warm),
        nqm.InverseSqrt(log_uniform(1.0, 1e4), warm),
        nqm.PiecewiseConstant(tuple(np.exp(rng.uniform(-6.0, 0.0, 4)).tolist()), None, warm),
        nqm.WarmupStableDecay(0.1, warm, 0.3),
        nqm.OneCycle(0.0, warm),
    ][seed % 6]
    problem = nqm.NoisyQuadratic(spectrum, log_uniform(1.0, 1e4))
    runs = Runs(problem, optimizer, schedule, spectrum.last_level)
    risks = np.array([runs.look(horizon, GOOD).risk for horizon in range(1, MOST + 1)])
    target = spectrum.initial_risk * log_uniform(1e-3, 0.9)
    hits = np.flatnonzero(risks <= target)
    found = nqm.steps_to_target(problem, optimizer, schedule, target=target, max_steps=MOST)
    assert found.steps == (hits[0] + 1 if hits.size else None)


def nothing(fraction):
    """The factor 0, whatever the fraction."""
    return 0.0 * fraction


CASES = {
    "cosine": (64, nqm.SGD(1.5), nqm.Cosine()),
    "linear, large batch": (4096, nqm.SGD(1.9), nqm.Linear(0.01)),
    "heavy ball": (256, nqm.SGD(0.05, 0.95), nqm.WarmupStableDecay(0.0, 0.05, 0.4)),
    "long memory": (256, nqm.SGD(2e-3, 0.999), nqm.Cosine(0.01)),
    "nesterov": (1024, nqm.SGD(0.1, 0.9, nesterov=True), nqm.Exponential(1e-2)),
    "average": (256, nqm.SGD(1.0, ema_decay=0.999), nqm.Polynomial(0.0, 0.1, 0.5)),
    "preconditioned": (256, nqm.SGD(0.1, preconditioner_power=0.5), nqm.StepDecay(0.1, 4)),
    "inverse sqrt": (256, nqm.SGD(1.5), nqm.InverseSqrt(1000.0)),
    "one cycle": (256, nqm.SGD(1.5), nqm.OneCycle()),
    "a function": (256, nqm.SGD(1.0), lambda u: (1.0 - u) ** 1.5),
}


FEW_STEPS = ("linear, large batch", "heavy ball", "long memory", "preconditioned")
"""Those that are replayed in two seconds each; the others take up to ten."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in FEW_STEPS else pytest.mark.slow) for name in CASES],
)
def test_replay_over_all_modes_of_the_paper(name):
    batch_size, optimizer, schedule = CASES[name]
    problem = nqm.NoisyQuadratic(PAPER, batch_size)
    found = nqm.steps_to_target(problem, optimizer, schedule)
    assert found.steps > 1000
    assert found.error < 2e-6
    for horizon, sign in ((found.steps, 1.0), (found.steps - 1, -1.0)):
        risk = textbook.linear_risks(problem, optimizer, horizon, factors(schedule, horizon))[-1]
        excess = sign * (risk / 0.01 - 1.0)
        assert excess <= 1e-6 + found.error


@settings(repeatable, max_examples=25)
@given(st.data())
def test_replay_of_random_long_runs(data):
    spectrum = nqm.power_law(200)
    problem = nqm.NoisyQuadratic(spectrum, data.draw(logarithmic(1.0, 1e6)))
    momentum = data.draw(st.just(0.0) | logarithmic(1e-3, 0.5).map(lambda gap: 1.0 - gap))
    rate = (1.0 - momentum) * data.draw(logarithmic(1e-3, 1.5))
    nesterov = data.draw(st.booleans()) and rate * (1.0 + 2.0 * momentum) < 2.0
    decay = data.draw(st.just(0.0) | logarithmic(1e-3, 0.5).map(lambda gap: 1.0 - gap))
    optimizer = nqm.SGD(rate, momentum, nesterov, 0.0, decay)
    schedule = data.draw(schedules())
    found = nqm.steps_to_target(problem, optimizer, schedule, target=0.02, max_steps=60_000)
    if found.steps is None:
        assert found.risk > 0.02
        return
    for horizon, sign in ((found.steps, 1.0), (found.steps - 1, -1.0)):
        risk = textbook.linear_risks(problem, optimizer, horizon, factors(schedule, horizon))[-1]
        assert sign * (risk / 0.02 - 1.0) <= 1e-4


def test_a_factor_of_one_is_the_constant_rate():
    problem = nqm.NoisyQuadratic(PAPER, 256)
    optimizer = nqm.SGD(0.775)
    for schedule in (nqm.Cosine(1.0), nqm.PiecewiseConstant((1.0, 1.0)), lambda u: u**0):
        assert nqm.steps_to_target(problem, optimizer, schedule).steps == 25_778
    assert nqm.steps_to_target(problem, optimizer, nqm.Constant()).steps == 25_778


@settings(repeatable, max_examples=40)
@given(problems(), st.data())
def test_units_do_not_matter(problem, data):
    # h -> k h, c -> k^2 c, lr -> lr / k^(1 - p), target -> k target.
    optimizer = data.draw(linear_optimizers(problem.spectrum.curvature))
    schedule = data.draw(schedules())
    k = 8.0  # a power of two, so that rounding is the same where p = 0
    assume(optimizer.preconditioner_power == 0.0)
    scaled = nqm.NoisyQuadratic(problem.spectrum.scaled(k), problem.batch_size)
    rescaled = replace(optimizer, learning_rate=optimizer.learning_rate / k)
    target = 0.3 * problem.spectrum.initial_risk
    ours = nqm.steps_to_target(problem, optimizer, schedule, target=target, max_steps=50)
    theirs = nqm.steps_to_target(scaled, rescaled, schedule, target=k * target, max_steps=50)
    assert (ours.steps, ours.status) == (theirs.steps, theirs.status)


@pytest.mark.parametrize("name", CASES)
def test_a_risk_curve_is_the_recursion_of_its_run(name):
    batch_size, optimizer, schedule = CASES[name]
    problem = nqm.NoisyQuadratic(nqm.power_law(300), batch_size)
    risks = list(recursion(problem, optimizer, factors(schedule, 150)))
    steps = [150, 0, 7, 149]
    curve = nqm.risk_curve(problem, optimizer, schedule, steps=steps, horizon=150)
    np.testing.assert_allclose(curve, np.array(risks)[steps], rtol=1e-9)


def test_a_risk_curve_of_a_long_run_agrees_with_stepping():
    problem = nqm.NoisyQuadratic(nqm.power_law(20), 16)
    optimizer, schedule, horizon = nqm.SGD(0.005, 0.9), nqm.Cosine(0.0, 0.1), 600_000
    steps = [0, 1, 59_999, 300_001, 600_000]
    curve = nqm.risk_curve(problem, optimizer, schedule, steps=steps, horizon=horizon)
    replayed = textbook.linear_risks(problem, optimizer, horizon, factors(schedule, horizon))
    np.testing.assert_allclose(curve, replayed[steps], rtol=2e-6)


def test_a_run_whose_rates_depend_on_its_length_needs_one():
    problem = nqm.NoisyQuadratic(nqm.power_law(10), 16)
    with pytest.raises(ValueError, match=r"^horizon=None: must be given"):
        nqm.risk_curve(problem, nqm.SGD(0.1), nqm.Cosine(), steps=[1])
    with pytest.raises(ValueError, match=r"^steps=11: must be at most horizon=10"):
        nqm.risk_curve(problem, nqm.SGD(0.1), nqm.Cosine(), steps=[11], horizon=10)
    assert nqm.risk_curve(problem, nqm.SGD(0.1), nqm.InverseSqrt(10.0), steps=[1]).size == 1


@pytest.mark.parametrize(
    ("optimizer", "schedule", "max_steps", "status"),
    [
        (nqm.SGD(1.9), nqm.Constant(0.1), 10**9, "floor_above_target"),
        (nqm.SGD(0.1, 0.95), nqm.Cosine(0.9), 10**9, "floor_above_target"),
        (nqm.SGD(1.9), nqm.Constant(0.1), 30_000, "max_steps"),
        (nqm.SGD(6.0), nqm.Cosine(), 10**9, "diverged"),
        (nqm.SGD(6.0), nqm.Cosine(), 100, "diverged"),
        (nqm.SGD(0.01, 0.9), nqm.Linear(), 30_000, "max_steps"),
        (nqm.SGD(0.5), nothing, 10**9, "max_steps"),
    ],
)
def test_a_target_that_is_not_reached_says_why(optimizer, schedule, max_steps, status):
    problem = nqm.NoisyQuadratic(PAPER, 64)
    found = nqm.steps_to_target(problem, optimizer, schedule, max_steps=max_steps)
    assert (found.steps, found.status) == (None, status)
    assert found.risk > 0.01


def at_the_end(fraction):
    """Nothing for most of the run."""
    return 0.0 if fraction < 0.9 else 1.0


@pytest.mark.parametrize(
    ("n_modes", "batch_size", "optimizer", "schedule", "target"),
    [
        (1000, 4.0, nqm.SGD(1e-6), nqm.Linear(), 1.0),
        (1000, 4.0, nqm.SGD(0.1), nqm.PiecewiseConstant((0.0, 1.0), (0.9,)), 1.0),
        (1000, 4.0, nqm.SGD(0.1), at_the_end, 1.0),
        (1, 1.0, nqm.SGD(1.0), nqm.WarmupStableDecay(), 0.1),
        (60, 32.0, nqm.Adam(0.01), at_the_end, 1.0),
        # The longest run allowed is the first that reaches it.
        (50, 100.0, nqm.SGD(0.3), nqm.Linear(), 2.85e-4),
    ],
)
def test_a_risk_that_rests_at_first_is_not_at_its_floor(
    n_modes, batch_size, optimizer, schedule, target
):
    problem = nqm.NoisyQuadratic(nqm.power_law(n_modes), batch_size)
    steps = nqm.steps_to_target(problem, optimizer, schedule, target=target).steps
    last = nqm.steps_to_target(problem, optimizer, schedule, target=target, max_steps=steps)
    assert last.steps == steps
    before = nqm.steps_to_target(problem, optimizer, schedule, target=target, max_steps=steps - 1)
    assert (before.steps, before.status) == (None, "max_steps")
    assert before.risk > target


@pytest.mark.parametrize(
    ("problem", "optimizer", "schedule", "target", "steps"),
    [
        # Found by scanning: later dips are easier to see.
        (
            nqm.NoisyQuadratic(nqm.power_law(1), 27.316220803097647),
            nqm.SGD(0.40242249875136477, 0.99),
            nqm.StepDecay(),
            0.005,
            75,
        ),
        (
            nqm.NoisyQuadratic(nqm.power_law(24), 2232.0),
            nqm.SGD(0.002596, 0.99, nesterov=True, preconditioner_power=1.0),
            nqm.Polynomial(power=0.3),
            3e-4,
            111,
        ),
    ],
)
def test_an_early_dip_of_modes_that_swing_together_is_found(
    problem, optimizer, schedule, target, steps
):
    runs = Runs(problem, optimizer, schedule, problem.spectrum.last_level)
    risks = [runs.look(horizon, GOOD).risk for horizon in range(1, steps + 1)]
    first = 1 + next(index for index, risk in enumerate(risks) if risk <= target)
    assert nqm.steps_to_target(problem, optimizer, schedule, target=target).steps == first <= steps


def test_a_function_may_jump():
    problem = nqm.NoisyQuadratic(nqm.power_law(40), 8.0)

    def spike(fraction):
        return 40.0 if 0.5 <= fraction < 0.5002 else 0.1

    found = nqm.steps_to_target(problem, nqm.SGD(0.02), spike)
    for horizon, sign in ((found.steps, 1.0), (found.steps - 1, -1.0)):
        risk = textbook.linear_risks(problem, nqm.SGD(0.02), horizon, factors(spike, horizon))[-1]
        assert sign * (risk / 0.01 - 1.0) <= 1e-9


def test_no_step_is_needed_where_the_start_is_at_the_target():
    problem = nqm.NoisyQuadratic(nqm.power_law(10), 16)
    assert nqm.steps_to_target(problem, nqm.SGD(0.1), nqm.Cosine(), target=10.0).steps == 0
    found = nqm.steps_to_target(problem, nqm.SGD(0.1), nqm.Cosine(), target=0.1, max_steps=0)
    assert (found.steps, found.status) == (None, "max_steps")


@pytest.mark.parametrize(
    "optimizer",
    [
        nqm.SGD(0.4),
        nqm.SGD(0.1, 0.8),
        nqm.SGD(0.1, 0.8, nesterov=True),
        nqm.SGD(0.4, ema_decay=0.8),
        nqm.SGD(0.2, 0.5, preconditioner_power=0.5),
    ],
)
def test_the_simulation_agrees(optimizer):
    problem = nqm.NoisyQuadratic(nqm.power_law(40), 4)
    schedule = nqm.Cosine(0.05, 0.2)
    run = nqm.simulate(problem, optimizer, schedule, n_steps=50, n_replicas=4000, seed=1)
    curve = nqm.risk_curve(problem, optimizer, schedule, steps=range(51), horizon=50)
    assert np.all(np.abs(run.mean - curve)[1:] <= 4.0 * run.standard_error[1:])
    longer = nqm.simulate(problem, optimizer, schedule, n_steps=5, horizon=50, seed=1)
    assert longer.mean.size == 6
    with pytest.raises(ValueError, match=r"^horizon=4: "):
        nqm.simulate(problem, optimizer, schedule, n_steps=5, horizon=4)


ADAM = nqm.Adam(0.02, 0.8, 0.98)


def test_adam_under_a_schedule_is_its_closure_step_by_step():
    problem = nqm.NoisyQuadratic(nqm.power_law(50), 256)
    schedule = nqm.WarmupStableDecay(0.0, 0.1, 0.5)
    nodes = Nodes.of(problem, None)
    replayed = [
        textbook.adam_risks(nodes, ADAM, horizon, factors=factors(schedule, horizon))[-1]
        for horizon in range(400)
    ]
    target = 0.02
    first = int(np.flatnonzero(np.array(replayed) <= target)[0])
    found = nqm.steps_to_target(problem, ADAM, schedule, target=target, tolerance=0.0)
    assert 50 < found.steps == first
    curve = nqm.risk_curve(problem, ADAM, schedule, steps=[3, 60], horizon=60, tolerance=0.0)
    whole = textbook.adam_risks(nodes, ADAM, 60, factors=factors(schedule, 60))
    np.testing.assert_allclose(curve, whole[[3, 60]], rtol=1e-9)


def test_adam_says_why_a_schedule_does_not_reach():
    problem = nqm.NoisyQuadratic(nqm.power_law(50), 4)
    floor = nqm.steps_to_target(problem, ADAM, nqm.Cosine(0.5), target=0.01, max_steps=10**6)
    assert (floor.steps, floor.status) == (None, "floor_above_target")
    short = nqm.steps_to_target(problem, ADAM, nqm.Linear(), target=0.01, max_steps=20)
    assert (short.steps, short.status) == (None, "max_steps")


@pytest.mark.parametrize(
    ("optimizer", "schedule"),
    [
        (nqm.SGD(2.5, ema_decay=0.9), nqm.Cosine()),
        (nqm.SGD(2.5, ema_decay=0.999), nqm.Linear()),
        (nqm.SGD(5.0, 0.9, ema_decay=0.99), nqm.Cosine()),
    ],
)
def test_what_is_all_rounding_reaches_no_target(optimizer, schedule):
    # Noise that grew to 10^18 times the target and more, and fell again, may end below 0.
    problem = nqm.NoisyQuadratic(nqm.Spectrum([1.0]), 4)
    found = nqm.steps_to_target(problem, optimizer, schedule, target=1e-9, max_steps=10**5)
    assert (found.steps, found.status) == (None, "diverged")
    assert np.all(nqm.risk_curve(problem, optimizer, schedule, steps=range(2001), horizon=2000) > 0)
