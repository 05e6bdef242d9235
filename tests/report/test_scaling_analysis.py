"""The scaling of curves in numbers: limits, critical batch sizes, hyperbolas and slopes."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import optuna
import pytest
from fake_records import POWERS, adam, curves, optimal, sgd, study, sweep, trial, with_optima
from hypothesis import given, settings, strategies as st

import nqm_study as nqm
from nqm_study.report.analysis.measure import Analysis, Source, analyses, analysis
from nqm_study.report.curves import Curve, Point
from nqm_study.report.estimate import Estimate
from nqm_study.report.hyperbola import fit_hyperbola, product
from nqm_study.study.records import Optimum, StudyRecord
from nqm_study.study.storage.studies import read_records

FACTORS = st.floats(1e-3, 1e3)


def point(batch_size: float, steps: float, rate: float = math.nan, **changes: object) -> Point:
    made = Point(
        batch_size=batch_size,
        steps=steps,
        steps_low=steps,
        steps_high=steps,
        hyperparameters={"learning_rate": rate},
        trials=1,
        seeds=1,
        bayes_bound=1,
        effective_rate=rate,
        effective_rate_range=(rate, rate),
    )
    return dataclasses.replace(made, **changes)


def curve(points: Sequence[Point], schedule: str = "constant") -> Curve:
    return Curve("key", "sgd", "sgd", "paper", schedule, 0.01, (), tuple(points), ())


def analysed(
    steps: Callable[[float], float], batch_sizes: Sequence[float] = POWERS, source: Source = "found"
) -> Analysis:
    return analysis(curve([point(size, steps(size)) for size in batch_sizes]), source)


def tuned_curve(family: str, batch_sizes: Sequence[float], **fixed: float) -> Curve:
    """The true optima of the paper's problem, as if a search had found them."""
    spectrum = nqm.power_law(10_000)
    points = []
    for size in batch_sizes:
        best = nqm.tuned(nqm.NoisyQuadratic(spectrum, size), family, target=0.01, **fixed)
        assert best.steps is not None
        assert best.optimizer is not None
        rate = best.optimizer.learning_rate
        known = Optimum(best.steps, {"learning_rate": rate})
        points.append(point(size, best.steps, rate, optimum=known))
    return curve(points)


# T B and lr / B of small batches, by preconditioner power: derived from the dynamics by themselves,
# in the limit lr h -> 0.
@pytest.mark.parametrize(
    ("power", "examples", "rate"),
    [
        (0.0, 6.024e6, 3.40e-3),
        (0.25, 2.380e6, 9.19e-4),
        (0.5, 1.392e6, 1.71e-4),
        (0.75, 1.049e6, 2.59e-5),
        (1.0, 1.180e6, 3.57e-6),
    ],
)
def test_limits_of_every_preconditioner_are_those_known(
    power: float, examples: float, rate: float
) -> None:
    drawn = tuned_curve("preconditioned", [4**k for k in range(1, 8)], preconditioner_power=power)
    exact, _ = analyses([drawn])
    least = exact.fewest_examples
    assert least.value == pytest.approx(examples, rel=5e-3)
    assert least.low is None or 0.998 * least.low <= examples <= 1.002 * least.high
    slope = exact.slope
    assert slope is not None
    assert slope.low < 1.0 < slope.high
    assert drawn.points[0].effective_rate / 4 == pytest.approx(rate, rel=0.01)


def test_numbers_of_the_papers_problem_are_those_known() -> None:
    sizes = [*(4**k for k in range(7)), 8192, *(4**k for k in (7, 8, 9, 10, 12, 13, 15))]
    exact, found = analyses([tuned_curve("sgd", sizes)])
    assert (exact.source, found.source) == ("exact", "found")
    assert exact.fewest_examples.value == pytest.approx(6.024e6, rel=3e-4)
    assert exact.fewest_examples.bound == exact.fewest_steps.bound == ""
    # A sharper knee than the hyperbola's, with E_min = 6.024e6 and S_min the large-batch plateau.
    products = {size: estimate.value for size, estimate in exact.products}
    assert products[64] == pytest.approx(0.26, abs=0.005)
    assert products[1024] == pytest.approx(0.42, abs=0.005)
    assert products[8192] == pytest.approx(0.99, abs=0.01)
    assert exact.hyperbola is not None
    assert 0.05 < exact.hyperbola.rms < exact.hyperbola.largest < 0.2
    # The examples of exact optima between the batch sizes of the sweep cross 20 % at 435.
    assert exact.critical is not None
    assert exact.critical.grid == (256.0, 1024.0)
    assert exact.critical.estimate.value == pytest.approx(435, rel=0.03)
    for each in (exact, found):
        assert each.slope is not None
        assert each.slope.method == "curvature"
        assert each.slope.low is not None
        assert each.slope.high is not None
        assert each.slope.low < 1.0 < each.slope.high
        assert each.slope.high - each.slope.low < 0.1
    assert exact.curve.points[0].batch_size not in products, "the least examples themselves"


def test_slopes_of_studies_of_adam_are_a_half_within_their_uncertainty() -> None:
    spectrum, storage = nqm.power_law(10_000), optuna.storages.InMemoryStorage()
    for size in (64, 128, 256, 512):
        problem = nqm.NoisyQuadratic(spectrum, size)
        for seed in range(3):
            nqm.run_study(problem, "adam", target=0.01, n_trials=15, seed=seed, storage=storage)
    (found,) = analyses(curves(read_records(storage)))
    assert found.slope is not None
    assert found.slope.method == "bootstrap"
    assert found.slope.low is not None
    assert found.slope.high is not None
    assert found.slope.low < 0.5 < found.slope.high
    assert found.slope.high - found.slope.low < 0.1


@settings(max_examples=50, deadline=None)
@given(
    least=st.floats(1.0, 1e5),
    center=st.floats(16.0, 1e5),
    sizes=st.lists(st.integers(0, 22), min_size=3, max_size=12, unique=True),
)
def test_the_hyperbola_is_found_again_and_its_product_is_1(
    least: float, center: float, sizes: list[int]
) -> None:
    batch_sizes = [2.0**k for k in sorted(sizes)]
    steps = [least * (1.0 + center / size) for size in batch_sizes]
    fit = fit_hyperbola(batch_sizes, steps)
    assert fit is not None
    assert fit.largest < 1e-6
    for size, count in zip(batch_sizes, steps, strict=True):
        assert product(count, count * size, least, least * center) == pytest.approx(1.0, rel=1e-6)
    if batch_sizes[0] < center < batch_sizes[-1]:
        assert fit.critical_batch_size.value == pytest.approx(center, rel=1e-4)
        assert fit.fewest_steps.value == pytest.approx(least, rel=1e-4)
        assert fit.fewest_examples.value == pytest.approx(least * center, rel=1e-4)
    elif center > batch_sizes[-1]:
        assert fit.critical_batch_size == Estimate(batch_sizes[-1], None, None, ">=", "sweep ends")
        assert least <= fit.fewest_steps.value
        assert fit.fewest_steps.bound == "<="
    elif center < batch_sizes[0]:
        assert fit.critical_batch_size.bound == "<="
        assert least * center <= fit.fewest_examples.value
        assert fit.fewest_examples.bound == "<="


@settings(max_examples=25, deadline=None)
@given(by_size=FACTORS, by_steps=FACTORS, power=st.floats(0.7, 3.0))
def test_other_units_of_examples_and_steps_change_nothing_else(
    by_size: float, by_steps: float, power: float
) -> None:
    def law(size: float) -> float:
        return 7000.0 * (1.0 + (900.0 / size) ** power) ** (1.0 / power)

    plain = analysed(law)
    other = analysed(
        lambda size: by_steps * law(size / by_size), [by_size * size for size in POWERS]
    )
    assert plain.critical is not None
    assert other.critical is not None
    assert plain.hyperbola is not None
    assert other.hyperbola is not None
    both = by_size * by_steps
    for one, two, factor in (
        (plain.perfect_scaling, other.perfect_scaling, both),
        (plain.fewest_examples, other.fewest_examples, both),
        (plain.fewest_steps, other.fewest_steps, by_steps),
        (plain.critical.estimate, other.critical.estimate, by_size),
        (plain.hyperbola.critical_batch_size, other.hyperbola.critical_batch_size, by_size),
        (plain.hyperbola.fewest_examples, other.hyperbola.fewest_examples, both),
    ):
        assert one is not None
        assert two is not None
        assert two.bound == one.bound
        for name in ("value", "low", "high"):
            end, scaled = getattr(one, name), getattr(two, name)
            assert scaled == (None if end is None else pytest.approx(factor * end, rel=1e-5))
    assert other.hyperbola.rms == pytest.approx(plain.hyperbola.rms, rel=1e-5)


def test_critical_batch_size_of_a_hyperbola_is_a_fifth_of_its_own() -> None:
    made = analysed(lambda b: 100.0 * (1.0 + 2000.0 / b), [2.0**k for k in range(-6, 24, 2)])
    assert made.critical is not None
    # E = E_min (1 + B / B_c), so that it is 20 % above its least at B_c / 5.
    assert made.critical.estimate.value == pytest.approx(400.0, rel=1e-3)
    assert made.critical.grid == (256.0, 1024.0)
    # The limits are within so many per mille of the ends of so wide a sweep.
    middle = [estimate.value for size, estimate in made.products if 16 <= size <= 2**16]
    assert middle == pytest.approx([1.0] * len(middle), rel=0.05)


def law(b: float) -> float:
    return 100.0 * (1.0 + 2000.0 / b)


def test_limits_that_the_sweep_does_not_reach_are_bounds() -> None:
    small = analysed(law, [1, 4, 16])
    assert small.fewest_examples.bound == ""
    assert small.fewest_examples.low is not None
    assert small.fewest_examples.low < 2e5 < small.fewest_examples.value
    assert small.fewest_steps == Estimate(law(16), None, law(16), "<=", "sweep ends")
    assert small.critical is not None
    assert small.critical.estimate == Estimate(16.0, None, None, ">=", "grid")
    large = analysed(law, [4**5, 4**9, 4**11])
    assert large.fewest_examples.bound == "<="
    assert large.fewest_steps.bound == ""
    assert large.critical is not None
    assert large.critical.estimate.bound == "<="
    assert large.critical.estimate.value > 400
    assert large.critical.estimate.low is None
    middle = analysed(law, [128, 256])
    assert middle.critical is None, "neither the least examples nor 20 % more are in it"
    narrow = analysed(lambda _: 100.0, [128, 256])
    assert narrow.fewest_steps.bound == "<=", "too narrow to tell"


def test_a_search_that_missed_widens_the_range() -> None:
    records = sweep(law, lambda b: 1e-3 * b, [2**k for k in range(0, 20, 2)])
    missed = with_optima(records, excess=lambda b: 0.05 if b == 256 else 0.0)
    _, found = analyses(curves(missed))
    assert found.critical is not None
    low, high = found.critical.searched
    assert low is not None
    assert high is not None
    assert low < found.critical.estimate.value < high
    sure, _ = analyses(curves(with_optima(records)))
    assert sure.critical is not None
    assert sure.critical.searched[0] is not None
    assert high - low > found.critical.estimate.value - sure.critical.searched[0]


def test_a_poor_search_does_not_make_a_plateau() -> None:
    # What was found changes by nothing at large batches, but the true optima do.
    records = sweep(lambda b: max(law(b), 300.0), lambda b: b, [2**k for k in range(0, 16, 2)])
    off = with_optima(records, excess=lambda b: max(0.0, 300.0 / law(b) - 1.0))
    exact, found = analyses(curves(off))
    assert exact.fewest_steps.bound == found.fewest_steps.bound == "<="
    assert (exact.fewest_steps.value, found.fewest_steps.value) == (round(law(2**14)), 300.0)


def test_sources_are_the_exact_optima_or_the_dense_ones_and_what_was_found() -> None:
    def sources(records: list[StudyRecord]) -> list[Source]:
        return [each.source for each in analyses(curves(records))]

    assert sources(sgd()) == ["found"]
    assert sources(with_optima(sgd())) == ["exact", "found"]
    assert sources(with_optima(adam(), exact=False)) == ["dense", "found"]
    assert sources([*with_optima(sgd([4])), *sgd([16, 64])]) == ["found"], "one optimum is none"
    assert sources(sgd([4])) == [], "one batch size has no scaling"
    assert sources([study(trial(None), batch_size=size) for size in (4, 16)]) == []


def test_computed_schedules_have_limits_and_no_slope() -> None:
    (found,) = analyses(curves(optimal()))
    assert found.slope is None
    assert found.fewest_steps.value == 6680


def test_any_selection_has_an_analysis_or_none() -> None:
    some = [
        [study(trial(0), batch_size=4), study(trial(0), batch_size=16)],
        [study(trial(0), batch_size=4), study(trial(10), batch_size=16), *sgd([64])],
        [study(trial(1), batch_size=size) for size in (1, 2, 4, 8)],
        [study(trial(size), batch_size=size) for size in (1, 2, 4, 8)],
        [study(trial(9 - size), batch_size=size, seed=s) for size in (1, 2, 4, 8) for s in (0, 1)],
        [study(trial(None), batch_size=4), *sgd([16, 64])],
    ]
    assert [len(analyses(curves(records))) for records in some] == [0, 1, 1, 1, 1, 1]
    equal = curve([point(4, 100), point(4, 90), point(16, 30)])
    (made,) = analyses([equal])
    assert [each.steps for each in made.curve.points] == [90, 30], "the best of equal batch sizes"
