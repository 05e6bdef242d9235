import dataclasses
import math
import random

import pytest
from fake_records import (
    LEARNING_RATE,
    POWERS,
    adam,
    bounded,
    momentum,
    optimal,
    optimal_steps,
    sgd,
    study,
    sweep,
    trial,
)

from nqm_study.report.figures import steps_figure
from nqm_study.report.grouping import by_problem, spectrum_name
from nqm_study.report.laws import fit_learning_rate, perfect_scaling
from nqm_study.report.scaling import Curve, curves
from nqm_study.study.records import StudyRecord


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
    assert sorted(len(group) for group in by_problem(records)) == [1, 1, 2]


def test_the_same_spectrum_under_two_names_is_one_problem_in_one_place() -> None:
    records = [*sgd([4], spectrum="power_law"), *sgd([4]), *sgd([4], spectrum_digest="d2")]
    for given in (records, records[::-1]):
        groups = by_problem(given)
        assert [len(group) for group in groups] == [2, 1]
        assert [spectrum_name(group) for group in groups] == ["paper", "paper"]
    assert [curve.label for curve in curves(records[:2])] == ["sgd, paper", "sgd, power_law"]
    figure = steps_figure(curves(records[:2]))
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
