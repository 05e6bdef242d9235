"""The ranges and first trials of a study fit its problem, whatever its batch size and units."""

import itertools
import math
from collections.abc import Mapping

import optuna
import pytest

import nqm_study as nqm
from nqm_study.config.plan import StudyPlan, python_plan
from nqm_study.model.linear.stability import largest_peak
from nqm_study.optimum.study import true_optimum
from nqm_study.study.definition import Range
from nqm_study.study.evaluation import evaluation, parts_of_run
from nqm_study.study.storage.studies import study_record

PAPER = nqm.power_law(10_000)
SMALL = nqm.power_law(1000)
STEEP = nqm.power_law(300, exponent=1.7)
LINEAR = ("sgd", "momentum", "nesterov", "ema", "preconditioned")


def plan(
    batch_size: float, family: str, spectrum: nqm.Spectrum = SMALL, **changes: object
) -> StudyPlan:
    problem = nqm.NoisyQuadratic(spectrum, batch_size)
    return python_plan(problem, family, **changes)  # type: ignore[arg-type]


def first_steps(made: StudyPlan) -> float:
    evaluate = evaluation(made.problem, made.recipes, made.definition)
    steps = [
        evaluate(made.search.space.values(start)).crossing.steps for start in made.search.starts
    ]
    return min(math.inf if count is None else count for count in steps)


@pytest.mark.parametrize("family", LINEAR)
@pytest.mark.parametrize("exponent", [0, 5, 12, 18, 24])
@pytest.mark.parametrize(
    "spectrum", [SMALL, STEEP, SMALL.scaled(40.0)], ids=["small", "steep", "x40"]
)
def test_the_true_optimum_is_inside_at_every_batch_size(
    family: str, exponent: int, spectrum: nqm.Spectrum
) -> None:
    made = plan(2.0**exponent, family, spectrum, target=0.02 * spectrum.initial_risk)
    space = made.search.space
    optimum = true_optimum(made.problem, made.recipes, made.definition)
    assert optimum is not None
    assert space.at_edge(optimum.hyperparameters) == ()
    for each in space.coordinates:
        assert each.low <= each.of(optimum.hyperparameters) <= each.high, each.name


# Steps of the true optima of the paper's problem: tests/optimum/test_tuned.py derives them.
@pytest.mark.parametrize(
    ("family", "batch_size", "steps"),
    [
        ("sgd", 16, 378_197),
        ("sgd", 256, 25_778),
        ("sgd", 4096, 7_832),
        ("preconditioned", 256, 5_442),
        ("momentum", 16, 322_409),
        ("momentum", 16384, 341),
    ],
)
def test_the_first_trial_is_near_the_optimum_of_the_papers_problem(
    family: str, batch_size: int, steps: int
) -> None:
    assert steps <= first_steps(plan(batch_size, family, PAPER)) <= 1.03 * steps


@pytest.mark.parametrize(
    "schedule", ["linear", "cosine", "exponential", "step_decay", "piecewise_constant"]
)
@pytest.mark.parametrize("exponent", [14, 20])
def test_large_batches_need_no_decay_and_the_search_begins_there(
    schedule: str, exponent: int
) -> None:
    # Without noise every decay costs steps, and the constant rate is among the shapes.
    found = first_steps(plan(2.0**exponent, "sgd", PAPER, schedule=schedule))
    constant = nqm.tuned(nqm.NoisyQuadratic(PAPER, 2.0**exponent), "sgd", target=0.01).steps
    assert constant is not None
    assert found <= 1.1 * constant


@pytest.mark.parametrize(
    "schedule", ["linear", "cosine", "exponential", "step_decay", "piecewise_constant"]
)
def test_small_batches_need_a_deep_decay_and_the_search_begins_there(schedule: str) -> None:
    found = first_steps(plan(16, "sgd", PAPER, schedule=schedule))
    assert found <= 0.5 * 378_197, "half of the constant rate's steps"


@pytest.mark.parametrize("family", ["momentum", "nesterov"])
@pytest.mark.parametrize("schedule", ["constant", "warmup_stable_decay"])
@pytest.mark.parametrize("momentum", [0.3, 0.8, Range(None, 0.5, "log_one_minus")])
@pytest.mark.parametrize("exponent", [4, 10, 20])
def test_the_first_rate_is_stable_beside_a_momentum_that_is_kept_small(
    family: str, schedule: str, momentum: float | Range, exponent: int
) -> None:
    made = plan(
        2.0**exponent, family, schedule=schedule, hyperparameters={"momentum": momentum}, target=0.2
    )
    assert first_steps(made) < math.inf


def test_rescaling_the_loss_rescales_the_rates_and_leaves_the_first_steps() -> None:
    one = plan(64.0, "momentum", target=0.02)
    other = plan(64.0, "momentum", SMALL.scaled(7.0), target=0.14)
    assert first_steps(one) == first_steps(other)
    (rate, *_), (scaled, *_) = (
        [each for each in made.search.space.coordinates if each.kind == "effective"]
        for made in (one, other)
    )
    assert scaled.low == pytest.approx(rate.low / 7.0)
    assert scaled.high == pytest.approx(rate.high / 7.0)


def test_adams_rates_do_not_depend_on_the_unit_of_the_loss() -> None:
    one, other = plan(64.0, "adam", target=0.02), plan(64.0, "adam", SMALL.scaled(7.0), target=0.14)
    (rate,), (scaled,) = one.search.space.coordinates, other.search.space.coordinates
    assert (scaled.low, scaled.high) == pytest.approx((rate.low, rate.high))


@pytest.mark.parametrize("noise", [0.0, 1.0])
@pytest.mark.parametrize("family", [*LINEAR, "adam"])
def test_a_spectrum_with_and_without_noise_can_be_searched(family: str, noise: float) -> None:
    spectrum = nqm.Spectrum([4.0, 1.0, 0.1], noise=noise)
    problem = nqm.NoisyQuadratic(spectrum, 8)
    study = nqm.run_study(problem, family, target=0.5, n_trials=15)
    assert any(trial.user_attrs["steps"] is not None for trial in study.trials)


def test_bounds_of_ones_own_are_kept_and_search_the_rate_itself() -> None:
    given = {"learning_rate": Range(1e-4, None)}
    (gap, rate) = plan(64.0, "momentum", hyperparameters=given).search.space.coordinates
    assert (rate.name, rate.low) == ("learning_rate", 1e-4)
    assert gap.name == "one_minus_momentum"
    fixed = plan(64.0, "momentum", hyperparameters={"momentum": 0.9}).search.space
    assert [each.name for each in fixed.coordinates] == ["effective_learning_rate"]
    assert fixed.values({"effective_learning_rate": 0.5})["learning_rate"] == pytest.approx(0.05)


@pytest.mark.parametrize("family", LINEAR)
@pytest.mark.parametrize(
    "schedule", ["linear", "cosine", "one_cycle", "warmup_stable_decay", "inverse_sqrt"]
)
def test_rates_of_a_schedule_stay_below_the_limit_of_stability(family: str, schedule: str) -> None:
    for batch_size, spectrum in ((16.0, SMALL), (2.0**18, SMALL.scaled(40.0))):
        made = plan(batch_size, family, spectrum, schedule=schedule, target=0.1)
        space = made.search.space
        ends = [(each.low, each.high) for each in space.coordinates]
        highest = 0.0
        for corner in itertools.product(*ends):
            names = (each.name for each in space.coordinates)
            values = space.values(dict(zip(names, corner, strict=True)))
            optimizer = parts_of_run(made.problem, made.recipes, made.definition, values)[0]
            assert isinstance(optimizer, nqm.SGD)
            share = optimizer.learning_rate / largest_peak(made.problem, optimizer)
            highest = max(highest, share)
        assert highest == pytest.approx(1.0, rel=1e-9)


def test_a_user_may_search_higher_rates_of_a_schedule() -> None:
    given = {"learning_rate": Range(1e-3, 5.0)}
    made = plan(64.0, "sgd", schedule="linear", hyperparameters=given)
    assert made.search.space.values(
        {each.name: each.high for each in made.search.space.coordinates}
    )["learning_rate"] == pytest.approx(5.0)
    for family in ("sgd", "momentum"):
        asked = plan(64.0, family, schedule="linear", enqueue=[{"learning_rate": 4.5}])
        first = asked.search.space.values(asked.search.starts[0])
        assert first["learning_rate"] == pytest.approx(4.5)


def test_a_study_counts_runs_that_rise_as_diverged_unless_told_otherwise() -> None:
    problem = nqm.NoisyQuadratic(SMALL, 1024)
    given = {"learning_rate": 2.22, "final_fraction": 0.0}
    status = {
        growth: nqm.run_study(
            problem, "sgd", schedule="linear", hyperparameters=given, n_trials=1, max_growth=growth
        )
        .trials[0]
        .user_attrs["status"]
        for growth in (1000.0, None)
    }
    assert status == {1000.0: "diverged", None: "reached"}
    bench = nqm.Benchmark("sgd", 1024, spectrum=SMALL, schedule="linear")
    assert bench._plan.definition.max_growth == 1000.0


def test_no_warm_start_leaves_the_first_trial_to_the_sampler() -> None:
    assert plan(64.0, "momentum", warm_start=False).search.starts == ()
    assert len(plan(64.0, "momentum").search.starts) == 1
    # A grid is a grid.
    assert plan(64.0, "momentum", sampler="grid").search.starts == ()


def test_enqueued_values_come_first_as_they_were_typed() -> None:
    given = [{"learning_rate": 0.05, "momentum": 0.8}, {"momentum": 0.9}]
    problem = nqm.NoisyQuadratic(SMALL, 256)
    study = nqm.run_study(problem, "momentum", target=0.1, n_trials=4, enqueue=given)
    first, second, third, _ = (trial.user_attrs["hyperparameters"] for trial in study.trials)
    assert first == pytest.approx({"learning_rate": 0.05, "momentum": 0.8})
    assert second["momentum"] == pytest.approx(0.9)
    # What is left out is as the rule has it.
    assert second["learning_rate"] == pytest.approx(third["learning_rate"], rel=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"learning_rate": 50.0},
            r"study\.enqueue\.learning_rate=50: must be in the range that is",
        ),
        ({"beta1": 0.9}, r"study\.enqueue\.beta1=0\.9: must be one of what is searched, learning"),
        ({"momentum": -0.5}, r"study\.enqueue\.momentum=-0\.5: must be"),
        ({"momentum": 1.0}, r"study\.enqueue\.momentum=1: must be"),
        ({}, r"enqueue.0={}: must be values by name"),
        ({"momentum": math.nan}, r"enqueue\.0\.momentum=nan: must be"),
    ],
)
def test_what_cannot_be_enqueued_is_refused(given: Mapping[str, float], message: str) -> None:
    bounds = {"learning_rate": Range(1e-4, 1.0)}
    with pytest.raises(ValueError, match=f"^{message}"):
        plan(256.0, "momentum", hyperparameters=bounds, enqueue=[given])


def test_a_grid_has_no_enqueued_trials() -> None:
    with pytest.raises(ValueError, match=r"^study\.enqueue: must be empty with sampler=grid"):
        plan(64.0, "sgd", sampler="grid", enqueue=[{"learning_rate": 0.1}])


def test_every_configuration_of_a_sampler_can_be_named() -> None:
    alone = plan(64.0, "sgd", sampler="tpe_alone").definition
    assert alone.sampler["finish"] == 0.0
    assert plan(64.0, "sgd").definition.sampler["finish"] > 0.0


@pytest.mark.parametrize(
    ("family", "name", "given", "message"),
    [
        (
            "sgd",
            "learning_rate",
            Range(None, None, "linear"),
            r"optimizer\.learning_rate\.scale=l",
        ),
        ("momentum", "momentum", Range(None, None, "log"), r"optimizer\.momentum\.scale=log: must"),
        (
            "adam_full",
            "eps",
            Range(None, 1e-3, "log"),
            r"optimizer\.eps\.low=null: m",
        ),
    ],
)
def test_what_cannot_be_fitted_is_refused(
    family: str, name: str, given: Range, message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        plan(64.0, family, hyperparameters={name: given})


def test_what_ends_by_itself_is_at_no_edge() -> None:
    space = plan(16384.0, "momentum", schedule="warmup_stable_decay").search.space
    first = space.values(plan(16384.0, "momentum", schedule="warmup_stable_decay").search.starts[0])
    assert space.at_edge({**first, "decay_fraction": 1.0}) == ()
    (told,) = space.at_edge({**first, "decay_fraction": 0.01})
    assert told == "decay_fraction 0.01, the low end of its range"
    adam = plan(64.0, "adam_full").search.space
    middle = {"learning_rate": 0.005, "beta2": 0.99, "eps": 1e-8}
    assert adam.at_edge({**middle, "beta1": 0.0}) == ()
    assert len(adam.at_edge({**middle, "beta1": 0.999})) == 1


def test_a_half_life_is_judged_by_the_beta2_that_is_searched() -> None:
    given = {"beta2_policy": "half_life", "beta2_batch_size": 256.0}
    problem = nqm.NoisyQuadratic(SMALL, 4)
    enqueued = [{"beta1": 0.9, "beta2": 0.9995}]
    study = nqm.run_study(
        problem, "adam_full", target=0.1, n_trials=1, hyperparameters=given, enqueue=enqueued
    )
    record = study_record(study)
    assert record.best is not None
    assert record.best.hyperparameters["beta2"] > 0.99999
    assert record.at_edge == ()


def test_a_best_trial_at_the_end_of_a_range_is_told() -> None:
    problem = nqm.NoisyQuadratic(SMALL, 16)
    narrow = {"learning_rate": Range(1e-4, 1e-3)}
    record = study_record(
        nqm.run_study(problem, "sgd", target=0.1, n_trials=30, hyperparameters=narrow)
    )
    assert record.at_edge == ("learning_rate 0.001, the high end of its range",)
    assert study_record(nqm.run_study(problem, "sgd", target=0.1, n_trials=30)).at_edge == ()


def test_a_benchmark_is_an_objective_with_a_known_optimum() -> None:
    benchmark = nqm.Benchmark("momentum", 64, spectrum=SMALL, target=0.1)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(benchmark, n_trials=30)
    regret = benchmark.regret(study)
    assert regret.shape == (30,)
    assert all(later <= earlier for earlier, later in itertools.pairwise(regret))
    assert regret[-1] >= 0.0
    assert benchmark.optimum is not None
    tuned = nqm.tuned(benchmark.problem, "momentum", target=0.1)
    assert benchmark.optimum.steps == tuned.steps
    fewest = min(t.user_attrs["steps"] for t in study.trials if t.user_attrs["steps"] is not None)
    assert regret[-1] == pytest.approx(fewest / tuned.steps - 1.0)
    assert study.best_value == fewest
    assert set(study.best_params) == {"learning_rate", "momentum"}
    assert benchmark.space.distributions == study.best_trial.distributions


@pytest.mark.parametrize(
    "nothing", [{"schedule": "optimal"}, {"hyperparameters": {"learning_rate": 0.5}}]
)
def test_a_benchmark_without_a_search_is_refused(nothing: Mapping[str, object]) -> None:
    with pytest.raises(ValueError, match="must leave something to search"):
        nqm.Benchmark("sgd", 64, spectrum=SMALL, target=0.1, **nothing)  # type: ignore[arg-type]


def test_the_optimum_is_kept_with_the_study_and_told_from_the_best() -> None:
    problem = nqm.NoisyQuadratic(SMALL, 64)
    record = study_record(nqm.run_study(problem, "momentum", target=0.1, n_trials=5, truth=True))
    tuned = nqm.tuned(problem, "momentum", target=0.1)
    assert record.optimum is not None
    assert record.optimum.exact
    assert record.optimum.steps == tuned.steps
    assert record.best is not None
    assert record.best.steps is not None
    assert record.excess == pytest.approx(record.best.steps / record.optimum.steps - 1.0)
    assert study_record(nqm.run_study(problem, "momentum", target=0.1, n_trials=5)).optimum is None


@pytest.mark.parametrize(
    ("family", "schedule", "quick"), [("adam", "constant", False), ("sgd", "linear", True)]
)
def test_optima_that_take_long_are_computed_when_all_are_asked_for(
    family: str, schedule: str, quick: bool
) -> None:
    problem = nqm.NoisyQuadratic(nqm.power_law(100), 16)
    for truth, known in ((True, quick), ("all", True)):
        study = nqm.run_study(
            problem, family, target=0.1, n_trials=25, schedule=schedule, truth=truth
        )
        record = study_record(study)
        assert (record.optimum is not None) == known
    assert record.optimum is not None
    assert not record.optimum.exact
    assert record.excess is not None
    # Neither search is exact, and of some tens of steps one is some percent.
    assert abs(record.excess) < 0.05


def test_a_fixed_momentum_has_an_optimum_of_its_own() -> None:
    problem = nqm.NoisyQuadratic(SMALL, 64)
    study = nqm.run_study(
        problem, "momentum", target=0.1, n_trials=3, hyperparameters={"momentum": 0.5}, truth=True
    )
    optimum = study_record(study).optimum
    assert optimum is not None
    assert optimum.hyperparameters["momentum"] == 0.5
    assert optimum.steps == nqm.tuned(problem, "momentum", target=0.1, momentum=0.5).steps
