import dataclasses
import math
import random

import pytest
from fake_records import (
    LEARNING_RATE,
    POWERS,
    adam,
    bounded,
    curves,
    momentum,
    optimal,
    optimal_steps,
    sgd,
    steps_figure,
    study,
    sweep,
    trial,
    with_optima,
)
from scipy import stats

from nqm_study.report import words
from nqm_study.report.curves import Curve, by_problem
from nqm_study.report.frame import studies_frame
from nqm_study.report.laws import SlopeFit, fit_learning_rate, perfect_scaling
from nqm_study.study.records import Optimum, StudyRecord


def only(records: list[StudyRecord]) -> Curve:
    (curve,) = curves(records)
    return curve


@pytest.mark.parametrize("slope", [0.5, 1.0])
def test_slope_of_an_exact_power_law_is_recovered(slope: float) -> None:
    records = sweep(lambda b: 2.0**30 / b, lambda b: 3e-3 * b**slope, POWERS)
    fit = fit_learning_rate(only(records))
    assert fit is not None
    assert fit.slope == pytest.approx(slope, abs=1e-12)
    assert fit.standard_error == pytest.approx(0.0, abs=1e-12)
    assert math.exp(fit.intercept) == pytest.approx(3e-3)
    assert fit.learning_rate(256) == pytest.approx(3e-3 * 256**slope)
    assert (fit.batch_sizes, fit.n_points) == ((4, 4**10), 10)


def test_standard_error_is_that_of_ordinary_least_squares() -> None:
    # ln(lr) = 0, 1, 1, 2 at ln(B) = 0, 1, 2, 3 (in units of ln 4): slope 0.6, residual sum 0.2,
    # spread 5, so the error is sqrt(0.2 / 2 / 5).
    rates = dict(zip([1, 4, 16, 64], [1.0, 4.0, 4.0, 16.0], strict=True))
    fit = fit_learning_rate(only(sweep(lambda b: 2**20 / b, lambda b: rates[int(b)], list(rates))))
    assert fit is not None
    assert fit.slope == pytest.approx(0.6)
    assert fit.standard_error == pytest.approx(math.sqrt(0.2 / 2 / 5))


@pytest.mark.parametrize("n_points", [3, 4, 7])
def test_interval_is_that_of_students_t(n_points: int) -> None:
    generator = random.Random(n_points)  # noqa: S311 - noise, not secrets
    rates = {4**k: 1e-3 * 2.0**k * math.exp(generator.gauss(0, 0.05)) for k in range(n_points)}
    fit = fit_learning_rate(only(sweep(lambda b: 2**30 / b, lambda b: rates[int(b)], list(rates))))
    line = stats.linregress([math.log(b) for b in rates], [math.log(r) for r in rates.values()])
    assert fit is not None
    assert fit.slope == pytest.approx(line.slope)
    assert fit.standard_error == pytest.approx(line.stderr)
    low, high = stats.t.interval(0.95, n_points - 2, loc=line.slope, scale=line.stderr)
    assert fit.interval == pytest.approx((high - low) / 2)


def test_two_points_have_no_interval() -> None:
    fit = fit_learning_rate(only(sgd([4, 16])))
    assert fit is not None
    assert (fit.n_points, fit.standard_error, fit.interval) == (2, None, None)


def test_five_percent_rule_keeps_the_bend_out_where_four_points_are_left() -> None:
    examples = {4: 1.0, 8: 1.01, 16: 1.03, 32: 1.049, 64: 1.06, 128: 1.19, 256: 1.3}

    def fitted(sizes: list[int]) -> tuple[float, float]:
        records = sweep(lambda b: 2**30 * examples[int(b)] / b, lambda b: b, sizes)
        fit = fit_learning_rate(only(records))
        assert fit is not None
        return fit.batch_sizes

    assert fitted([4, 8, 16, 32, 64, 128, 256]) == (4, 32)
    assert fitted([4, 16, 32, 64, 128, 256]) == (4, 128), "three are too few"


# The fewest steps and their rates of tuned(problem, "sgd") on the paper's problem, B = 2^2..2^11.
TUNED = {
    4: (1507530, 0.0135784), 8: (754635, 0.0271200), 16: (378197, 0.0540880),
    32: (189998, 0.1075456), 64: (95942, 0.212512), 128: (49009, 0.4132096),
    256: (25778, 0.7740672), 512: (14796, 1.2833792), 1024: (10354, 1.6408576),
    2048: (8632, 1.7921638),
}  # fmt: skip


def test_the_exact_optima_of_sgd_are_found_proportional_to_the_batch_size() -> None:
    records = sweep(lambda b: TUNED[int(b)][0], lambda b: TUNED[int(b)][1], list(TUNED))
    fit = fit_learning_rate(only(records))
    assert fit is not None
    assert fit.batch_sizes == (4, 128)
    assert fit.slope == pytest.approx(1.0, abs=0.02)
    assert fit.end is not None
    assert math.log2(fit.end) == pytest.approx(9, abs=0.3)


def end_of(off: dict[int, float], batch_sizes: list[int]) -> float | None:
    """The end of a law of slope 1/2 up to B = 64, where steps stop falling, with rates so far off.

    Points beyond the fit change the law by nothing, so that the end is known exactly.
    """
    records = sweep(
        lambda b: 2**30 / min(b, 64),
        lambda b: 0.01 * b**0.5 * off.get(int(b), 1.0),
        batch_sizes,
    )
    fit = fit_learning_rate(only(records))
    assert fit is not None
    assert fit.batch_sizes[1] == 64
    assert fit.slope == pytest.approx(0.5)
    return fit.end


FITTED = [4, 8, 16, 32, 64]


@pytest.mark.parametrize(
    ("off", "end"),
    [
        # From 1 to 0.64 = 0.8^2 it passes 0.8 halfway, and from 1 to 1.44 = 1.2^2 it passes 1.2.
        ({256: 0.64, 1024: 0.3}, 128),
        ({256: 1.44, 1024: 3.0}, 128),
        ({1024: 0.64, 4096: 0.3}, 512),
        # Above first and then below: it ends where it is first off.
        ({256: 1.44, 1024: 0.5, 4096: 0.1}, 128),
        # The last point has none after it that could speak against it.
        ({4096: 0.64}, 2048),
        # Not by more than 20 %.
        ({256: 0.81, 1024: 1.19, 4096: 0.81}, None),
        # One batch size alone was searched badly.
        ({256: 0.5, 4096: 0.64}, 2048),
        ({256: 2.0}, None),
        ({}, None),
    ],
)
def test_a_law_ends_where_the_rate_leaves_its_neighbourhood(
    off: dict[int, float], end: float | None
) -> None:
    assert end_of(off, [*FITTED, 256, 1024, 4096]) == (None if end is None else pytest.approx(end))


def test_a_law_fitted_to_every_point_has_no_end() -> None:
    assert end_of({}, FITTED) is None


def test_a_law_ends_at_its_last_fitted_point_where_that_is_off_itself() -> None:
    rates = {4: 1.0, 8: 1.2, 16: 1.4, 32: 1.8, 64: 1.0, 256: 0.1, 1024: 0.01}
    records = sweep(lambda b: 2**30 / min(b, 64), lambda b: rates[int(b)], list(rates))
    fit = fit_learning_rate(only(records))
    assert fit is not None
    assert rates[64] < 0.8 * fit.learning_rate(64)
    assert fit.end == pytest.approx(64)


def test_twenty_percent_rule_cuts_the_knee_off() -> None:
    examples = {4: 1000.0, 16: 1190.0, 64: 1210.0, 256: 5000.0}
    curve = only(sweep(lambda b: 4096 * examples[int(b)] / b, lambda b: b, list(examples)))
    fit = fit_learning_rate(curve)
    assert fit is not None
    assert fit.batch_sizes == (4, 16)
    assert fit.standard_error is None
    assert perfect_scaling(curve) == pytest.approx(4096 * 1095.0)


def test_regime_ends_at_the_first_gap() -> None:
    examples = {4: 1.0, 16: 1.1, 64: 2.0, 256: 1.0}
    fit = fit_learning_rate(
        only(sweep(lambda b: 2**20 * examples[int(b)] / b, lambda b: b, list(examples)))
    )
    assert fit is not None
    assert fit.batch_sizes == (4, 16)


def test_regime_starts_after_a_smallest_batch_that_was_searched_badly() -> None:
    examples = {4: 1.5, 16: 1.0, 64: 1.1}
    fit = fit_learning_rate(
        only(sweep(lambda b: 2**20 * examples[int(b)] / b, lambda b: b, list(examples)))
    )
    assert fit is not None
    assert fit.batch_sizes == (16, 64)


def test_one_point_gives_no_slope_and_no_scaling_constant() -> None:
    curve = only(sgd([256]))
    assert fit_learning_rate(curve) is None
    assert perfect_scaling(curve) is None


def test_rate_with_momentum_is_the_effective_one() -> None:
    # The rate and the momentum jump about, together: their trade-off says nothing.
    momenta = {4: 0.9, 16: 0.0, 64: 0.99}
    records = sweep(
        lambda b: 1e6 / b,
        lambda b: 3e-3 * b * (1 - momenta[int(b)]),
        [4, 16, 64],
        others={"momentum": lambda b: momenta[int(b)]},
    )
    fit = fit_learning_rate(only(records))
    assert fit is not None
    assert fit.slope == pytest.approx(1.0)
    assert fit.learning_rate(1.0) == pytest.approx(3e-3)


def test_points_on_no_power_law_have_no_slope() -> None:
    scattered = {4: 1.0, 16: 1e-3, 64: 0.5, 256: 1e-4}
    curve = only(sweep(lambda b: 1e6 / b, lambda b: scattered[int(b)], list(scattered)))
    assert len(curve.points) == 4
    assert fit_learning_rate(curve) is None


def test_seeds_become_median_and_range() -> None:
    records = [
        study(trial(900, learning_rate=9.0), trial(steps, 1, learning_rate=rate), seed=seed)
        for seed, (steps, rate) in enumerate([(120, 0.3), (100, 0.1), (110, 0.5)])
    ]
    (point,) = only(records).points
    assert (point.steps, point.steps_low, point.steps_high) == (110, 100, 120)
    assert point.hyperparameters == {"learning_rate": 0.3, "momentum": 0.0}
    assert point.hyperparameter_ranges["learning_rate"] == (0.1, 0.5)
    assert (point.seeds, point.trials) == (3, 6)
    assert point.ratio_to_bound == pytest.approx(110 / 1934)


def test_seed_that_missed_the_target_is_counted_apart() -> None:
    (point,) = only([study(trial(100)), study(trial(None), seed=1)]).points
    assert (point.seeds, point.seeds_unreached, point.trials) == (1, 1, 2)
    assert point.steps == 100


def test_batch_size_that_missed_the_target_is_unreached_and_one_without_trials_is_absent() -> None:
    curve = only(
        [study(trial(100), batch_size=64), study(trial(None), batch_size=4), study(batch_size=16)]
    )
    assert curve.unreached == (4,)
    assert [point.batch_size for point in curve.points] == [64]


def test_studies_without_trials_make_no_curve() -> None:
    assert curves([study()]) == ()


def test_same_search_under_two_names_counts_once_with_its_longest_run() -> None:
    records = [study(trial(100), name="a"), study(trial(100), trial(90, 1), name="b")]
    (point,) = only(records).points
    assert (point.steps, point.seeds, point.trials) == (90, 1, 2)


def test_order_of_the_records_does_not_matter() -> None:
    records = sgd() + momentum() + adam() + adam(target=0.1)
    shuffled = records.copy()
    random.Random(0).shuffle(shuffled)  # noqa: S311 - order, not secrets
    assert curves(shuffled) == curves(records)
    assert [curve.optimizer for curve in curves(records)] == ["sgd", "momentum", "adam", "adam"]


def test_points_are_sorted_and_searched_names_listed() -> None:
    curve = only(momentum([256, 4, 64]))
    assert [point.batch_size for point in curve.points] == [4, 64, 256]
    assert curve.searched == ("learning_rate", "momentum")


def test_problems_differ_by_spectrum_digest_and_target() -> None:
    hyperparameters = {"learning_rate": LEARNING_RATE}
    records = [
        study(trial(1), hyperparameters=hyperparameters, **change)
        for change in ({}, {"batch_size": 4}, {"target": 0.1}, {"spectrum_digest": "d2"})
    ]
    assert sorted(map(len, by_problem(studies_frame(records)))) == [1, 1, 2]


def test_the_same_spectrum_under_two_names_is_one_problem_in_one_place() -> None:
    records = [*sgd([4], spectrum="power_law"), *sgd([4]), *sgd([4], spectrum_digest="d2")]
    for given in (records, records[::-1]):
        groups = by_problem(studies_frame(given))
        assert [len(group) for group in groups] == [2, 1]
        assert [group.spectrum.min() for group in groups] == ["paper", "paper"]
    assert [curve.label for curve in curves(records[:2])] == ["sgd", "sgd, power_law"]
    figure = steps_figure(records[:2])
    assert figure.get_supxlabel().startswith("Spectrum: paper, power_law.")


def test_bounds_are_taken_from_a_seed_that_has_them() -> None:
    old = study(trial(20_000), batch_size=256)
    new = bounded([study(trial(30_000), batch_size=256, seed=1)])
    (point,) = only([old, *new]).points
    assert (point.classical_bound, point.optimal_steps) == (500_000 / 256, optimal_steps(256))
    assert point.ratio_to_optimal == pytest.approx(25_000 / optimal_steps(256))
    assert math.isnan(only([old]).points[0].ratio_to_optimal)


def test_rates_are_those_of_the_fastest_trial() -> None:
    slow = dataclasses.replace(trial(200), rates=((0, 0.1), (100, 0.2)))
    fast = dataclasses.replace(trial(150), rates=((0, 0.3), (75, 0.4)))
    (point,) = only([study(slow), study(fast, seed=1)]).points
    assert point.rates == fast.rates
    assert point.steps_low == 150


def test_no_law_is_fitted_to_the_caps_of_computed_schedules() -> None:
    assert fit_learning_rate(only(optimal())) is None
    assert perfect_scaling(only(optimal([4, 8]))) is not None


def test_schedules_are_ordered_from_constant_to_optimal() -> None:
    names = ["constant", "linear", "polynomial", "cosine", "exponential", "inverse_sqrt"]
    names += ["piecewise_constant", "step_decay", "warmup_stable_decay", "one_cycle"]
    names += ["greedy", "optimal", "of_a_later_version"]
    records = [record for name in names for record in sgd([4], schedule=name)]
    random.Random(0).shuffle(records)  # noqa: S311 - order, not secrets
    assert [curve.schedule for curve in curves(records)] == names
    mixed = curves([*records, *sgd([4], optimizer="adam")])
    assert mixed[-1].optimizer == "adam", "the optimizer comes first"


def with_optimum(record: StudyRecord, optimum: Optimum) -> StudyRecord:
    return dataclasses.replace(record, optimum=optimum)


def test_excess_is_that_of_the_median_steps_over_the_true_optimum() -> None:
    optimum = Optimum(100, {"learning_rate": 0.2, "momentum": 0.9})
    seeds = [study(trial(steps), seed=seed) for seed, steps in enumerate((102, 110, 104))]
    (point,) = only([with_optimum(seeds[0], optimum), *seeds[1:]]).points
    assert point.excess == pytest.approx(0.04)
    assert point.optimal_rate == pytest.approx(0.2 / 0.1)
    (unknown,) = only(seeds).points
    assert unknown.excess is None
    assert math.isnan(unknown.optimal_rate)
    (nothing,) = only([with_optimum(seeds[0], Optimum(0, optimum.hyperparameters))]).points
    assert nothing.excess is None


def test_of_several_optima_an_exact_one_counts_and_else_the_best() -> None:
    def chosen(*optima: Optimum) -> Optimum | None:
        records = [
            with_optimum(study(trial(100), seed=seed), optimum)
            for seed, optimum in enumerate(optima)
        ]
        (point,) = only(records).points
        return point.optimum

    values = {"learning_rate": 0.1}
    exact, dense = Optimum(90, values), [Optimum(n, values, exact=False) for n in (89, 91)]
    assert chosen(dense[0], exact) == exact
    assert chosen(dense[1], dense[0]) == dense[0]


def fit_with_optima(off: dict[int, float], n_known: int = 4, *, exact: bool = False) -> SlopeFit:
    """The fit to rates 1e-3 B off their true optima, 1e-3 B, by given factors."""
    records = sweep(lambda b: 2**30 / b, lambda b: 1e-3 * b * off[int(b)], list(off))
    known = with_optima(records, off=lambda b: off[int(b)], exact=exact)[:n_known]
    fit = fit_learning_rate(only([*known, *records[n_known:]]))
    assert fit is not None
    return fit


def test_interval_has_the_scatter_and_the_distance_from_a_dense_search() -> None:
    # A search whose rates drift from the true ones along a line scatters about nothing.
    tilted = fit_with_optima({4**k: 4.0 ** (0.03 * k) for k in range(4)})
    assert tilted.standard_error == pytest.approx(0.0, abs=1e-12)
    assert tilted.true_slope == pytest.approx(1.0)
    assert tilted.interval == pytest.approx(0.03)
    assert tilted.method == "scatter"
    off = {1: 1.0, 4: 1.2, 16: 0.9, 64: 1.1}
    scattered = fit_with_optima(off)
    plain = fit_with_optima(off, n_known=0)
    assert plain.interval is not None
    assert scattered.interval == pytest.approx(math.hypot(plain.interval, plain.slope - 1.0))


def test_of_exact_optima_the_interval_is_the_distance_from_them_and_their_bend() -> None:
    off = {1: 1.0, 4: 1.2, 16: 0.9, 64: 1.1}
    straight = fit_with_optima(off, exact=True)
    assert straight.method == "curvature"
    assert straight.interval == pytest.approx(abs(straight.slope - 1.0))
    # The rate goes as B^(1 - 0.02 ln B): its slope falls by 0.04 ln 64 from 1 to 64.
    records = sweep(lambda b: 2**30 / b, lambda b: b ** (1.0 - 0.02 * math.log(b)), list(off))
    fit = fit_learning_rate(only(with_optima(records)))
    assert fit is not None
    assert fit.bend is not None
    assert fit.bend.end_slope == pytest.approx(1.0)
    assert fit.bend.change == pytest.approx(-0.04 * math.log(64))
    assert fit.interval == pytest.approx(0.04 * math.log(64))


def seeds(rates: dict[int, list[float]]) -> SlopeFit:
    """The fit to seeds of given best rates at each batch size."""
    records = [
        study(trial(2**20 // size, learning_rate=rate), batch_size=size, seed=seed)
        for size, found in rates.items()
        for seed, rate in enumerate(found)
    ]
    fit = fit_learning_rate(only(records))
    assert fit is not None
    return fit


def test_three_seeds_at_each_batch_size_give_a_bootstrap_and_fewer_do_not() -> None:
    off = [1.1, 0.9, 1.0]
    rates = {4**k: [4.0**k * off[(i + k) % 3] for i in range(3)] for k in range(4)}
    fit = seeds(rates)
    assert fit.method == "bootstrap"
    assert fit.interval is not None
    # A median of three with a spread of 10 % is off by about 7 % (its standard deviation), so that
    # the slope over three factors of four is by 0.07 / (ln 4 sqrt(5)) = 0.023, twice that for 95 %.
    assert 0.03 < fit.interval < 0.07
    assert abs(fit.slope - 1.0) < fit.interval
    again = seeds({size: found[::-1] for size, found in rates.items()})
    assert again.interval == fit.interval, "the same seeds in another order"
    assert seeds({**rates, 64: rates[64][:2]}).method == "scatter"


def test_a_bend_that_seeds_agree_on_is_in_their_interval() -> None:
    bent = {4**k: [(4.0**k) ** (1.0 - 0.02 * math.log(4.0**k))] * 3 for k in range(4)}
    fit = seeds(bent)
    assert fit.method == "bootstrap"
    assert fit.interval == pytest.approx(0.04 * math.log(64), abs=1e-9)
    assert abs(fit.slope - 1.0) < fit.interval, "the slope at the smallest batch is 1"
    assert "(95 %, seeds)" in words.slope(fit)
    assert "a bootstrap over seeds" in words.slopes([fit])


def test_slope_of_the_true_optima_needs_all_of_them() -> None:
    off = dict.fromkeys((1, 4, 16, 64), 1.0)
    assert fit_with_optima(off, n_known=3).true_slope is None
    assert fit_with_optima(off).true_slope == pytest.approx(1.0)
    records = sweep(lambda b: 2**30 / b, lambda b: b, [1, 4, 16, 64])
    for exact in (True, False):
        fit = fit_learning_rate(only(with_optima(records, exact=exact)))
        assert fit is not None
        assert fit.true_exact is exact
