"""The fewest examples of runs of one length: the least batch size that ends at the target."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
import pytest

import nqm_study as nqm
from nqm_study.app.worker import open_planned, run_planned
from nqm_study.config.plan import StudyPlan, python_plan
from nqm_study.optimum.study import wanted
from nqm_study.study.evaluation import evaluation
from nqm_study.study.storage.studies import check_units, study_record
from nqm_study.study.training import lacking
from nqm_study.study.trials import Evaluation

SPECTRUM = nqm.power_law(50)
STEPS, TARGET = 200, 0.2

BATCHES: dict[str, tuple[Mapping[str, Any], Any]] = {
    "constant": ({}, None),
    "ramp": ({"batch_end": 9.0, "batch_power": 2.0}, nqm.BatchRamp(end=9.0, power=2.0)),
    "steps": ({"batch_growth": 3.0, "batch_stages": 3}, nqm.BatchSteps(growth=3.0, stages=3)),
    "coupled": ({"batch_power": 1.0}, nqm.BatchCoupled()),
    "optimal": ({}, nqm.BatchOptimal()),
}


def plan_of(
    family: str = "sgd", given: Mapping[str, Any] | None = None, **options: Any
) -> StudyPlan:
    options = {"target": TARGET, "objective": "examples", "steps": STEPS, **options}
    problem = nqm.NoisyQuadratic(SPECTRUM, 7)
    return python_plan(problem, family, hyperparameters=given, **options)


def found(plan: StudyPlan, **values: Any) -> Evaluation:
    every = {**plan.definition.given, **values}
    return evaluation(plan.problem, plan.recipes, plan.definition)(every)


def last_risk(size: float, optimizer: Any, schedule: Any, batches: Any) -> float:
    problem = nqm.NoisyQuadratic(SPECTRUM, size)
    given = {"steps": [STEPS], "horizon": STEPS, "batch_schedule": batches}
    return float(nqm.risk_curve(problem, optimizer, schedule, **given)[0])


@pytest.mark.parametrize("schedule", ["constant", "linear"])
@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize(
    ("family", "optimizer"),
    [
        ("sgd", nqm.SGD(0.3)),
        ("momentum", nqm.SGD(0.1, momentum=0.6)),
        ("adam", nqm.Adam(0.02)),
    ],
)
def test_the_run_ends_at_the_target(family: str, optimizer: Any, name: str, schedule: str) -> None:
    if (family, name) == ("adam", "optimal"):
        return
    given, batches = BATCHES[name]
    plan = plan_of(family, schedule=schedule, batch_schedule=name)
    values = {"learning_rate": optimizer.learning_rate, **given}
    if family == "momentum":
        values["momentum"] = 0.6
    searched = {n: 0.0 for n in plan.definition.searched if n not in values}
    result = found(plan, **searched, **values)
    size = result.hyperparameters["batch_size"]
    shape = nqm.Linear() if schedule == "linear" else nqm.Constant()
    assert (result.crossing.steps, result.crossing.status) == (STEPS, "reached")
    assert last_risk(size, optimizer, shape, batches) == pytest.approx(TARGET, rel=1e-7)
    assert last_risk(0.99 * size, optimizer, shape, batches) > TARGET
    assert result.examples == pytest.approx(STEPS * size, rel=1e-12)
    assert result.examples >= nqm.bayes_bound(nqm.NoisyQuadratic(SPECTRUM, 1), target=TARGET)


def test_bounds_and_whole_numbers_are_kept() -> None:
    free = found(plan_of(batch_schedule="ramp"), learning_rate=0.3, **BATCHES["ramp"][0])
    size = free.hyperparameters["batch_size"]
    for bound, given in (
        ("high", {"batch_max": 3.0 * size}),
        ("low", {"batch_min": 0.5 * size}),
        ("integer", {"batch_integer": True}),
    ):
        plan = plan_of(given=given, batch_schedule="ramp")
        result = found(plan, learning_rate=0.3, **BATCHES["ramp"][0])
        ramp = nqm.BatchRamp(
            end=9.0, power=2.0, **{name.removeprefix("batch_"): v for name, v in given.items()}
        )
        mean = result.hyperparameters["batch_size"]
        sizes = nqm.batch_sizes(ramp, STEPS, mean)
        assert result.examples == pytest.approx(sizes.sum(), rel=1e-12)
        risk = last_risk(mean, nqm.SGD(0.3), nqm.Constant(), ramp)
        if bound == "integer":
            assert np.all(sizes == np.rint(sizes))
            assert 0.97 * TARGET < risk <= TARGET
        else:
            assert risk == pytest.approx(TARGET, rel=1e-7)
    least = found(
        plan_of(given={"batch_min": 1e4}, batch_schedule="ramp"), learning_rate=0.3,
        **BATCHES["ramp"][0],
    )  # fmt: skip
    assert least.hyperparameters["batch_size"] == 1e4
    small = plan_of(given={"batch_max": 0.5 * size}, batch_schedule="ramp")
    missed = found(small, learning_rate=0.3, **BATCHES["ramp"][0])
    assert (missed.crossing.steps, missed.crossing.status) == (None, "floor_above_target")


@pytest.mark.parametrize(
    ("rate", "status"), [(1e-5, "floor_above_target"), (2.5, "diverged"), (0.3, "reached")]
)
def test_a_rate_may_reach_the_target_with_no_batch_size(rate: float, status: str) -> None:
    result = found(plan_of(), learning_rate=rate)
    assert result.crossing.status == status
    assert (result.examples is None) == (status != "reached")


def test_a_policy_has_the_beta2_of_the_batch_size_that_is_found() -> None:
    policy = {"beta2_policy": "half_life", "beta2_batch_size": 64.0}
    result = found(plan_of("adam", policy), learning_rate=0.02)
    size, beta2 = (result.hyperparameters[name] for name in ("batch_size", "beta2"))
    assert beta2 == pytest.approx(0.999 ** (size / 64.0))
    risk = last_risk(size, nqm.Adam(0.02, beta2=beta2), nqm.Constant(), None)
    assert risk == pytest.approx(TARGET, rel=1e-7)


def test_the_value_of_a_trial_is_its_examples_and_the_search_finds_few() -> None:
    plan = plan_of(n_trials=40)
    stored = open_planned(plan, optuna.storages.InMemoryStorage())
    run_planned(plan, stored)
    record = study_record(stored)
    best = record.best
    assert best is not None
    assert stored.best_value == best.examples == best.cost("examples")
    assert best.examples == pytest.approx(STEPS * best.batch_size)
    assert [t.steps for t in record.trials] == [
        None if math.isinf(each.value or 0.0) else STEPS for each in stored.trials
    ]
    rates = np.linspace(0.02, 1.9, 400).tolist()
    least = min(found(plan, learning_rate=rate).examples or math.inf for rate in rates)
    assert best.examples <= 1.001 * least
    assert lacking(record) is None
    assert not wanted("all", plan.recipes, plan.definition)
    check_units(stored, 1000)
