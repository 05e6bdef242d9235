"""Optimal batch sizes: replays step by step, conditions of a minimum, and known figures."""

import dataclasses
import functools

import moments
import numba
import numpy as np
import pytest
from hypothesis import given, strategies as st
from strategies import logarithmic, repeatable, spectra

import nqm_study as nqm
from nqm_study.model.linear.runs import Runs
from nqm_study.model.linear.schedule_kernel import Rule, noise_contributions, run_noise
from nqm_study.model.linear.stability import largest_peak
from nqm_study.model.schedules.computed import batch_sizes
from nqm_study.model.schedules.computed.batch_sizes import allocated
from nqm_study.model.schedules.computed.least_risk import Runs as Pieces, Tables, equal

PAPER = nqm.NoisyQuadratic(nqm.power_law(10_000), 1)
SMALL = nqm.NoisyQuadratic(nqm.power_law(100), 1)

FIGURES = {
    7_000: (1.698e7, 5.67e6),
    7_500: (5.75e6, 2.28e6),
    9_000: (2.24e6, 1.092e6),
    13_000: (1.23e6, 8.03e5),
    25_000: (8.93e5, 7.73e5),
    50_000: (8.06e5, 7.72e5),
}
"""Examples with the best constant batch and with the best of each piece, by a prototype, to about
a percent; 50 equal pieces, C = 0.01."""


@functools.cache
def joint(steps, batch_sizes="optimal", **keywords):
    return nqm.optimal_schedule(PAPER, steps=steps, batch_sizes=batch_sizes, **keywords)


def of_steps(values, boundaries, steps):
    """A value for each step from those of pieces."""
    return np.repeat(values, np.diff([0, *boundaries, steps]))


@numba.njit
def _replay(h, moment, noise, rates, entering):
    for step in range(rates.size):
        for mode in range(h.size):
            keep = 1.0 - rates[step] * h[mode]
            moment[mode] = keep * keep * moment[mode] + entering[step] * noise[mode]
            if moment[mode] < 1e-290:  # numbers without all their digits are slow
                moment[mode] = 0.0


def replay(problem, rates, sizes):
    """The last risk of plain SGD over all modes, one step at a time."""
    s, moment = problem.spectrum, problem.spectrum.second_moment.copy()
    entering = np.divide(rates**2, sizes, where=sizes > 0.0, out=np.zeros(rates.size))
    _replay(s.curvature, moment, s.noise, rates, entering)
    return s.weight @ moment


def replay_rule(problem, optimizer, rates, sizes):
    """The last risk of any optimizer with a rule: a state and its covariance for each mode."""
    s, every = problem.spectrum, np.arange(rates.size)
    made = optimizer.update(every, rates)
    drift, gain, point = (
        np.broadcast_to(part, (rates.size, *part.shape[1:]))
        for part in (made.drift, made.gain, made.point)
    )
    scale = optimizer.preconditioner(s.curvature)
    z = np.multiply.outer(np.sqrt(s.second_moment), made.start)
    covariance = np.zeros((len(s), made.start.size, made.start.size))
    for t in every:
        a = drift[t] + np.multiply.outer(scale * s.curvature, np.outer(gain[t], point[t]))
        z = np.einsum("nij,nj->ni", a, z)
        covariance = a @ covariance @ a.transpose(0, 2, 1)
        if sizes[t] > 0.0:
            variance = s.noise * scale**2 / sizes[t]
            covariance += variance[:, None, None] * np.outer(gain[t], gain[t])
    return s.weight @ ((z @ made.readout) ** 2 + covariance @ made.readout @ made.readout)


# The kernel.


@repeatable
@given(st.data())
def test_contributions_are_the_noise_of_runs_with_noise_in_one_stretch_only(data):
    spectrum = data.draw(spectra())
    k, count = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 6))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    rows = [data.draw(st.sampled_from([1, count])) for _ in range(3)]
    drift = 0.6 * rng.uniform(-1.0, 1.0, (rows[0], k, k)) / np.sqrt(k)
    gain, point = rng.uniform(-0.05, 0.05, (rows[1], k)), rng.uniform(-1.0, 1.0, (rows[2], k))
    lengths, readout = rng.integers(1, 9, count), int(rng.integers(k))
    weight, like = rng.uniform(0.1, 1.0, len(spectrum)), (0.0,) * k
    found = np.empty(count)
    rule = Rule(drift, gain, point, np.ones(1))
    noise_contributions(like, rule, spectrum.curvature, 0, readout, weight, lengths, found)
    for stretch in range(count):
        only, total = rule._replace(share=np.eye(count)[stretch]), np.empty(1)
        run_noise(
            like, only, 0, spectrum.curvature, 0, readout, weight, lengths, np.array([count]), total
        )  # fmt: skip
        assert found[stretch] == pytest.approx(total[0], rel=1e-10, abs=1e-280)


def test_contributions_sum_to_the_noise_of_the_recursion():
    optimizer, factors = nqm.SGD(0.8, 0.7, ema_decay=0.5), nqm.Cosine()(np.arange(60) / 60)
    without = dataclasses.replace(PAPER.spectrum, noise=0.0)
    noisy, quiet = (
        list(moments.recursion(nqm.NoisyQuadratic(spectrum, 1), optimizer, factors))[-1]
        for spectrum in (PAPER.spectrum, without)
    )
    runs = Runs(PAPER, optimizer, nqm.Cosine(), 3)
    signal, noise, rates, exact = runs.contributions(60, np.arange(60))
    assert exact
    assert signal == pytest.approx(quiet, rel=1e-9)
    assert noise.sum() == pytest.approx(noisy - quiet, rel=1e-9)
    assert rates == pytest.approx(0.8 * factors, rel=1e-15)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_shares_of_noise_scale_it_in_each_piece_and_the_gradient_follows(momentum):
    tables = Tables.of(PAPER, nqm.SGD(1.0, momentum), 0)
    lengths, rates = np.array([3, 10, 1, 40]), np.array([1.5, 1.0, 0.3, 0.2])
    shares = np.array([0.5, 0.1, 2.0, 0.03])
    gradient, nothing = np.zeros(4), np.zeros(4)
    risk = tables.last_risk(lengths, rates, gradient, shares)
    signal, noise = tables.contributions(lengths, rates)
    assert risk == pytest.approx(signal + shares @ noise, rel=1e-12)
    for piece in range(4):
        shift = 1e-5 * np.eye(4)[piece]
        high = tables.last_risk(lengths, rates + shift, nothing, shares)
        low = tables.last_risk(lengths, rates - shift, nothing, shares)
        assert gradient[piece] == pytest.approx((high - low) / 2e-5, rel=1e-5, abs=1e-8)


# The allocation.


@repeatable
@given(st.data())
def test_allocated_batch_sizes_meet_the_conditions_of_a_minimum(data):
    count = data.draw(st.integers(1, 12))
    noise = np.array(
        data.draw(st.lists(st.just(0.0) | logarithmic(1e-6, 1e3), min_size=count, max_size=count))
    )
    lengths = np.array(data.draw(st.lists(st.integers(1, 90), min_size=count, max_size=count)))
    allowed = data.draw(logarithmic(1e-3, 1e2))
    least = data.draw(st.just(0.0) | logarithmic(1e-2, 1e2))
    most = data.draw(st.just(np.inf) | logarithmic(1.0, 1e4).map(lambda factor: least + factor))
    found = allocated(noise, lengths, allowed, least, most)
    if found is None:
        assert noise.sum() / most > allowed
        return
    sizes, noisy = found.batch_sizes, noise > 0.0
    assert np.all((sizes >= least) & (sizes <= most))
    assert np.all(sizes[~noisy] == least)
    assert found.examples == pytest.approx(lengths @ sizes, rel=1e-14)
    assert found.residual < 1e-9
    spent = np.sum(noise[noisy] / sizes[noisy])
    assert spent <= allowed * (1.0 + 1e-9)
    # What one example more in each piece takes from the noise is the same inside the bounds.
    gains = noise[noisy] / (lengths[noisy] * sizes[noisy] ** 2)
    inside = (sizes[noisy] > least) & (sizes[noisy] < most)
    if np.any(inside):
        assert spent == pytest.approx(allowed, rel=1e-9)
        one = gains[inside][0]
        assert gains[inside] == pytest.approx(one, rel=1e-6)
        assert found.price == pytest.approx(1.0 / one, rel=1e-6)
        assert np.all(gains[sizes[noisy] == least] <= one * (1.0 + 1e-6))
        assert np.all(gains[sizes[noisy] == most] >= one * (1.0 - 1e-6))


def test_no_feasible_batch_sizes_need_fewer_examples():
    for bounds in ({}, {"min_batch_size": 50.0, "max_batch_size": 150.0}):
        found = nqm.optimal_batch_sizes(
            PAPER, nqm.SGD(1.9), nqm.Linear(), steps=16_000, pieces=50, **bounds
        )
        runs = Runs(PAPER, nqm.SGD(1.9), nqm.Linear(), 2)
        edges = np.array([0, *found.boundaries])
        signal, noise, *_ = runs.contributions(16_000, edges)
        lengths, rng = np.diff(edges, append=16_000), np.random.default_rng(0)
        least, most = bounds.get("min_batch_size", 0.0), bounds.get("max_batch_size", np.inf)
        tried = 0
        while tried < 2_000:
            width = 10.0 ** rng.uniform(-4.0, 0.0)
            sizes = found.batch_sizes * np.exp(width * rng.standard_normal(50))
            sizes = np.clip(sizes, least, most)
            if not bounds:  # to the target, so that all of them are feasible
                sizes *= np.sum(noise / sizes) / (0.01 - signal)
            elif signal + np.sum(noise / sizes) > 0.01:
                continue
            tried += 1
            assert lengths @ sizes >= found.examples * (1.0 - 1e-9)


# Given rates.


@pytest.mark.parametrize("pieces", [None, 50, 1])
def test_replayed_over_all_modes_the_last_risk_is_the_target(pieces):
    found = nqm.optimal_batch_sizes(PAPER, nqm.SGD(1.9), nqm.Cosine(), steps=15_000, pieces=pieces)
    rates = 1.9 * nqm.Cosine()(np.arange(15_000) / 15_000)
    sizes = of_steps(found.batch_sizes, found.boundaries, 15_000)
    risk = replay(PAPER, rates, sizes)
    assert risk == pytest.approx(0.01, rel=1e-9)
    assert risk == pytest.approx(found.risk, rel=1e-9)
    assert sizes.sum() == pytest.approx(found.examples, rel=1e-12)
    assert found.mean_batch_size == pytest.approx(sizes.mean(), rel=1e-12)
    assert found.residual < 1e-6
    assert found.error < 1e-9
    assert found.learning_rates @ np.bincount(
        np.arange(15_000) * len(found.batch_sizes) // 15_000
    ) == pytest.approx(rates.sum(), rel=1e-9)
    if pieces is None:
        assert found.learning_rates == pytest.approx(rates, rel=1e-14)


CASES = {
    "momentum": (nqm.SGD(0.3, 0.9), nqm.Constant()),
    "nesterov": (nqm.SGD(0.3, 0.8, nesterov=True), nqm.Cosine(warmup_fraction=0.1)),
    "preconditioner": (nqm.SGD(0.15, preconditioner_power=0.5), nqm.Linear()),
    "ema": (nqm.SGD(1.0, 0.5, ema_decay=0.95), nqm.Cosine()),
    "polyak": (nqm.PolyakAverage(nqm.SGD(1.5), start=100), nqm.Constant()),
    "free": (nqm.ScheduleFree(1.5), nqm.Constant()),
    "function": (nqm.SGD(1.5), lambda fraction: 1.0 - fraction**2),
}


@pytest.mark.parametrize("pieces", [None, 7])
@pytest.mark.parametrize("name", CASES)
def test_every_linear_optimizer_ends_at_the_target(name, pieces):
    optimizer, schedule = CASES[name]
    found = nqm.optimal_batch_sizes(
        SMALL, optimizer, schedule, target=0.08, steps=400, pieces=pieces
    )
    factors = np.array([schedule(fraction) for fraction in np.arange(400) / 400])
    sizes = of_steps(found.batch_sizes, found.boundaries, 400)
    risk = replay_rule(SMALL, optimizer, optimizer.learning_rate * factors, sizes)
    assert risk == pytest.approx(0.08, rel=1e-9)
    assert found.residual < 1e-6
    single = nqm.optimal_batch_sizes(SMALL, optimizer, schedule, target=0.08, steps=400)
    assert single.examples <= found.examples * (1.0 + 1e-12)


def test_one_piece_is_the_batch_size_of_a_run_with_that_target():
    found = nqm.optimal_batch_sizes(PAPER, nqm.SGD(1.5), steps=9_000, pieces=1, target=0.02)
    problem = nqm.NoisyQuadratic(PAPER.spectrum, float(found.batch_sizes[0]))
    risk = nqm.risk_curve(problem, nqm.SGD(1.5), steps=[9_000])[0]
    assert risk == pytest.approx(0.02, rel=1e-8)


def test_the_batch_size_of_the_problem_does_not_matter():
    large = nqm.NoisyQuadratic(PAPER.spectrum, 4096)
    ours, theirs = (
        nqm.optimal_batch_sizes(problem, nqm.SGD(1.9), steps=9_000, pieces=9, target=0.02)
        for problem in (PAPER, large)
    )
    assert np.array_equal(ours.batch_sizes, theirs.batch_sizes)


def test_more_pieces_never_need_more_examples():
    examples = [
        nqm.optimal_batch_sizes(PAPER, nqm.SGD(1.9), nqm.Linear(), steps=18_000, pieces=p).examples
        for p in (1, 4, 20, 100, 18_000)
    ]
    assert np.all(np.diff(examples) < 0.0)


def test_a_step_whose_rate_is_zero_needs_no_examples():
    schedule = nqm.Constant(warmup_fraction=0.1)
    found = nqm.optimal_batch_sizes(SMALL, nqm.SGD(1.0), schedule, target=0.2, steps=300)
    assert found.batch_sizes[0] == 0.0
    assert np.all(found.batch_sizes[1:] > 0.0)
    bounded = nqm.optimal_batch_sizes(
        SMALL, nqm.SGD(1.0), schedule, target=0.2, steps=300, min_batch_size=2
    )
    assert bounded.batch_sizes.min() == bounded.batch_sizes[0] == 2.0


def test_bounds_hold_and_tighter_ones_need_more():
    run = (PAPER, nqm.SGD(1.9), nqm.Linear())
    free = nqm.optimal_batch_sizes(*run, steps=18_000, pieces=30)
    last = free.examples
    for least, most in ((25.0, 90.0), (30.0, 85.0)):
        found = nqm.optimal_batch_sizes(
            *run, steps=18_000, pieces=30, min_batch_size=least, max_batch_size=most
        )
        assert found.batch_sizes.min() == least
        assert found.batch_sizes.max() == most
        assert found.examples > last
        assert found.risk == pytest.approx(0.01, rel=1e-12)
        assert found.residual < 1e-6
        last = found.examples
    every = nqm.optimal_batch_sizes(*run, steps=18_000, pieces=30, min_batch_size=5_000)
    assert np.all(every.batch_sizes == 5_000)
    assert every.risk < 0.01


@pytest.mark.parametrize(
    ("optimizer", "schedule"),
    [
        (nqm.SGD(1.9), nqm.Cosine()),
        (nqm.SGD(0.5, 0.9), nqm.Linear(warmup_fraction=0.05)),
        (nqm.PolyakAverage(nqm.SGD(1.5), start=5_000), nqm.Constant()),
    ],
)
def test_a_long_run_by_stretches_is_near_that_of_single_steps(monkeypatch, optimizer, schedule):
    keywords = {"steps": 30_000, "pieces": 12, "target": 0.02}
    exact = nqm.optimal_batch_sizes(PAPER, optimizer, schedule, **keywords)
    monkeypatch.setattr(batch_sizes, "STEPPED", 0)
    found = nqm.optimal_batch_sizes(PAPER, optimizer, schedule, **keywords)
    assert found.error > exact.error
    assert found.error < 1e-5
    assert found.examples == pytest.approx(exact.examples, rel=1e-4)
    assert found.learning_rates == pytest.approx(exact.learning_rates, rel=1e-6)


def test_results_are_read_only_and_say_what_they_are():
    found = nqm.optimal_batch_sizes(SMALL, nqm.SGD(1.0), steps=300, pieces=3, target=0.2)
    both = nqm.optimal_schedule(SMALL, steps=300, pieces=3, target=0.2, batch_sizes="optimal")
    for each in (found, both):
        for array in (each.batch_sizes, each.learning_rates, each.boundaries):
            assert not array.flags.writeable
        assert each.boundaries.tolist() == [100, 200]
        assert "examples in 300 steps" in repr(each)
    assert found.signal < found.risk


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"steps": 0}, r"steps=0: must be an integer of at least 1"),
        ({"steps": 9.5}, r"steps=9.5: must be an integer"),
        ({"steps": 100, "pieces": 101}, r"pieces=101: must be .* at least 1 and at most 100"),
        ({"steps": 100, "pieces": 0}, r"pieces=0: must be"),
        ({"steps": 100, "target": 0.0}, r"target=0: must be .* greater than 0"),
        ({"steps": 100, "min_batch_size": 0.0}, r"min_batch_size=0: must be .* greater than 0"),
        ({"steps": 100, "max_batch_size": -1}, r"max_batch_size=-1: must be .* greater than 0"),
        (
            {"steps": 100, "min_batch_size": 4, "max_batch_size": 3},
            r"max_batch_size=3: must be a finite number of at least 4",
        ),
        ({"steps": 200_000}, r"steps=200000: must be at most 100000, or in pieces"),
        ({"steps": 100}, r"target=0.01: must be greater than \d\.\d+, the least signal"),
        (
            {"steps": 20_000, "pieces": 1, "max_batch_size": 1},
            r"max_batch_size=1: must be at least \d+",
        ),
    ],
)
def test_values_out_of_range_are_refused(keywords, message):
    with pytest.raises(ValueError, match=message) as refusal:
        nqm.optimal_batch_sizes(PAPER, nqm.SGD(1.0), **keywords)
    assert "\n" not in str(refusal.value)


@dataclasses.dataclass(frozen=True)
class Implicit(nqm.LinearOptimizer):
    """theta' = theta - lr (h theta' + e): its matrix needs the curvature."""

    learning_rate: float

    def transition(self, curvature, step=0):  # noqa: ARG002 (as the base class has it)
        keep, one = 1.0 / (1.0 + self.learning_rate * curvature), np.ones(1)
        return nqm.Transition(keep[None, None], -self.learning_rate * keep[None], one, one)


def test_what_has_no_additive_noise_or_no_rule_is_refused():
    with pytest.raises(ValueError, match="must have update"):
        nqm.optimal_batch_sizes(PAPER, Implicit(1.0), steps=100)
    with pytest.raises(ValueError, match="Adam's noise is not additive"):
        nqm.optimal_batch_sizes(PAPER, nqm.Adam(1e-3), steps=100)
    with pytest.raises(ValueError, match="problem=3: must be NoisyQuadratic"):
        nqm.optimal_batch_sizes(3, nqm.SGD(1.0), steps=100)
    with pytest.raises(ValueError, match="schedule=3: must be a schedule"):
        nqm.optimal_batch_sizes(PAPER, nqm.SGD(1.0), 3, steps=100)
    with pytest.raises(ValueError, match="greater than inf, the least signal"):
        nqm.optimal_batch_sizes(SMALL, nqm.SGD(3.0), steps=2_000)


def test_the_refused_bound_is_the_smallest_that_can_be_met():
    run = {"steps": 20_000, "pieces": 10}
    with pytest.raises(ValueError, match="must be at least") as refusal:
        nqm.optimal_batch_sizes(PAPER, nqm.SGD(1.0), **run, max_batch_size=1)
    least = float(str(refusal.value).split("at least ")[1].split()[0])
    found = nqm.optimal_batch_sizes(PAPER, nqm.SGD(1.0), **run, max_batch_size=least * (1 + 1e-7))
    assert found.batch_sizes == pytest.approx(least, rel=1e-2)


# Rates and batch sizes together.


@pytest.mark.parametrize("steps", FIGURES)
def test_the_known_examples_are_met(steps):
    for kind, figure in zip(("constant", "optimal"), FIGURES[steps], strict=True):
        found = joint(steps, kind)
        assert found.examples <= 1.01 * figure
        assert found.examples >= 0.99 * figure  # no better either, so both are the same optimum
        assert found.residual < 1e-6
        assert found.error < 1e-9
        rates, sizes = (
            of_steps(values, found.boundaries, steps)
            for values in (found.learning_rates, found.batch_sizes)
        )
        assert sizes.sum() == pytest.approx(found.examples, rel=1e-12)
        assert replay(PAPER, rates, sizes) <= 0.01 * (1.0 + 1e-9)
    assert np.ptp(joint(steps, "constant").batch_sizes) == 0.0


def test_the_batch_sizes_are_those_of_the_rates_found():
    found = joint(9_000)
    alone = nqm.optimal_batch_sizes(
        PAPER, nqm.SGD(found.peak_learning_rate), found.schedule, steps=9_000, pieces=50
    )
    assert alone.examples == pytest.approx(found.examples, rel=1e-9)
    assert alone.batch_sizes == pytest.approx(found.batch_sizes, rel=1e-8)
    assert alone.learning_rates == pytest.approx(found.learning_rates, rel=1e-12)
    assert found.peak_learning_rate <= largest_peak(PAPER, nqm.SGD(1.0))
    single = nqm.optimal_batch_sizes(
        PAPER, nqm.SGD(found.peak_learning_rate), found.schedule, steps=9_000
    )
    assert single.examples < found.examples


def test_neighbouring_rates_need_no_fewer_examples():
    found, rng = joint(9_000), np.random.default_rng(0)
    tables, lengths = Tables.of(PAPER, nqm.SGD(1.0), 2), np.full(50, 180)
    cap = largest_peak(PAPER, nqm.SGD(1.0))
    for width in np.geomspace(1e-3, 1.0, 300):
        rates = found.learning_rates * np.exp(width * rng.standard_normal(50))
        signal, noise = tables.contributions(lengths, np.minimum(rates, cap))
        best = allocated(noise, lengths, 0.01 - signal, 0.0, np.inf)
        assert best is None or best.examples >= found.examples * (1.0 - 1e-9)


@pytest.mark.parametrize("alike", [False, True])
@pytest.mark.parametrize("bounds", [{}, {"least": 30.0, "most": 300.0}])
def test_the_gradient_of_the_examples_is_that_of_differences(alike, bounds):
    from nqm_study.model.schedules.computed.joint import _Search

    lengths = np.full(6, 2_500)
    demand = batch_sizes.Demand(0.01, lengths, alike=alike, **bounds)
    cap = largest_peak(PAPER, nqm.SGD(1.0))
    runs = _Search(lambda level: Tables.of(PAPER, nqm.SGD(1.0), level), demand, cap, cap).runs(0)
    rates = np.array([1.95, 1.9, 1.5, 0.9, 0.3, 0.07])
    examples, gradient = runs.last_risk(15_000, rates)
    assert examples < np.inf
    for piece, rate in enumerate(rates):
        shift = 1e-5 * rate * np.eye(6)[piece]
        high, low = (runs.last_risk(15_000, rates + sign * shift)[0] for sign in (1, -1))
        assert gradient[piece] == pytest.approx((high - low) / (2e-5 * rate), rel=1e-4, abs=1e-3)


@pytest.mark.parametrize(
    "keywords",
    [
        {"momentum": 0.9},
        {"momentum": 0.8, "nesterov": True},
        {"preconditioner_power": 0.5},
        {"ema_decay": 0.9},
        {"min_batch_size": 2.0, "max_batch_size": 20.0},
    ],
)
def test_other_rules_and_bounds_end_at_the_target(keywords):
    rule = {key: value for key, value in keywords.items() if "batch" not in key}
    found = nqm.optimal_schedule(
        SMALL, target=0.08, steps=400, pieces=8, batch_sizes="optimal", **keywords
    )
    values = (found.learning_rates, found.batch_sizes)
    rates, sizes = (of_steps(value, found.boundaries, 400) for value in values)
    assert replay_rule(SMALL, nqm.SGD(1.0, **rule), rates, sizes) == pytest.approx(0.08, rel=1e-9)
    assert found.residual < 1e-6
    assert found.batch_sizes.min() >= keywords.get("min_batch_size", 0.0)
    assert found.batch_sizes.max() <= keywords.get("max_batch_size", np.inf)
    constant = nqm.optimal_schedule(
        SMALL, target=0.08, steps=400, pieces=8, batch_sizes="constant", **keywords
    )
    assert found.examples < constant.examples


def test_examples_fall_with_steps_and_no_rate_is_above_the_largest():
    found = [joint(steps, max_learning_rate=1.5) for steps in (9_000, 10_000, 12_000)]
    assert [each.peak_learning_rate for each in found] == [1.5] * 3
    assert np.all(np.diff([each.examples for each in found]) < 0.0)
    assert found[0].examples > joint(9_000).examples


def test_a_target_that_only_the_least_signal_meets_is_reached():
    # No constant or decaying start meets it; rates are first brought to a signal below it.
    found = joint(6_690)
    assert found.examples == pytest.approx(1.60e8, rel=0.01)
    assert found.risk == pytest.approx(0.01, rel=1e-12)


def test_the_smallest_bound_that_can_be_met_is_the_best_constant_batch_size():
    best = joint(9_000, "constant").batch_sizes[0]
    with pytest.raises(ValueError, match="max_batch_size=200: must be at least") as refusal:
        joint(9_000, max_batch_size=200)
    assert float(str(refusal.value).split("at least ")[1].split()[0]) == pytest.approx(best)
    found = joint(9_000, max_batch_size=best * 1.001)
    assert joint(9_000).examples < found.examples < joint(9_000, "constant").examples


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"steps": 9_000}, r"batch_sizes=None: must be 'optimal' or 'constant', with steps"),
        ({"batch_sizes": "optimal"}, r"steps=None: must be an integer with batch_sizes='optimal'"),
        ({"min_batch_size": 4}, r"batch_sizes=None: must be"),
        ({"steps": 9_000, "batch_sizes": "best"}, r"batch_sizes='best': must be"),
        ({"steps": 49, "batch_sizes": "optimal"}, r"pieces=50: must be .* at most 49"),
        ({"steps": 99, "batch_sizes": "optimal", "pieces": None}, r"pieces=None: must be"),
        ({"steps": 0, "batch_sizes": "optimal"}, r"steps=0: must be"),
        (
            {"steps": 99, "batch_sizes": "optimal", "min_batch_size": 9, "max_batch_size": 8},
            r"max_batch_size=8: must be .* at least 9",
        ),
        ({"steps": 6_500, "batch_sizes": "optimal"}, r"target=0.01: must be greater than 0.0109"),
    ],
)
def test_joint_optima_of_values_out_of_range_are_refused(keywords, message):
    with pytest.raises(ValueError, match=message) as refusal:
        nqm.optimal_schedule(PAPER, **keywords)
    assert "\n" not in str(refusal.value)


def test_a_problem_without_noise_has_no_batch_sizes_to_find():
    quiet = nqm.NoisyQuadratic(nqm.Spectrum([1.0, 0.5], noise=0.0), 1)
    with pytest.raises(ValueError, match="problem: must have gradient noise"):
        nqm.optimal_schedule(quiet, steps=99, batch_sizes="optimal")
    found = nqm.optimal_batch_sizes(quiet, nqm.SGD(1.0), steps=99)
    assert found.examples == 0.0
    assert found.risk == found.signal < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["constant", "optimal"])
@pytest.mark.parametrize(("steps", "momentum"), [(7_500, 0.0), (13_000, 0.0), (900, 0.9)])
def test_random_starts_find_nothing_better(steps, momentum, kind):
    from nqm_study.model.schedules.computed.joint import _Search

    found = joint(steps, kind, momentum=momentum)
    optimizer, rng = nqm.SGD(1.0, momentum), np.random.default_rng(1)
    lengths = np.diff([0, *found.boundaries, steps])
    demand = batch_sizes.Demand(0.01, lengths, alike=kind == "constant")
    cap = largest_peak(PAPER, optimizer)
    search = _Search(lambda level: Tables.of(PAPER, optimizer, level), demand, cap, cap)
    runs, ends = search.runs(1), []
    assert isinstance(runs, Pieces)
    assert np.array_equal(runs.cuts, equal(50))
    while len(ends) < 40:
        walk = np.exp(np.cumsum(rng.normal(-0.05, 0.3, 50)))
        rates = cap * np.minimum(walk * rng.uniform(0.2, 1.5), 1.0)
        if runs.last_risk(steps, rates)[0] < np.inf:
            ends.append(runs.minimise(steps, rates).risk)
    assert min(ends) >= found.examples * (1.0 - (1e-6 if momentum == 0.0 else 1e-3))
