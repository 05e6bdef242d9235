"""The run of a study's best trial is stored with it, whatever the optimizer and the schedule."""

import contextlib
import logging
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from studies import PROBLEM, journal

import nqm_study as nqm
from nqm_study.study import training as subject
from nqm_study.study.recipes import CONSTANT, Recipe, Recipes
from nqm_study.study.records import StudyRecord
from nqm_study.study.storage.studies import study_record

TRAINING = "nqm_study.training"
FIXED = {"target": 0.2, "n_trials": 1, "warm_start": False}


def record_of(family: str, **given: object) -> StudyRecord:
    values = {"target": 0.2, "n_trials": 4, **given}
    return study_record(nqm.run_study(PROBLEM, family, **values))  # type: ignore[arg-type]


@pytest.mark.parametrize("family", ["sgd", "momentum", "ema", "adam"])
def test_it_is_the_best_trials_run_to_twice_the_steps(family: str) -> None:
    record = record_of(family)
    run, best = record.training, record.best
    assert run is not None
    assert best is not None
    assert best.steps is not None
    assert run.trial == best.number
    assert (run.steps[0], run.steps[1], run.steps[-1]) == (0, 1, 2 * best.steps)
    assert 10 < len(run.steps) <= 62
    assert list(run.steps) == sorted(set(run.steps))
    made = nqm.Adam if family == "adam" else nqm.SGD
    optimizer = made(**best.hyperparameters)
    risks = nqm.risk_curve(PROBLEM, optimizer, steps=run.steps)
    np.testing.assert_allclose(run.risks, risks, rtol=1e-5)
    scales = nqm.gradient_noise_scale(PROBLEM, optimizer, steps=run.steps)
    np.testing.assert_allclose(run.noise_scales, scales, rtol=1e-5)
    if family != "adam":  # whose closure may be off, so that its steps were sampled
        at = run.steps.index(best.steps)
        assert run.risks[at] <= 0.2 < run.risks[at - 1]


@pytest.mark.parametrize("schedule", ["cosine", "one_cycle", "piecewise_constant", "optimal"])
def test_under_a_schedule_it_ends_with_the_run_at_the_target(schedule: str) -> None:
    record = record_of("momentum", schedule=schedule)
    run, best = record.training, record.best
    assert run is not None
    assert best is not None
    assert run.steps[-1] == best.steps
    assert run.risks[0] == pytest.approx(record.initial_risk)
    assert run.risks[-1] == pytest.approx(best.risk, rel=1e-5)
    assert run.risks[-1] <= 0.2 * (1 + 1e-5)


@pytest.mark.parametrize(("batch_size", "power"), [(4, 0.0), (4, 0.5), (2**20, 0.0)])
def test_a_greedy_run_is_computed_again_step_by_step(batch_size: float, power: float) -> None:
    # At the large batch its rates go up and down from step to step, and few of them are stored.
    problem = nqm.NoisyQuadratic(nqm.power_law(200), batch_size)
    fixed = {"preconditioner_power": power}
    study = nqm.run_study(problem, "sgd", schedule="greedy", target=0.01, hyperparameters=fixed)
    record = study_record(study)
    run, best = record.training, record.best
    assert run is not None
    assert best is not None
    assert best.steps is not None
    assert best.steps > len(best.rates)
    assert run.steps[-1] == best.steps
    assert run.risks[-1] == pytest.approx(best.risk, rel=1e-7)
    assert np.all(np.diff(run.risks) < 0.0)
    # The first step, as the formula has it, on every mode.
    h = problem.spectrum.curvature
    k = h ** (1.0 - power)
    noise = h ** (1.0 - 2.0 * power) * problem.spectrum.noise / batch_size
    rate = np.sum(h * k) / np.sum(h * k**2 + noise)
    assert best.rates[0][1] == pytest.approx(rate)
    moment = (1.0 - rate * k) ** 2 + rate**2 * noise / h
    assert run.risks[1] == pytest.approx(0.5 * np.sum(h * moment))
    assert run.noise_scales[0] == pytest.approx(np.sum(h) / np.sum(h**2))
    assert run.noise_scales[1] == pytest.approx(np.sum(h) / np.sum(h**2 * moment))


def test_a_beta2_made_by_a_policy_is_taken_as_it_was_used() -> None:
    settings = {"beta2_policy": "half_life", "beta2_batch_size": 4.0, "beta2": 0.99}
    record = record_of("adam", hyperparameters=settings, n_trials=2)
    run, best = record.training, record.best
    assert run is not None
    assert best is not None
    assert best.hyperparameters["beta2"] == pytest.approx(0.99**4)
    risks = nqm.risk_curve(PROBLEM, nqm.Adam(**best.hyperparameters), steps=run.steps)
    np.testing.assert_allclose(run.risks, risks, rtol=1e-9)


def test_rounded_batch_sizes_say_what_they_cost() -> None:
    given = {"batch_power": 2.0, "batch_end": 30.0, "batch_integer": True}
    record = record_of("sgd", batch_schedule="ramp", hyperparameters=given)
    run, best = record.training, record.best
    assert run is not None
    assert best is not None
    real = nqm.BatchRamp(end=30.0, power=2.0)
    rate = nqm.SGD(best.hyperparameters["learning_rate"])
    for batches, steps in ((replace(real, integer=True), best.steps), (real, run.unrounded_steps)):
        found = nqm.steps_to_target(PROBLEM, rate, target=0.2, batch_schedule=batches)
        assert found.steps == steps
    assert record_of("sgd", batch_schedule="ramp").training.unrounded_steps is None


def test_where_the_target_is_missed_it_is_the_least_risk_down_to_its_floor() -> None:
    problem = nqm.NoisyQuadratic(nqm.power_law(50), 1)
    space = {"learning_rate": {"low": 0.5, "high": 1.9, "scale": "log"}}
    study = nqm.run_study(problem, "sgd", target=1e-3, n_trials=5, hyperparameters=space)
    record = study_record(study)
    run = record.training
    assert record.best is None
    assert run is not None
    assert run.trial == min(record.trials, key=lambda trial: trial.risk).number
    # Its slowest mode has a time of 1 / (2 lr h) steps.
    rate = record.trials[run.trial].hyperparameters["learning_rate"]
    assert 50 / rate < run.steps[-1] < 2000 / rate
    floor = nqm.risk_curve(problem, nqm.SGD(rate), steps=[10**6])
    assert run.risks[-1] == pytest.approx(floor[0], rel=0.02)


def test_a_run_too_slow_for_its_steps_is_shown_to_the_last_one() -> None:
    slow = {"learning_rate": 1e-9}
    run = record_of("sgd", hyperparameters=slow, **FIXED).training
    assert run is not None
    assert run.steps[-1] == subject.MOST_UNREACHED


def test_a_run_that_diverges_at_once_is_not_shown() -> None:
    assert record_of("sgd", hyperparameters={"learning_rate": 3.0}, **FIXED).training is None


def test_without_an_optimal_schedule_there_is_no_run(caplog: pytest.LogCaptureFixture) -> None:
    fixed = {"momentum": 0.0, "preconditioner_power": 0.0}
    still = nqm.NoisyQuadratic(nqm.Spectrum([1.0, 1e-12], 0.0, [1.0, 1e12]), 1)
    study = nqm.run_study(still, "sgd", schedule="optimal", hyperparameters=fixed, target=1e-3)
    record = study_record(study)
    assert record.best is None
    assert len(record.trials) == 1
    assert record.training is None
    assert "no training curve" not in caplog.text


def test_a_run_that_diverges_later_is_cut_before() -> None:
    # The steep mode starts at nothing, and grows by noise alone.
    spectrum = nqm.Spectrum([1.0, 0.01], [1e-12, 0.0], [1.0, 100.0], initial_variance=[0.0, 1.0])
    problem = nqm.NoisyQuadratic(spectrum, 1)
    given = {**FIXED, "target": 1e-3, "hyperparameters": {"learning_rate": 2.2}}
    record = study_record(nqm.run_study(problem, "sgd", **given))
    (trial,) = record.trials
    run = record.training
    assert trial.status == "diverged"
    assert run is not None
    assert min(run.risks) < 0.6 * record.initial_risk
    assert max(run.risks) <= 1e3 * record.initial_risk
    assert 10 < run.steps[-1] < 10**4


def test_a_gradient_of_zero_has_an_infinite_noise_scale_in_storage_too(tmp_path: Path) -> None:
    storage = journal(tmp_path)
    spectrum = nqm.Spectrum([1.0], [1.0])
    problem = nqm.NoisyQuadratic(spectrum, 1)
    study = nqm.run_study(
        problem, "sgd", hyperparameters={"learning_rate": 0.1}, storage=storage, **FIXED
    )
    record = study_record(study)
    assert record.training is not None
    study.set_user_attr(
        TRAINING, {"trial": 0, "steps": [0], "risks": [0.0], "noise_scales": [None]}
    )
    (reread,) = [study_record(optuna.load_study(study_name=study.study_name, storage=storage))]
    assert reread.training is not None
    assert reread.training.noise_scales == (math.inf,)


def test_it_follows_the_best_trial_and_is_made_up_for_where_it_is_missing(tmp_path: Path) -> None:
    storage = journal(tmp_path)

    def run(n_trials: int) -> StudyRecord:
        study = nqm.run_study(
            PROBLEM, "momentum", target=0.2, n_trials=n_trials, storage=storage, sampler="random",
            warm_start=False,
        )  # fmt: skip
        return study_record(study)

    best = []
    for n_trials in (1, 10, 30, 30):
        record = run(n_trials)
        assert record.training is not None
        assert record.best is None or record.training.trial == record.best.number
        best.append(record.training)
    assert len({each.trial for each in best}) > 1, "the best trial never changed"
    optuna.load_study(study_name=record.name, storage=storage).set_user_attr(TRAINING, {})
    assert study_record(optuna.load_study(study_name=record.name, storage=storage)).training is None
    assert run(30).training == best[-1]


def test_a_call_without_new_trials_writes_nothing(tmp_path: Path) -> None:
    storage = journal(tmp_path)
    for _ in range(2):
        nqm.run_study(PROBLEM, "sgd", target=0.2, n_trials=3, storage=storage)
        written = (tmp_path / "optuna.journal").read_text()
        assert written.count(TRAINING) == 1


def test_what_goes_wrong_is_told_and_loses_no_trial(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise FloatingPointError("no such luck")

    monkeypatch.setattr(subject, "risk_curve", fail)
    with caplog.at_level(logging.ERROR):
        record = record_of("sgd")
    assert len(record.trials) == 4
    assert record.training is None
    assert "no training curve was stored" in caplog.text
    assert "no such luck" in caplog.text


def test_it_is_written_while_the_others_wait() -> None:
    study = nqm.run_study(PROBLEM, "sgd", target=0.2, n_trials=2)
    study.set_user_attr(TRAINING, {})
    held = []

    @contextlib.contextmanager
    def turn() -> Iterator[None]:
        held.append(dict(study.user_attrs[TRAINING]))
        yield
        held.append(dict(study.user_attrs[TRAINING]))

    recipes = Recipes(Recipe(nqm.SGD), CONSTANT)
    subject.keep_training(study, PROBLEM, recipes, turn())
    before, after = held
    assert not before
    assert after["steps"][0] == 0


def test_a_run_is_looked_at_ever_closer_on_the_way_to_its_crossing() -> None:
    steps = subject._spread(9000, 9000)
    assert {4500, 6750, 8860, 8998, 9000} <= {*steps.tolist()}
    assert np.all(np.diff(steps) > 0)
    assert steps[0] == 0
