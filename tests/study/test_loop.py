"""The loop ends with exactly its budget, repeats nothing, and resumes as if never interrupted."""

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from studies import PROBLEM, SAMPLERS, definition, journal, run_in

import nqm_study as nqm
from nqm_study.model.numerics.refine import TOLERANCE
from nqm_study.model.outcome import Crossing
from nqm_study.study.records import SMALL_RISK_ERROR, StudyRecord, TrialRecord, largest_risk_error
from nqm_study.study.space import SearchSpace
from nqm_study.study.storage.studies import StudyMismatchError, study_record
from nqm_study.study.trials import Evaluation, OnTrial, ranking, trial_records

NOON = datetime(2025, 1, 1, 12)  # without a zone, as Optuna gives them


def collect(found: list[TrialRecord]) -> OnTrial:
    return lambda trial, _: found.append(trial)


def points(study: object) -> list[tuple[float, ...]]:
    return [tuple(t.hyperparameters.values()) for t in trial_records(study.get_trials())]  # type: ignore[attr-defined]


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_a_resumed_study_has_the_trials_of_an_unbroken_one(tmp_path: Path, sampler: str) -> None:
    what = definition(sampler)
    unbroken = run_in(journal(tmp_path / "a"), what, 14)
    for n_trials in (1, 6, 13, 14):
        resumed = run_in(journal(tmp_path / "b"), what, n_trials)
    assert points(resumed) == points(unbroken)
    assert len(set(points(resumed))) == 14, "a point was proposed twice"


def test_the_budget_is_a_total_over_calls(tmp_path: Path) -> None:
    storage, new = journal(tmp_path), []
    for n_trials, expected in ((5, 5), (5, 0), (8, 3), (2, 0)):
        new.clear()
        study = run_in(storage, definition(), n_trials, collect(new))
        assert len(new) == expected
    states = [trial.state for trial in study.get_trials()]
    assert states == [TrialState.COMPLETE] * 8


def test_each_trial_is_in_storage_before_anyone_is_told(tmp_path: Path) -> None:
    storage, seen = journal(tmp_path), []

    def look(trial: object, _: int) -> None:
        stored = study_record(run_in(journal(tmp_path), definition(), 0)).trials
        seen.append((trial, stored[-1]))

    run_in(storage, definition(), 4, look)
    assert [told for told, _ in seen] == [stored for _, stored in seen]


def test_an_interruption_loses_nothing_that_was_finished(tmp_path: Path) -> None:
    def interrupt(trial: object, _: int) -> None:
        if trial.number == 3:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    storage = journal(tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        run_in(storage, definition(), 10, interrupt)
    broken = run_in(journal(tmp_path / "a"), definition(), 10)
    assert points(broken) == points(run_in(journal(tmp_path / "b"), definition(), 10))


def test_seeds_make_different_trials(tmp_path: Path) -> None:
    first = run_in(journal(tmp_path / "a"), definition(seed=1), 3)
    second = run_in(journal(tmp_path / "b"), definition(seed=2), 3)
    assert not set(points(first)) & set(points(second))


def test_a_trial_records_what_the_model_says(tmp_path: Path) -> None:
    study = run_in(journal(tmp_path), definition(), 12)
    for trial, frozen in zip(study_record(study).trials, study.get_trials(), strict=True):
        crossing = nqm.steps_to_target(
            PROBLEM, nqm.SGD(**trial.hyperparameters), target=0.2, max_steps=10**6
        )
        assert (trial.steps, trial.status, trial.risk) == (
            crossing.steps,
            crossing.status,
            crossing.risk,
        )
        assert frozen.constraints == {"not_reached": 0.0 if trial.steps is not None else 1.0}
        assert frozen.datetime_start <= frozen.datetime_complete


def test_the_penalty_is_worse_than_any_number_of_steps_and_points_the_right_way() -> None:
    (most,) = ranking([1e6], 0.01, 0.01, 10**6)
    missed = [ranking([math.inf], risk, 0.01, 10**6) for risk in (0.011, 4.0, math.inf)]
    near, far, overflow = (value for (value,) in missed)
    assert most == pytest.approx(math.log(1e6))
    assert most < near < far < overflow < math.inf
    assert ranking([math.inf, math.inf], 4.0, 0.01, 10**6) == (far, far)


def test_what_is_stored_are_the_steps_and_what_a_user_would_type(tmp_path: Path) -> None:
    study = run_in(journal(tmp_path), definition(), 12)
    record = study_record(study)
    reached = [trial for trial in record.trials if trial.steps is not None]
    assert 0 < len(reached) < 12
    for trial, frozen in zip(record.trials, study.get_trials(), strict=True):
        assert frozen.value == (math.inf if trial.steps is None else trial.steps)
        assert frozen.params == trial.hyperparameters
        assert set(frozen.params) == {"learning_rate", "momentum"}
        assert frozen.distributions == SearchSpace.of(definition().hyperparameters).distributions
    assert record.best is min(reached, key=lambda trial: (trial.steps, trial.number))
    assert study.best_value == record.best.steps
    assert study.best_params == record.best.hyperparameters


def test_random_state_elsewhere_changes_nothing(tmp_path: Path) -> None:
    np.random.seed(1)  # noqa: NPY002 (the global state is what is tested)
    first = points(run_in(journal(tmp_path / "a"), definition(), 8))
    np.random.seed(2)  # noqa: NPY002
    assert points(run_in(journal(tmp_path / "b"), definition(), 8)) == first


def test_an_unknown_sampler_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    what = replace(definition(), sampler={"name": "annealing"})
    with pytest.raises(ValueError, match=r"annealing: must be one of tpe, gp, cmaes"):
        run_in(journal(tmp_path), what, 1)


def test_the_error_of_the_risk_is_stored_with_each_trial(tmp_path: Path) -> None:
    new: list[TrialRecord] = []
    record = study_record(run_in(journal(tmp_path), definition(), 6, collect(new)))
    for trial in (*record.trials, *new):
        crossing = nqm.steps_to_target(
            PROBLEM, nqm.SGD(**trial.hyperparameters), target=0.2, max_steps=10**6
        )
        assert trial.risk_error is not None
        assert trial.risk_error == crossing.error
    assert len(new) == 6
    assert SMALL_RISK_ERROR == TOLERANCE


@pytest.mark.parametrize("missing", ["hyperparameters", "steps", "status", "risk", "risk_error"])
def test_a_study_whose_trials_lack_what_is_always_stored_is_refused(
    tmp_path: Path, missing: str
) -> None:
    unbroken = run_in(journal(tmp_path / "a"), definition(), 2)
    study = run_in(journal(tmp_path / "b"), definition(), 0)
    for trial in unbroken.get_trials():
        trial.user_attrs = {k: v for k, v in trial.user_attrs.items() if k != missing}
        study.add_trial(trial)
    refusal = rf"^study.name=study: .*it has no '{missing}'.*delete the study$"
    with pytest.raises(StudyMismatchError, match=refusal):
        study_record(study)


def test_the_error_of_a_study_is_the_largest_that_decided_a_count() -> None:
    found = [(3, 1e-12), (4, None), (5, 3e-8), (None, 1.0)]
    trials = [
        TrialRecord(i, {}, steps, "", 0.1, NOON, NOON, error)
        for i, (steps, error) in enumerate(found)
    ]
    assert largest_risk_error(trials) == 3e-8
    assert largest_risk_error(trials[1:2]) is None


@pytest.mark.parametrize(
    ("schedule", "error", "told"),
    [
        ("constant", 3e-8, 3e-8),
        ("constant", 1e-10, None),
        ("constant", None, None),
        ("optimal", 3e-8, 3e-8),
        # Extrapolated, so that this is nothing unusual.
        ("cosine", 3e-8, None),
        ("cosine", 1e-5, 1e-5),
        ("constant, batch ramp", 3e-8, None),
        ("constant, batch ramp", 1e-5, 1e-5),
    ],
)
def test_an_error_is_told_where_it_is_larger_than_meant(
    schedule: str, error: float | None, told: float | None
) -> None:
    trial = TrialRecord(0, {}, 3, "", 0.1, NOON, NOON, error)
    name, _, batches = schedule.partition(", batch ")
    made = replace(definition(), schedule=name, batch_schedule=batches)
    assert StudyRecord("study", made, 1, 1.0, (trial,)).told_risk_error == told


@pytest.mark.parametrize(("error", "told"), [(0.05, 0.05), (0.02, None), (None, None)])
def test_of_adam_the_error_is_that_of_the_best_trial_and_told_from_3_percent_on(
    error: float | None, told: float | None
) -> None:
    made = replace(definition(), hyperparameters={"learning_rate": 0.1, "beta2": 0.9})
    found = [(30, 0.5), (12, error), (None, 1.0)]
    trials = tuple(
        TrialRecord(i, {}, steps, "", 0.1, NOON, NOON, each)
        for i, (steps, each) in enumerate(found)
    )
    record = StudyRecord("study", made, 1, 1.0, trials)
    assert (record.risk_error, record.told_risk_error) == (error, told)


def test_where_batch_sizes_change_the_error_is_that_of_the_best_trial() -> None:
    made = replace(definition(), batch_schedule="optimal")
    trials = tuple(
        TrialRecord(i, {}, steps, "", 0.1, NOON, NOON, each)
        for i, (steps, each) in enumerate([(30, 2.0), (12, 3e-11), (None, 1.0)])
    )
    record = StudyRecord("study", made, 1, 1.0, trials)
    assert (record.risk_error, record.told_risk_error) == (3e-11, None)


def test_a_sampled_trial_is_stored_as_one(tmp_path: Path) -> None:
    def computed(values: Mapping[str, float]) -> Evaluation:
        sampled = values["learning_rate"] > 0.1
        return Evaluation(Crossing(9, "reached", 0.1, 0.01, sampled=sampled))

    new: list[TrialRecord] = []
    stored = study_record(
        run_in(journal(tmp_path), definition(), 12, collect(new), computed)
    ).trials
    assert tuple(new) == stored
    assert {trial.sampled for trial in stored} == {True, False}
    for trial in stored:
        assert trial.sampled == (trial.hyperparameters["learning_rate"] > 0.1)


def test_what_an_evaluation_found_itself_is_stored_with_the_trial(tmp_path: Path) -> None:
    def computed(values: Mapping[str, float]) -> Evaluation:
        rates = ((0, 0.5), (7, 0.25)) if values["learning_rate"] > 0.1 else ()
        return Evaluation(Crossing(9, "reached", 0.1), {"learning_rate": 0.5}, rates)

    new: list[TrialRecord] = []
    study = run_in(journal(tmp_path), definition(), 12, collect(new), computed)
    stored = study_record(study).trials
    assert tuple(new) == stored
    assert {trial.rates for trial in stored} == {(), ((0, 0.5), (7, 0.25))}
    for trial, frozen in zip(stored, study.get_trials(), strict=True):
        assert trial.hyperparameters["learning_rate"] == 0.5
        assert trial.hyperparameters["momentum"] == frozen.params["momentum"]
        assert ("rates" in frozen.user_attrs) == bool(trial.rates)


def test_the_cost_of_all_trials_is_there_with_the_last_one(tmp_path: Path) -> None:
    storage, seen = journal(tmp_path), []

    def look(_: TrialRecord, done: int) -> None:
        record = study_record(optuna.load_study(study_name="study", storage=journal(tmp_path)))
        seen.append((done, record.cost.trials))

    run_in(storage, definition(), 3, look)
    assert seen == [(1, 0), (2, 0), (3, 3)]
    cost = study_record(run_in(storage, definition(), 5)).cost
    assert cost.trials == 5
    assert set(cost.milliseconds) == {"sampler", "objective", "storage"}
    assert min(cost.milliseconds.values()) > 0


def test_an_interrupted_study_keeps_the_cost_of_what_it_did(tmp_path: Path) -> None:
    def interrupt(_: TrialRecord, done: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    storage = journal(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_in(storage, definition(), 4, interrupt)
    assert study_record(run_in(storage, definition(), 0)).cost.trials == 2
    assert study_record(run_in(storage, definition(), 4)).cost.trials == 4
