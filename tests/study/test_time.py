"""The time of a trial, against that of its steps one by one; what else a run of batches costs."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest
from composing import composed
from hydra import initialize_config_dir

import nqm_study as nqm
from nqm_study.app.worker import open_planned, run_planned
from nqm_study.config.plan import StudyPlan, python_plan, study_plan
from nqm_study.optimum.study import wanted
from nqm_study.study.evaluation import evaluation
from nqm_study.study.options import conf_dir
from nqm_study.study.storage.studies import check_units, study_record
from nqm_study.study.training import lacking
from nqm_study.study.trials import Evaluation

SPECTRUM = nqm.power_law(50)
MACHINE = {"hardware_batch_size": 32.0, "hardware_exponent": 0.6}
SEARCHED = (
    *("spectrum.dim=50", "target=0.2", "study.n_trials=40", "tracking=none"),
    *("study.hardware_batch_size=32", "study.hardware_exponent=0.6"),
    "batch_size={low: 1, high: 1024, scale: log}",
)
SIZES = [2**k for k in range(11)]


def plan_of(
    batch_size: float = 16,
    family: str = "sgd",
    given: Mapping[str, Any] | None = None,
    **options: Any,
) -> StudyPlan:
    problem = nqm.NoisyQuadratic(SPECTRUM, batch_size)
    options = {"target": 0.2, "objective": "time", **MACHINE, **options}
    return python_plan(problem, family, hyperparameters=given, **options)


def found(plan: StudyPlan, **values: Any) -> Evaluation:
    return evaluation(plan.problem, plan.recipes, plan.definition)(values)


def time_of(sizes: Any) -> float:
    return float(np.sum(np.maximum(1.0, np.asarray(sizes, dtype=float) / 32.0) ** 0.6))


@pytest.mark.parametrize("size", [1, 31, 32, 33, 4096])
@pytest.mark.parametrize("family", ["sgd", "adam"])
def test_the_time_of_one_batch_size_is_steps_times_that_of_a_step(size: int, family: str) -> None:
    plan = plan_of(size, family)
    result = found(plan, learning_rate=0.02, **plan.definition.given)
    steps = result.crossing.steps
    assert steps is not None
    assert result.time == pytest.approx(time_of([size] * steps), rel=1e-12)
    assert result.examples is None


@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize(
    ("name", "given", "batches"),
    [
        ("ramp", {"batch_end": 40.0, "batch_power": 2.0}, nqm.BatchRamp(end=40.0, power=2.0)),
        ("steps", {"batch_growth": 3.0, "batch_stages": 4}, nqm.BatchSteps(growth=3.0, stages=4)),
    ],
)
def test_the_time_of_changing_batches_is_the_sum_over_the_steps(
    name: str, given: Mapping[str, Any], batches: Any, *, integer: bool
) -> None:
    plan = plan_of(17.3, batch_schedule=name, given={"batch_integer": integer})
    fixed = {n: v for n, v in plan.definition.given.items() if n not in given}
    result = found(plan, **{**fixed, "learning_rate": 0.1, **given})
    steps = result.crossing.steps
    assert steps is not None
    sizes = nqm.batch_sizes(replace(batches, integer=integer), steps, 17.3)
    assert result.time == pytest.approx(time_of(sizes), rel=1e-12)
    assert result.time > steps
    assert result.examples == pytest.approx(sizes.sum(), rel=1e-12)
    assert integer == (result.examples != pytest.approx(17.3 * steps, rel=1e-9))


@pytest.mark.parametrize("schedule", ["optimal", "greedy"])
def test_a_computed_schedule_takes_time_as_well(schedule: str) -> None:
    result = found(plan_of(128, schedule=schedule))
    assert result.crossing.steps is not None
    assert result.time == pytest.approx(result.crossing.steps * 4.0**0.6)


def run(plan: StudyPlan) -> optuna.Study:
    stored = open_planned(plan, optuna.storages.InMemoryStorage())
    run_planned(plan, stored)
    return stored


def test_the_value_of_a_trial_is_its_time_and_the_best_has_the_least() -> None:
    plan = plan_of(18, batch_schedule="ramp", n_trials=12)
    stored = run(plan)
    record = study_record(stored)
    for trial, value in zip(record.trials, (each.value for each in stored.trials), strict=True):
        if trial.steps is None:
            assert (value, trial.time) == (math.inf, None)
            continue
        assert value == trial.time == trial.cost
        assert trial.steps <= trial.time
        assert trial.examples_at(18) == pytest.approx(18 * trial.steps)
    assert record.best is not None
    assert record.best.time == min(t.time for t in record.trials if t.time is not None)
    assert record.best.time == stored.best_value
    check_units(stored, 1000)  # its values are no earlier version's


def test_a_batch_size_that_is_searched_for_time_comes_to_the_fastest() -> None:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        plan = study_plan(composed("study.objective=time", *SEARCHED))
    stored = run(plan)
    record = study_record(stored)
    best = record.best
    assert best is not None
    assert best.time is not None
    assert stored.best_value == best.time
    fewest = {
        size: nqm.tuned(nqm.NoisyQuadratic(SPECTRUM, size), "sgd", target=0.2).steps
        for size in SIZES
    }
    least = min(steps * max(1.0, size / 32.0) ** 0.6 for size, steps in fewest.items() if steps)
    assert best.time < 1.05 * least
    assert best.time == pytest.approx(best.steps * max(1.0, best.batch_size / 32.0) ** 0.6)
    assert lacking(record) is None


def test_optima_are_of_time_where_all_steps_take_the_same() -> None:
    for plan, known in (
        (plan_of(), True),
        (plan_of(batch_schedule="ramp"), False),
        (plan_of(batch_schedule="ramp", objective="steps"), True),
    ):
        assert wanted(True, plan.recipes, plan.definition) is known
