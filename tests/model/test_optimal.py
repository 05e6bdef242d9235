"""Optimal schedules: known figures, replays step by step, and what a minimum must satisfy."""

import csv
import functools
import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st
from strategies import logarithmic, repeatable, spectra

import nqm_study as nqm
from nqm_study.model.linear.stability import largest_peak
from nqm_study.model.problems.bounds import bayes_bound
from nqm_study.model.problems.spectrum import Spectrum
from nqm_study.model.schedules.computed.least_risk import Runs, Tables, equal
from nqm_study.model.schedules.computed.optimal import optimal_schedule

PAPER = nqm.power_law(10_000)
CAP = 2.0 / (1.0 + 1e-4 + 1e-4)
POWERS = [2**exponent for exponent in range(2, 21)]


@functools.cache
def best(batch_size, **keywords):
    return optimal_schedule(nqm.NoisyQuadratic(PAPER, batch_size), **keywords)


def runs_of(problem, *, target=0.01, pieces=50, largest=None, level=0, **keywords):
    """The engine on a level of compression, to be asked for risks and minima."""
    optimizer = nqm.SGD(1.0, **keywords)
    stable = largest_peak(problem, optimizer)
    tables = Tables.of(problem, optimizer, level)
    largest = stable if largest is None else largest
    return Runs(tables, target, equal(pieces), largest, min(stable, largest), 10**9)


def rate_of_each_step(learning_rates, steps):
    return learning_rates[np.arange(steps) * len(learning_rates) // steps]


def replay(problem, rates, **keywords):
    """The last risk by the recursion over all modes, one step at a time, a rate for each."""
    spectrum = problem.spectrum
    weight = 0.5 * spectrum.multiplicity * spectrum.curvature
    steps = {
        rate: nqm.SGD(rate, **keywords).transition(spectrum.curvature)
        for rate in np.unique(rates[rates > 0.0])
    }
    first = next(iter(steps.values()))
    r = first.component
    z = np.repeat(first.start[:, None], len(spectrum), axis=1)
    covariance = np.zeros_like(first.matrix)
    for rate in rates:
        step = steps[rate]
        z = np.einsum("ijn,jn->in", step.matrix, z)
        covariance = np.einsum("ijn,jkn,lkn->iln", step.matrix, covariance, step.matrix)
        covariance += step.noise[:, None] * step.noise
    signal = np.sum(weight * spectrum.second_moment * z[r] ** 2)
    return signal + np.sum(weight * spectrum.noise * covariance[r, r]) / problem.batch_size


def replay_sgd(problem, rates):
    """The same for plain SGD, where a mode's E theta^2 is all there is."""
    spectrum = problem.spectrum
    h = spectrum.curvature
    moment = spectrum.second_moment.copy()
    noise = spectrum.noise / problem.batch_size
    for rate in rates:
        moment = (1.0 - rate * h) ** 2 * moment + rate**2 * noise
    return 0.5 * np.sum(spectrum.multiplicity * h * moment)


@pytest.mark.parametrize(
    ("batch_size", "steps", "leaves"),
    [
        (16, 50_374, 5),
        (32, None, 12),
        (64, None, 22),
        (128, None, 33),
        (256, 8_934, 41),
        (4096, 6_904, 48),
    ],
)
def test_the_papers_problem_takes_the_known_steps(batch_size, steps, leaves):
    # Found independently of this package with the cap 2 / (h_1 + h_d + 1e-4). Where the rates leave
    # the cap was counted from 0 or 1.
    for found in (best(batch_size), best(batch_size, max_learning_rate=CAP)):
        if steps is not None:
            assert steps - 2 <= found.steps <= steps + 1
        cap = found.peak_learning_rate
        assert cap == pytest.approx(CAP, rel=1e-6)
        assert found.learning_rates[0] == cap
        below = np.flatnonzero(found.learning_rates < cap)
        assert abs(below[0] - leaves) <= 1
        # Once below, they stay below and fall.
        assert np.all(np.diff(found.learning_rates[below[0] - 1 :]) < 0.0)


@pytest.mark.parametrize("batch_size", [16, 64, 4096])
def test_replayed_over_all_modes_the_last_risk_is_at_the_target(batch_size):
    found = best(batch_size)
    assert len(found.boundaries) == 49
    edges = [0, *found.boundaries, found.steps]
    by_piece = np.repeat(found.learning_rates, np.diff(edges))
    rates = rate_of_each_step(found.learning_rates, found.steps)
    assert np.array_equal(by_piece, rates)
    risk = replay_sgd(nqm.NoisyQuadratic(PAPER, batch_size), rates)
    assert risk == pytest.approx(found.risk, rel=1e-8)
    assert risk <= 0.01 * (1.0 + 1e-4)
    assert found.risk <= 0.01 < found.risk_before
    assert found.error <= 1e-9


def test_every_batch_size_solves_and_agrees_with_its_neighbours():
    # The published notebook's solver gave up at B = 64.
    steps = np.array([best(batch_size).steps for batch_size in POWERS])
    assert np.all(np.diff(steps) < 0)
    assert np.all(np.diff(steps * np.array(POWERS)) > 0)
    # The curve is smooth: no point stands out from between its neighbours.
    bend = np.diff(np.log(steps), 2)
    assert np.all(bend > -0.05)
    assert np.all(bend < 0.25)


@pytest.mark.parametrize("batch_size", POWERS)
def test_the_conditions_of_a_minimum_hold(batch_size):
    found = best(batch_size)
    assert found.residual < 1e-6
    runs = runs_of(nqm.NoisyQuadratic(PAPER, batch_size), level=2)
    risk, gradient = runs.last_risk(found.steps, found.learning_rates)
    slope = gradient * found.learning_rates / risk
    capped = found.learning_rates == runs.largest
    assert np.all(slope[capped] <= 1e-6)
    assert np.all(np.abs(slope[~capped]) < 1e-6)
    assert np.any(capped)
    if batch_size > 4:  # there the cap is a burden, to the first piece at least
        assert slope[0] < -1e-6


@pytest.mark.parametrize("batch_size", [16, 256, 4096])
def test_random_starts_end_no_lower_and_agree(batch_size):
    found = best(batch_size)
    runs = runs_of(nqm.NoisyQuadratic(PAPER, batch_size))
    rng = np.random.default_rng(batch_size)
    ends = []
    for _ in range(12):
        start = runs.largest * 10.0 ** rng.uniform(-3.0, 0.0, 50)
        ends.append(runs.minimise(found.steps - 1, start).risk)
    assert min(ends) > 0.01
    assert min(ends) >= found.risk_before * (1.0 - 1e-8)
    assert np.median(ends) == pytest.approx(found.risk_before, rel=1e-7)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("power", [0.0, 0.5])
@pytest.mark.parametrize(
    ("momentum", "ema_decay"), [(0.0, 0.0), (0.7, 0.0), (0.0, 0.9), (0.7, 0.9)]
)
def test_gradients_are_those_of_central_differences(momentum, ema_decay, power, nesterov):
    problem = nqm.NoisyQuadratic(nqm.power_law(300), 8)
    runs = runs_of(
        problem,
        momentum=momentum,
        ema_decay=ema_decay,
        preconditioner_power=power,
        nesterov=nesterov,
    )
    rates = 0.3 * runs.stable * np.geomspace(1.0, 0.05, 7)
    _, gradient = runs.last_risk(107, rates)
    for piece in range(7):
        shift = np.zeros(7)
        shift[piece] = 1e-5 * rates[piece]
        high, _ = runs.last_risk(107, rates + shift)
        low, _ = runs.last_risk(107, rates - shift)
        difference = (high - low) / (2.0 * shift[piece])
        assert gradient[piece] == pytest.approx(difference, rel=1e-5, abs=1e-9 / rates[piece])


@pytest.mark.parametrize("batch_size", [16, 256, 4096])
def test_more_pieces_never_need_more_steps(batch_size):
    steps = [best(batch_size, pieces=pieces).steps for pieces in (1, 5, 25, 50, 100)]
    # Pieces of 25 are each two of 50, up to the rounding of their ends.
    assert all(more <= fewer for fewer, more in itertools.pairwise(steps))


@pytest.mark.parametrize(("batch_size", "steps"), [(16, 378_197), (256, 25_778)])
def test_one_piece_is_the_best_constant_rate(batch_size, steps):
    # The constant rates' optima: known, and by another search of this package.
    found = best(batch_size, pieces=1)
    assert found.steps == steps
    known = nqm.tuned(nqm.NoisyQuadratic(PAPER, batch_size), "sgd")
    assert found.steps == known.steps
    # L_T is flat at its minimum, so the rate is less certain than the steps.
    assert found.peak_learning_rate == pytest.approx(known.optimizer.learning_rate, rel=1e-2)


@pytest.mark.parametrize("batch_size", [256, 4096])
def test_momentum_is_no_worse_than_at_the_best_constant_rate(batch_size):
    problem = nqm.NoisyQuadratic(PAPER, batch_size)
    found = best(batch_size, momentum=0.9)
    constant = nqm.tuned(problem, "momentum", momentum=0.9)
    assert found.steps <= constant.steps
    rates = rate_of_each_step(found.learning_rates, found.steps)
    assert replay(problem, rates, momentum=0.9) <= 0.01 * (1.0 + 1e-8)


@pytest.mark.parametrize(
    "keywords",
    [
        {"momentum": 0.5, "nesterov": True},
        {"preconditioner_power": 0.5},
        {"ema_decay": 0.9},
        {"momentum": 0.9, "ema_decay": 0.5, "pieces": 7},
    ],
)
def test_other_optimizers_replay_to_the_target(keywords):
    problem = nqm.NoisyQuadratic(nqm.power_law(200), 64)
    found = optimal_schedule(problem, target=0.05, **{"pieces": 10, **keywords})
    keywords.pop("pieces", None)
    rates = rate_of_each_step(found.learning_rates, found.steps)
    assert replay(problem, rates, **keywords) == pytest.approx(found.risk, rel=1e-8)
    assert found.risk <= 0.05 < found.risk_before


def test_no_schedule_beats_the_bound_for_any_algorithm():
    for batch_size in POWERS:
        bound = bayes_bound(nqm.NoisyQuadratic(PAPER, batch_size))
        assert bound <= best(batch_size).steps


def test_rescaling_the_loss_leaves_the_steps_unchanged():
    found = best(256)
    scaled = optimal_schedule(nqm.NoisyQuadratic(PAPER.scaled(8.0), 256), target=0.08)
    assert scaled.steps == found.steps
    assert scaled.learning_rates == pytest.approx(found.learning_rates / 8.0, rel=1e-4)


@st.composite
def tasks(draw):
    """Small problems, targets some way below their initial risk, and few pieces."""
    spectrum = draw(spectra(most=5).filter(lambda s: s.initial_risk > 1e-3))
    problem = nqm.NoisyQuadratic(spectrum, draw(logarithmic(1.0, 1e4)))
    target = spectrum.initial_risk * draw(st.sampled_from([0.8, 0.5, 0.2, 0.05]))
    return problem, target, draw(st.integers(1, 4))


@given(tasks(), st.sampled_from([0.0, 0.0, 0.5, 0.9]), st.integers(0, 2**32 - 1))
@settings(repeatable, max_examples=60)
def test_random_schedules_do_not_reach_the_target_sooner(task, momentum, seed):
    problem, target, pieces = task
    try:
        found = optimal_schedule(
            problem, target=target, pieces=pieces, momentum=momentum, max_steps=10**5
        )
    except ValueError as refusal:
        assert str(refusal).startswith(("pieces=", "max_steps="))  # noqa: PT017 (either will do)
        assume(False)
        return
    assert found.risk <= target < found.risk_before
    if found.steps <= 3000:
        rates = rate_of_each_step(found.learning_rates, found.steps)
        assert replay(problem, rates, momentum=momentum) == pytest.approx(
            found.risk, rel=1e-8, abs=1e-12 * target
        )
    before = found.steps - 1
    if before == 0:
        return
    runs = runs_of(
        problem,
        target=target,
        pieces=pieces,
        momentum=momentum,
        level=problem.spectrum.last_level,
    )
    rng = np.random.default_rng(seed)
    near = found.learning_rates
    for index in range(600):
        rates = runs.largest * (
            10.0 ** rng.uniform(-3.0, 0.0, pieces) if index % 3 else rng.uniform(0.0, 1.0, pieces)
        )
        if index % 3 == 1:
            rates = np.minimum(runs.largest, near * np.exp(0.3 * rng.normal(size=pieces)))
        assert runs.last_risk(before, rates)[0] > target * (1.0 - 1e-9)


@pytest.mark.parametrize("pieces", [3, 5])
def test_the_least_risk_falls_with_the_steps(pieces):
    # The search for the fewest steps relies on it.
    for noise in (0.0, 1e-3, 0.1):
        problem = nqm.NoisyQuadratic(Spectrum(np.geomspace(1.0, 0.02, 6), noise), 1)
        runs = runs_of(problem, target=0.01, pieces=pieces)
        rng = np.random.default_rng(1)
        least = []
        for steps in range(pieces, 30):
            starts = runs.largest * np.exp(-rng.exponential(1.5, (6, pieces)))
            least.append(min(runs.minimise(steps, each).risk for each in starts))
        assert np.all(np.diff(least) < 0.0)


def test_a_mode_without_noise_is_met_by_its_own_rate():
    problem = nqm.NoisyQuadratic(Spectrum([2.0], noise=0.0), 1)
    found = optimal_schedule(problem, pieces=1)
    assert found.steps == 1
    assert found.peak_learning_rate == pytest.approx(0.5, rel=1e-4)
    # Two modes take two steps, at the inverse of each curvature, in whatever order.
    problem = nqm.NoisyQuadratic(Spectrum([2.0, 1.25], noise=0.0), 1)
    found = optimal_schedule(problem, pieces=2, target=1e-6)
    assert found.steps == 2
    assert np.sort(found.learning_rates) == pytest.approx([0.5, 0.8], rel=1e-2)


def test_a_low_cap_is_kept_to():
    found = best(256, max_learning_rate=0.5)
    assert found.peak_learning_rate == 0.5
    assert found.steps > best(256).steps
    assert found.residual < 1e-6


def test_a_cap_above_the_limit_of_stability_may_be_used():
    problem = nqm.NoisyQuadratic(Spectrum([1.0, 0.1], noise=0.0), 1)
    free = optimal_schedule(problem, pieces=2, target=1e-6, max_learning_rate=50.0)
    assert free.steps == 2  # at 1 and 1/0.1, the second unstable by itself
    assert optimal_schedule(problem, pieces=2, target=1e-6).steps > 2


def test_the_schedule_is_written_as_a_table(tmp_path):
    found = best(256)
    found.to_csv(tmp_path / "schedule.csv")
    with (tmp_path / "schedule.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["piece", "first_step", "last_step", "learning_rate"]
    assert [int(row["piece"]) for row in rows] == list(range(50))
    assert [float(row["learning_rate"]) for row in rows] == found.learning_rates.tolist()
    assert [int(row["first_step"]) for row in rows[1:]] == found.boundaries.tolist()
    assert [int(row["last_step"]) + 1 for row in rows] == [*found.boundaries, found.steps]


def test_its_schedule_has_the_rates_of_every_step():
    found = best(4096)
    factors = np.array([found.schedule(step / found.steps) for step in range(found.steps)])
    rates = rate_of_each_step(found.learning_rates, found.steps)
    assert found.peak_learning_rate * factors == pytest.approx(rates, rel=1e-14)


def test_results_are_read_only_and_repeat():
    found = best(256)
    again = optimal_schedule(nqm.NoisyQuadratic(PAPER, 256))
    assert np.array_equal(found.learning_rates, again.learning_rates)
    for array, kind in ((found.learning_rates, np.float64), (found.boundaries, np.int64)):
        assert array.dtype == kind
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"target": 0.0}, "target=0: must be a finite number greater than 0"),
        ({"target": 5.0}, "target=5: must be less than 4.89"),
        ({"pieces": 0}, "pieces=0: must be an integer of at least 1"),
        ({"pieces": 2.0}, "pieces=2.0: must be an integer"),
        ({"pieces": 20_000}, "pieces=20000: must be at most 8..., the steps"),
        ({"momentum": 1.0}, "momentum=1: must be"),
        ({"nesterov": 1}, "nesterov=1: must be True or False"),
        ({"preconditioner_power": 1.5}, "preconditioner_power=1.5: must be"),
        ({"ema_decay": -0.1}, "ema_decay=-0.1: must be"),
        ({"max_learning_rate": 0.0}, "max_learning_rate=0: must be"),
        ({"max_steps": 0}, "max_steps=0: must be"),
        ({"max_steps": 8000}, "max_steps=8000: must be more, since the smallest risk .* 0.01"),
    ],
)
def test_refusals_name_the_value_and_its_bound(keywords, message):
    with pytest.raises(ValueError, match=message):
        optimal_schedule(nqm.NoisyQuadratic(PAPER, 256), **keywords)


def test_a_problem_must_be_one():
    with pytest.raises(ValueError, match="problem=3: must be NoisyQuadratic"):
        optimal_schedule(3)


@pytest.mark.parametrize(("momentum", "steps"), [(0.5, 4), (0.9, 7)])
def test_a_single_rate_of_few_steps_is_looked_at_closely(momentum, steps):
    # A scan of 20,000 rates found these; their dips are narrow.
    problem = nqm.NoisyQuadratic(nqm.Spectrum([1.0, 0.1], noise=0.0), 16)
    found = optimal_schedule(problem, target=0.001, pieces=1, momentum=momentum)
    assert found.steps == steps


HARMONIC = nqm.NoisyQuadratic(nqm.Spectrum(1.0 / np.arange(1, 31)), 65_536)


@pytest.mark.parametrize(
    ("pieces", "momentum", "steps"),
    [(1, 0.97, 54), (1, 0.99, 143), (1, 0.997, 494), (2, 0.99, 28), (2, 0.997, 70)],
)
def test_much_momentum_takes_at_most_the_known_steps(pieces, momentum, steps):
    # One piece: what the best constant rates take, SGD(0.2577, momentum=0.99) for 143. Two: for 70
    # PiecewiseConstant((1, 0.0179 / 1.3144)) at 1.3144 does.
    found = optimal_schedule(HARMONIC, target=0.1, pieces=pieces, momentum=momentum)
    assert found.steps <= steps
    rates = rate_of_each_step(found.learning_rates, found.steps)
    assert replay(HARMONIC, rates, momentum=momentum) == pytest.approx(found.risk, rel=1e-8)
    assert found.risk <= 0.1 < found.risk_before


@pytest.mark.parametrize(
    "keywords",
    [
        {"momentum": 0.99, "nesterov": True},
        {"ema_decay": 0.9},
        {"momentum": 0.99, "preconditioner_power": 0.5},
        {"momentum": 0.99, "max_learning_rate": 0.05},
    ],
)
def test_halved_pieces_and_constant_rates_do_no_better(keywords):
    problem = nqm.NoisyQuadratic(nqm.power_law(30), 4096)
    steps = [
        optimal_schedule(problem, target=0.1, pieces=pieces, **keywords).steps for pieces in (1, 2)
    ]
    assert steps == sorted(steps, reverse=True)
    given = {"momentum": 0.0, **keywords}
    largest = given.pop("max_learning_rate", None)
    if largest is None:
        largest = largest_peak(problem, nqm.SGD(1.0, **given))
    known = nqm.tuned(problem, "momentum", target=0.1, **given).optimizer.learning_rate
    rates = np.append(np.geomspace(0.01, 1.0, 50) * largest, min(known, largest))
    for rate in rates:
        each = nqm.SGD(rate, **given)
        crossing = nqm.steps_to_target(problem, each, target=0.1, max_steps=steps[0] - 1)
        assert crossing.steps is None


def test_a_huge_cap_is_used_without_a_warning():
    problem = nqm.NoisyQuadratic(nqm.power_law(100), 256)
    for momentum in (0.0, 0.9):
        free, capped = (
            optimal_schedule(problem, pieces=3, max_learning_rate=cap, momentum=momentum)
            for cap in (20.0, None)
        )
        assert free.steps < capped.steps or (momentum > 0.0 and free.steps == capped.steps)
    for cap in (1e-3, 1e6, 1e200):
        optimal_schedule(problem, target=0.3, pieces=4, max_learning_rate=cap)


@pytest.mark.parametrize("batch_size", [64, 1024, 4096, 2**20])
def test_refined_until_more_pieces_save_next_to_nothing(batch_size):
    fifty, found = best(batch_size), best(batch_size, pieces=None)
    assert 0.0 <= found.gap < 1e-3
    assert fifty.gap is None
    assert found.steps < fifty.steps
    assert found.pieces % 50 == 0
    lengths = np.diff([0, *found.boundaries, found.steps])
    by_step = np.repeat(found.learning_rates, lengths)
    risk = replay_sgd(nqm.NoisyQuadratic(PAPER, batch_size), by_step)
    assert risk == pytest.approx(found.risk, rel=1e-8)
    assert risk <= 0.01 * (1.0 + 1e-8)
    schedule = found.schedule
    for step in range(0, found.steps, max(1, found.steps // 1000)):
        rate = found.peak_learning_rate * schedule(step / found.steps)
        assert rate == pytest.approx(by_step[step], rel=1e-14)


def test_refined_it_is_not_beaten_by_warmup_stable_decay_any_more():
    # 50 pieces take 6,904 steps, the best such schedule under the cap 6,841.
    assert best(4096, pieces=None).steps <= 6841


def test_refined_a_short_run_has_a_rate_for_each_step():
    problem = nqm.NoisyQuadratic(nqm.power_law(100), 4096)
    found = optimal_schedule(problem, target=0.5, pieces=None)
    assert found.gap == 0.0
    assert found.steps < 50
    assert found.learning_rates.size == found.steps
    own = optimal_schedule(problem, target=0.5, pieces=found.steps)
    assert own.steps == found.steps
    assert own.risk == pytest.approx(found.risk, rel=1e-6)


SHAPES = (
    nqm.Linear(), nqm.Linear(0.1, 0.05), nqm.Cosine(), nqm.Cosine(0.05, exponent=2.0),
    nqm.Polynomial(0.0, power=0.3), nqm.Polynomial(0.1, power=3.0), nqm.Exponential(0.1),
    nqm.InverseSqrt(30.0), nqm.InverseSqrt(1000.0), nqm.PiecewiseConstant((1.0, 0.3, 0.1)),
    nqm.StepDecay(0.3), nqm.OneCycle(), *(
        nqm.WarmupStableDecay(0.0, 0.0, decay) for decay in (0.01, 0.03, 0.1, 0.3, 0.6)
    ),
)  # fmt: skip
PROBLEMS = [
    nqm.NoisyQuadratic(spectrum, batch_size)
    for spectrum in (
        nqm.power_law(60),
        nqm.Spectrum(np.geomspace(1.0, 0.02, 6)),
        nqm.Spectrum([2.0, 0.3, 0.1, 0.05], noise=[0.1, 1.0, 0.3, 2.0]),
    )
    for batch_size in (8, 64, 1024)
]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_no_schedule_under_the_cap_beats_the_refined_optimum_by_more_than_its_gap(problem):
    target = 0.1 * problem.spectrum.initial_risk
    found = optimal_schedule(problem, target=target, pieces=None)
    cap = largest_peak(problem, nqm.SGD(1.0))
    least = round(found.steps * (1.0 - found.gap))
    for shape in SHAPES:
        for share in (1.0, 0.7, 0.4, 0.15):
            optimizer = nqm.SGD(share * cap)
            crossing = nqm.steps_to_target(
                problem, optimizer, shape, target=target, max_steps=least - 1
            )
            assert crossing.steps is None, (shape, share, crossing, found.steps)
