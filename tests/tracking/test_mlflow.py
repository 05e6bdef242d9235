from __future__ import annotations

import dataclasses
import logging
import math
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, ViewType
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from nqm_study.study.definition import Range, StudyDefinition
from nqm_study.study.records import StudyRecord, TrialRecord
from nqm_study.tracking import layout
from nqm_study.tracking.mirror import VIEW, Mirror
from nqm_study.tracking.process import Summary
from nqm_study.tracking.settings import Tracking
from nqm_study.tracking.store import RunStore

START = datetime(2026, 1, 2, 3, 4, 5)  # without a zone, as Optuna gives them


def make_trial(number: int) -> TrialRecord:
    """Every third trial does not reach the target."""
    reached = number % 3 != 2
    return TrialRecord(
        number=number,
        hyperparameters={"learning_rate": 0.1 / (number + 1), "momentum": 0.9},
        steps=1000 - 10 * number if reached else None,
        status="reached" if reached else "diverged",
        risk=0.0099 if reached else math.inf,
        started=START + timedelta(seconds=number),
        finished=START + timedelta(seconds=number, milliseconds=250),
    )


def make_record(
    n_trials: int, name: str | None = None, *, batch_size: float = 2**20
) -> StudyRecord:
    definition = StudyDefinition(
        optimizer="momentum",
        hyperparameters={"learning_rate": Range(1e-5, 10.0), "momentum": 0.9},
        spectrum="paper",
        spectrum_digest="0123",
        schedule="constant",
        batch_size=batch_size,
        target=0.01,
        seed=3,
        sampler={"name": "tpe", "finish": True},
        max_steps=10**9,
    )
    trials = tuple(make_trial(number) for number in range(n_trials))
    return StudyRecord(name or definition.default_name, definition, 40, 4.9, trials)


@pytest.fixture
def mirror(store: RunStore) -> Mirror:
    return Mirror(dataclasses.replace(store, page_size=7))


def runs_of(mirror: Mirror, kind: str, view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
    store = mirror.store
    found = store.client.search_runs([store.experiment_id], f"tags.kind = '{kind}'", view)
    assert found.token is None
    return sorted(found, key=lambda run: int(run.data.tags.get("optuna.trial_number", 0)))


def the_study(mirror: Mirror) -> Run:
    (study,) = runs_of(mirror, "study")
    return study


def mirror_all(mirror: Mirror, record: StudyRecord) -> None:
    mirror.study(record).finish(record)


def rows(mirror: Mirror, table: str) -> list[tuple[object, ...]]:
    path = mirror.uri.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as connection:
        return sorted(connection.execute(f"SELECT * FROM {table}"), key=repr)  # noqa: S608


def assert_mirrors(mirror: Mirror, record: StudyRecord) -> None:
    """One FINISHED child run for each trial, and nothing else."""
    study = the_study(mirror)
    trials = runs_of(mirror, "trial")
    numbers = [int(run.data.tags["optuna.trial_number"]) for run in trials]
    assert numbers == [trial.number for trial in record.trials]
    assert {run.info.status for run in [*trials, study]} == {"FINISHED"}
    for run, trial in zip(trials, record.trials, strict=True):
        assert run.data.tags["mlflow.parentRunId"] == study.info.run_id
        assert run.data.metrics.get("steps_to_target") == trial.steps
        params = {name: float(value) for name, value in run.data.params.items()}
        assert params == trial.hyperparameters
    assert study.data.metrics["n_trials"] == len(record.trials)
    history = mirror.store.client.get_metric_history(study.info.run_id, "steps_to_target")
    shown = {(metric.step, metric.value) for metric in history}
    assert shown == {(t.number, t.steps) for t in record.trials if t.steps is not None}
    assert len(history) == len(shown)


def half_logged(mirror: Mirror, number: int, name: str, *, metrics: bool) -> str:
    """The trial's run as a kill leaves it, before or after its metrics were written."""
    client = mirror.store.client
    reference = mirror.study(make_record(0, name))
    reference.add([make_trial(number)])
    (whole,) = (
        run
        for run in runs_of(mirror, "trial")
        if run.data.tags["optuna.trial_number"] == str(number)
    )
    left = client.create_run(
        mirror.store.experiment_id,
        start_time=whole.info.start_time,
        tags=whole.data.tags,
        run_name=whole.info.run_name,
    )
    if metrics:
        client.log_batch(
            left.info.run_id,
            metrics=[Metric(k, v, whole.info.end_time, 0) for k, v in whole.data.metrics.items()],
            params=[Param(k, v) for k, v in whole.data.params.items()],
        )
    client.delete_run(whole.info.run_id)
    return str(left.info.run_id)


def test_a_trial_is_a_finished_child_with_its_own_times_tags_params_and_metrics(
    mirror: Mirror,
) -> None:
    record = make_record(0)
    study = mirror.study(record)
    assert the_study(mirror).info.status == "RUNNING"
    study.add([make_trial(1)])
    study.add([make_trial(2)])

    reached, diverged = runs_of(mirror, "trial")
    assert reached.info.status == "FINISHED"
    assert reached.info.start_time == int(make_trial(1).started.timestamp() * 1000)
    assert reached.info.end_time == reached.info.start_time + 250
    tags = {k: v for k, v in reached.data.tags.items() if k != "nqm.digest"}
    assert tags == {
        "kind": "trial",
        "status": "reached",
        "optuna.study_name": record.name,
        "optuna.trial_number": "1",
        "mlflow.parentRunId": study.run_id,
        "mlflow.runName": "trial 1",
    }
    assert reached.data.params == {"learning_rate": "0.05", "momentum": "0.9"}
    assert reached.data.metrics == {"reached": 1.0, "risk": 0.0099, "steps_to_target": 990.0}
    assert diverged.data.tags["status"] == "diverged"
    assert diverged.data.metrics == {"reached": 0.0}  # inf is left out


def by_client(mirror: Mirror) -> Mirror:
    """The mirror as it is where MLflow's tables are not known."""
    return Mirror(dataclasses.replace(mirror.store, embedded=None))


def test_a_trial_costs_three_writing_calls(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    study = by_client(mirror).study(make_record(0))
    calls: list[str] = []
    for name in [name for name in dir(MlflowClient) if not name.startswith("_")]:
        method = getattr(MlflowClient, name)
        if callable(method):

            def counted(*args: object, _name: str = name, _method=method, **kwargs: object):  # type: ignore[no-untyped-def]
                calls.append(_name)
                return _method(*args, **kwargs)

            monkeypatch.setattr(MlflowClient, name, counted)
    study.add([make_trial(0)])
    assert calls == ["create_run", "log_batch", "set_terminated"]


def test_a_study_says_what_is_studied_and_what_was_found(mirror: Mirror) -> None:
    record = make_record(5)
    mirror_all(mirror, record)
    assert_mirrors(mirror, record)
    study = the_study(mirror)
    assert study.info.run_name == "momentum B=1048576 paper constant target=0.01 seed=3"
    assert study.data.params == {
        "optimizer": "momentum",
        "spectrum": "paper",
        "schedule": "constant",
        "batch_size": "1048576",
        "target": "0.01",
        "seed": "3",
        "max_steps": "1000000000",
        "initial_risk": "4.9",
        "sampler": "tpe",
        "sampler.finish": "True",
        "space.learning_rate": "1e-05 to 10, log scale",
        "space.momentum": "fixed at 0.9",
    }
    metrics = {k: v for k, v in study.data.metrics.items() if k != "steps_to_target"}
    assert metrics.pop("ms_per_trial/tracking") > 0
    assert metrics == {
        "n_trials": 5,
        "best_steps_to_target": 960,
        "best_learning_rate": 0.02,
        "bayes_bound": 40,
        "ratio_to_bayes_bound": 24,
    }
    note = study.data.tags["mlflow.note.content"]
    assert "The best of 5 trials, number 4, reached it in 960 steps" in note
    assert study.info.start_time == int(record.trials[0].started.timestamp() * 1000)
    assert study.info.end_time == int(record.trials[-1].finished.timestamp() * 1000)


def with_bounds(record: StudyRecord) -> StudyRecord:
    return dataclasses.replace(record, classical_bound=41.5, optimal_steps=480)


def test_a_study_says_what_its_steps_are_compared_with(mirror: Mirror) -> None:
    mirror_all(mirror, with_bounds(make_record(5)))
    study = the_study(mirror)
    found = {name: study.data.metrics[name] for name in ("classical_bound", "optimal_steps")}
    assert found == {"classical_bound": 41.5, "optimal_steps": 480}
    assert study.data.metrics["ratio_to_bayes_bound"] == 960 / 40
    assert study.data.metrics["ratio_to_optimal"] == 2.0
    note = study.data.tags["mlflow.note.content"]
    both = "24 times the Bayes bound and 2 times SGD's optimal schedule, rate <= 2/h_1"
    assert f"960 steps, {both}, with" in note
    assert "d / (2 C B), with d the sum of noise over curvature, is 41.5" in note
    assert "no strict bound" in note
    assert "needs 480 steps" in note


def test_bounds_that_are_not_known_are_not_spoken_of(mirror: Mirror) -> None:
    mirror_all(mirror, make_record(5))
    note = the_study(mirror).data.tags["mlflow.note.content"]
    assert "d / (2 C B)" not in note
    assert "optimal" not in note


def test_a_beta2_of_a_policy_is_told_with_its_batch_size_and_its_distance_from_one(
    mirror: Mirror,
) -> None:
    record = make_record(1)
    definition = dataclasses.replace(
        record.definition,
        optimizer="adam",
        hyperparameters={"learning_rate": Range(1e-5, 10.0), "beta2": 0.999},
        optimizer_settings={"beta2_policy": "half_life", "beta2_batch_size": 256.0},
    )
    (trial,) = record.trials
    found = {"learning_rate": 0.00123456, "beta2": 0.999984367}
    made = dataclasses.replace(
        record,
        definition=definition,
        name=definition.default_name,
        trials=(dataclasses.replace(trial, hyperparameters=found),),
    )
    mirror_all(mirror, made)
    run = the_study(mirror)
    assert run.info.run_name.startswith("adam half_life B=1048576 ")
    assert run.data.params["space.beta2"] == "fixed at 0.999, of batch size 256"
    assert run.data.params["optimizer.beta2_policy"] == "half_life"
    assert run.data.params["optimizer.beta2_batch_size"] == "256"
    assert run.data.metrics["best_beta2"] == 0.999984367
    assert "learning_rate 0.001235, beta2 0.9999844." in run.data.tags["mlflow.note.content"]


def test_every_field_of_a_definition_that_says_something_is_a_parameter() -> None:
    record = make_record(0)
    definition = dataclasses.replace(
        record.definition,
        spectrum_settings={"dim": 10_000.0, "file": "digits.npz"},
        optimizer_settings={"beta2_policy": "half_life", "beta2_batch_size": 256.0},
        hyperparameters={"learning_rate": Range(1e-5, 10.0), "beta2": 0.999},
        schedule_settings={"pieces": 50.0},
        sampler={"name": "tpe", "n_startup_trials": 10, "finish": 0.6},
        warm_start=True,
        enqueued=({"learning_rate": 0.5},),
        max_growth=1000.0,
        batch_size=Range(4, 1024),
    )
    shown = {"learning_rate": (1e-5, 10.0)}
    made = dataclasses.replace(record, definition=definition, coordinates=shown)
    # Computed at commit 5d0bab6.
    assert layout.params(made) == {
        "batch_size": "4..1024",
        "enqueue": '[{"learning_rate": 0.5}]',
        "initial_risk": "4.9",
        "max_growth": "1000",
        "max_steps": "1000000000",
        "optimizer": "momentum",
        "optimizer.beta2_batch_size": "256",
        "optimizer.beta2_policy": "half_life",
        "sampler": "tpe",
        "sampler.finish": "0.6",
        "sampler.n_startup_trials": "10",
        "schedule": "constant",
        "schedule.pieces": "50",
        "searched.learning_rate": "1e-05 to 10",
        "seed": "3",
        "space.beta2": "fixed at 0.999, of batch size 256",
        "space.learning_rate": "1e-05 to 10, log scale",
        "spectrum": "paper",
        "spectrum.dim": "10000",
        "spectrum.file": "digits.npz",
        "target": "0.01",
        "warm_start": "true",
    }


def test_settings_of_a_schedule_are_parameters(mirror: Mirror) -> None:
    record = make_record(0)
    settings = {"pieces": 50.0, "decay": "linear"}
    definition = dataclasses.replace(record.definition, schedule_settings=settings)
    mirror_all(mirror, dataclasses.replace(record, definition=definition))
    params = the_study(mirror).data.params
    assert (params["schedule.pieces"], params["schedule.decay"]) == ("50", "linear")


# Computed at commit 8722a76, before there were bounds: a change orphans the runs mirrored so far.
DIGESTS_OF_BEFORE = (
    "bc4cccb75828ff4c3724cf75ecc8c96e190b9975fff44ecc9d393afe78ffcd84",
    "1e7fb44ba6fd33ece9f8ebb5b7bc8e3e04414491a9b288f36a399a2f1ffc6707",
)


def test_digests_are_those_of_runs_mirrored_before_there_were_bounds() -> None:
    record = with_bounds(make_record(5))
    found = (layout.definition_digest(record), layout.results_digest(record, 5))
    assert found == DIGESTS_OF_BEFORE


def test_a_run_mirrored_before_gets_what_it_lacks_and_stays(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = make_record(5)
    with monkeypatch.context() as before:
        before.setattr(layout, "_ratios", lambda _: {})
        mirror_all(mirror, record)
    first = the_study(mirror)
    assert "ratio_to_bayes_bound" not in first.data.metrics
    known = with_bounds(record)
    mirror_all(mirror, known)
    study = the_study(mirror)
    assert study.info.run_id == first.info.run_id
    assert len(runs_of(mirror, "study", ViewType.ALL)) == 1
    assert len(runs_of(mirror, "trial", ViewType.ALL)) == 5
    assert study.data.metrics == first.data.metrics | {
        "classical_bound": 41.5,
        "optimal_steps": 480,
        "ratio_to_bayes_bound": 24,
        "ratio_to_optimal": 2,
    }
    assert "optimal schedule" in study.data.tags["mlflow.note.content"]
    metrics = rows(mirror, "metrics")
    mirror_all(mirror, known)
    assert rows(mirror, "metrics") == metrics, "once is enough"


def test_a_bound_is_logged_once_and_a_ratio_for_each_number_of_trials(mirror: Mirror) -> None:
    mirror_all(mirror, with_bounds(make_record(3)))
    mirror_all(mirror, with_bounds(make_record(5)))
    client, run_id = mirror.store.client, the_study(mirror).info.run_id
    for name in ("bayes_bound", "classical_bound", "optimal_steps"):
        assert [metric.step for metric in client.get_metric_history(run_id, name)] == [0]
    steps = [metric.step for metric in client.get_metric_history(run_id, "ratio_to_optimal")]
    assert sorted(steps) == [3, 5]


@pytest.mark.parametrize("n_trials", [0, 1])
def test_a_study_that_reached_nothing_has_no_best(mirror: Mirror, n_trials: int) -> None:
    trials = tuple(dataclasses.replace(make_trial(2), number=k) for k in range(n_trials))
    record = dataclasses.replace(make_record(0), trials=trials)
    mirror_all(mirror, record)
    assert_mirrors(mirror, record)
    metrics = set(the_study(mirror).data.metrics) - {"ms_per_trial/tracking"}
    assert metrics == {"n_trials", "bayes_bound"}


def test_mirroring_again_changes_no_run_and_no_metric(mirror: Mirror) -> None:
    record = make_record(10)  # more than one page of seven
    mirror_all(mirror, record)
    tables = ("runs", "metrics", "params", "tags")
    before = {table: rows(mirror, table) for table in tables}
    mirror_all(mirror, record)
    assert {table: rows(mirror, table) for table in tables} == before


def test_a_resumed_study_adds_only_what_is_missing(mirror: Mirror) -> None:
    short, long = make_record(10), make_record(20)
    mirror_all(mirror, short)
    before = {run.info.run_id for run in runs_of(mirror, "trial")}
    study = mirror.study(short)
    study.add(long.trials[10:15])
    study.finish(long)  # five of its trials were logged, five were not
    assert_mirrors(mirror, long)
    assert before < {run.info.run_id for run in runs_of(mirror, "trial", ViewType.ALL)}
    assert len(runs_of(mirror, "trial", ViewType.ALL)) == 20
    assert len(runs_of(mirror, "study", ViewType.ALL)) == 1
    assert the_study(mirror).data.metrics["best_steps_to_target"] == 810


@pytest.mark.parametrize("metrics", [False, True])
def test_a_run_left_half_logged_is_completed(mirror: Mirror, metrics: bool) -> None:
    record = make_record(4)
    left = half_logged(mirror, 3, record.name, metrics=metrics)
    mirror_all(mirror, record)
    assert_mirrors(mirror, record)
    assert runs_of(mirror, "trial")[3].info.run_id == left
    times = Counter(row[0] for row in rows(mirror, "metrics") if left in row)
    assert times == {"steps_to_target": 1, "reached": 1, "risk": 1}


def test_a_half_logged_run_is_completed_when_its_trial_is_logged_again(mirror: Mirror) -> None:
    record = make_record(4)
    left = half_logged(mirror, 3, record.name, metrics=True)
    study = mirror.study(make_record(3))
    study.add([make_trial(3)])
    study.finish(record)
    assert_mirrors(mirror, record)
    assert runs_of(mirror, "trial")[3].info.run_id == left


def test_a_run_that_says_something_else_is_replaced(mirror: Mirror) -> None:
    record = make_record(3)
    mirror_all(mirror, record)
    other = dataclasses.replace(make_trial(1), steps=77)
    changed = dataclasses.replace(record, trials=(make_trial(0), other, make_trial(2)))
    mirror_all(mirror, changed)
    assert_mirrors(mirror, changed)


def test_duplicates_are_removed_and_the_finished_one_stays(mirror: Mirror) -> None:
    record = make_record(3)
    half_logged(mirror, 1, record.name, metrics=True)
    half_logged(mirror, 1, record.name, metrics=False)
    mirror_all(mirror, record)
    finished = runs_of(mirror, "trial")[1].info.run_id
    for metrics in (True, False):
        half_logged(mirror, 1, record.name, metrics=metrics)
    mirror.store.client.restore_run(finished)
    assert len(runs_of(mirror, "trial")) > 3
    mirror_all(mirror, record)
    assert_mirrors(mirror, record)
    assert runs_of(mirror, "trial")[1].info.run_id == finished


def test_two_runs_of_one_study_become_one_with_all_the_children(mirror: Mirror) -> None:
    record = make_record(6)
    mirror_all(mirror, record)
    first = the_study(mirror).info.run_id
    mirror.store.client.delete_run(first)
    mirror_all(mirror, record)  # as if two processes had each created one
    mirror.store.client.restore_run(first)
    assert len(runs_of(mirror, "study")) == 2
    mirror_all(mirror, record)
    assert_mirrors(mirror, record)


def test_a_study_begun_anew_replaces_the_view_of_the_lost_one(mirror: Mirror) -> None:
    name = "named by the user"
    mirror_all(mirror, make_record(9, name))
    anew = make_record(4, name, batch_size=64)
    study = mirror.study(make_record(0, name, batch_size=64))
    study.add(anew.trials)
    study.finish(anew)
    assert_mirrors(mirror, anew)
    assert the_study(mirror).data.params["batch_size"] == "64"


@pytest.mark.parametrize("name", ["it's", 'said "so"', "both ' and \"", "100 % _ \\ é"])
def test_a_study_is_found_whatever_its_name(mirror: Mirror, name: str) -> None:
    record = make_record(3, name)
    mirror_all(mirror, make_record(2, "another"))
    mirror_all(mirror, record)
    mirror_all(mirror, record)
    assert len(runs_of(mirror, "trial")) == 5
    assert len(runs_of(mirror, "study")) == 2


def test_a_history_longer_than_one_call_is_logged_whole(mirror: Mirror) -> None:
    record = make_record(1300)
    study = mirror.study(make_record(0))
    # Only the study's own run is of interest here; 1300 child runs would take half a minute.
    study._mirrored = {trial.number for trial in record.trials}
    study.finish(record)
    history = mirror.store.client.get_metric_history(study.run_id, "steps_to_target")
    assert len(history) == sum(trial.steps is not None for trial in record.trials)


POINTS = (
    (64, 900.0, {"learning_rate": 0.1, "momentum": 0.9}),
    (2**20, 300.0, {"learning_rate": 0.7, "momentum": 0.5}),
    (4, math.inf, {}),
)


def summarise(mirror: Mirror, figure: Path, **changes: object) -> Run:
    given = {
        "key": "abc",
        "name": "momentum paper constant",
        "params": {"optimizer": "momentum"},
        "points": POINTS,
        "note": "A scaling curve.",
        "files": [str(figure)],
        "studies": {},
    }
    mirror.summary(Summary(**{**given, **changes}), mirror.study_runs())  # type: ignore[arg-type]
    (run,) = runs_of(mirror, "summary")
    return run


def test_a_summary_has_its_curve_with_the_batch_size_as_step(
    mirror: Mirror, tmp_path: Path
) -> None:
    figure = tmp_path / "steps.png"
    figure.write_bytes(b"figure")
    run = summarise(mirror, figure)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "momentum paper constant"
    assert run.data.tags["nqm.curve"] == "abc"
    assert run.data.tags["mlflow.note.content"] == "A scaling curve."
    assert run.data.params == {"optimizer": "momentum"}
    for metric, values in (
        ("steps_to_target", {(64, 900.0), (2**20, 300.0)}),
        ("learning_rate", {(64, 0.1), (2**20, 0.7)}),
        ("momentum", {(64, 0.9), (2**20, 0.5)}),
    ):
        history = mirror.store.client.get_metric_history(run.info.run_id, metric)
        assert {(point.step, point.value) for point in history} == values


def test_a_summary_with_the_same_data_stays_and_its_figures_are_replaced(
    mirror: Mirror, tmp_path: Path
) -> None:
    figure = tmp_path / "steps.png"
    figure.write_bytes(b"old")
    first = summarise(mirror, figure)
    before = rows(mirror, "metrics")
    figure.write_bytes(b"new")
    assert summarise(mirror, figure).info.run_id == first.info.run_id
    assert rows(mirror, "metrics") == before
    (artifact,) = (tmp_path / "mlruns" / "artifacts").rglob("steps.png")
    assert artifact.read_bytes() == b"new"


def test_a_summary_with_other_data_is_replaced(mirror: Mirror, tmp_path: Path) -> None:
    figure = tmp_path / "steps.png"
    figure.write_bytes(b"figure")
    first = summarise(mirror, figure)
    second = summarise(mirror, figure, points=POINTS[:1])
    assert second.info.run_id != first.info.run_id
    assert second.data.metrics["steps_to_target"] == 900.0
    listed = mirror.store.client.list_artifacts(second.info.run_id, "figures")
    assert [artifact.path for artifact in listed] == ["figures/steps.png"]


def linked(mirror: Mirror, figure: Path, **changes: object) -> Run:
    """A summary that links to the runs of all studies, and names one that has none."""
    links = {name: name for name in (*sorted(mirror.study_runs()), "lost")}
    studies = {"B = 64": links, "B = 4": {}}
    named = {"name": "momentum [0.9] scaling", "params": {}, "studies": studies}
    return summarise(mirror, figure, **named, **changes)


def test_a_summary_links_to_its_studies_and_they_to_it(mirror: Mirror, tmp_path: Path) -> None:
    figure = tmp_path / "steps.png"
    figure.write_bytes(b"figure")
    for name in ("one", "two [2]"):
        mirror_all(mirror, make_record(2, name))
    runs = mirror.study_runs()
    page = f"#/experiments/{mirror.store.experiment_id}/runs"
    first = linked(mirror, figure)
    assert first.data.tags["mlflow.note.content"] == (
        "A scaling curve.\n\nStudies:\n\n"
        f"- B = 64: [one]({page}/{runs['one']}{VIEW}), "
        f"[two \\[2\\]]({page}/{runs['two [2]']}{VIEW})"
    )
    before = rows(mirror, "tags")
    assert linked(mirror, figure).info.run_id == first.info.run_id
    assert rows(mirror, "tags") == before
    second = linked(mirror, figure, points=POINTS[:1])
    assert second.info.run_id != first.info.run_id
    for study in runs_of(mirror, "study"):
        note = study.data.tags["mlflow.note.content"]
        link = f"[momentum \\[0.9\\] scaling]({page}/{second.info.run_id}{VIEW})"
        assert note == f"{layout.note(make_record(2, study.info.run_name))}\n\nIts summary: {link}"


def test_files_attached_to_a_study_are_remembered_by_what_they_are_of(
    mirror: Mirror, tmp_path: Path
) -> None:
    record = make_record(2)
    run = mirror.study(record)
    run.finish(record)
    digest = layout.diagnostics_digest(record, 1)
    assert not run.attached("diagnostics", digest)
    run.attach("diagnostics", digest, {"history.png": b"figure"})
    again = mirror.study(record)
    again.finish(record)
    assert again.attached("diagnostics", digest)
    assert not again.attached("diagnostics", layout.diagnostics_digest(make_record(3), 1))
    assert not again.attached("diagnostics", layout.diagnostics_digest(record, 2))
    (file,) = (tmp_path / "mlruns" / "artifacts").rglob("history.png")
    assert file.read_bytes() == b"figure"
    assert file.parent.name == "diagnostics"
    assert the_study(mirror).info.status == "FINISHED"


def test_artifacts_land_under_the_root_and_not_in_the_current_directory(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    figure = tmp_path / "steps.svg"
    figure.write_bytes(b"figure")
    run = summarise(mirror, figure)
    stored = tmp_path / "mlruns" / "artifacts" / run.info.run_id / "artifacts" / "figures"
    assert (stored / "steps.svg").is_file()
    assert list(elsewhere.iterdir()) == []


def test_the_database_is_write_ahead_logged(mirror: Mirror) -> None:
    with closing(sqlite3.connect(mirror.uri.removeprefix("sqlite:///"))) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_only_the_engine_of_the_mirror_leaves_the_disk_to_the_kernel(
    mirror: Mirror, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    # Of the same name, but none of ours.
    other = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/other/mlflow.db")
    own = SqlAlchemyStore(mirror.uri, "artifacts").engine  # the one that MLflow's client has
    normal, full = 1, 2
    for engine, expected in ((own, normal), (other, full)):
        with engine.connect() as connection:
            told = connection.exec_driver_sql("PRAGMA synchronous").scalar()
        assert told == expected
    other.dispose()


def test_a_deleted_experiment_is_restored(mirror: Mirror, tmp_path: Path) -> None:
    mirror.store.client.delete_experiment(mirror.store.experiment_id)
    again = Mirror.of(tmp_path / "mlruns", Tracking())
    assert again.store.experiment_id == mirror.store.experiment_id
    mirror_all(again, make_record(1))


@pytest.mark.parametrize("name", ["50% off", "what?"])
def test_a_root_mlflow_cannot_open_is_refused_before_anything_is_written(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(ValueError, match=r"must have no %, no \? and"):
        Mirror.of(tmp_path / name, Tracking())
    assert list(tmp_path.iterdir()) == []


def test_two_processes_create_the_database_at_once_without_a_word(tmp_path: Path) -> None:
    root = tmp_path / "a directory with # é" / "mlruns"
    program = (
        "import logging, sys; from pathlib import Path\n"
        "logging.basicConfig(level=logging.INFO, format='%(message)s')\n"  # as Hydra does
        "from nqm_study.tracking.store import RunStore\n"
        "print(RunStore.local(Path(sys.argv[1]), 'nqm_study').experiment_id)\n"
    )
    command = [sys.executable, "-c", program, str(root)]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ended = [(*process.communicate(timeout=120), process.returncode) for process in started]
    assert ended[0] == ended[1]
    experiment_id, errors, status = ended[0]
    assert experiment_id.strip().isdigit()
    assert (errors, status) == ("", 0)


@pytest.mark.usefixtures("mirror")
def test_the_levels_of_other_loggers_are_left_as_they_were(tmp_path: Path) -> None:
    logger = logging.getLogger("alembic")
    logger.setLevel(logging.DEBUG)
    try:
        Mirror.of(tmp_path / "mlruns", Tracking())
        assert logger.level == logging.DEBUG
    finally:
        logger.setLevel(logging.NOTSET)


@pytest.mark.parametrize(("error", "told"), [(3e-8, True), (1e-12, False), (None, False)])
def test_the_error_of_the_risk_is_a_metric_and_told_where_it_is_large(
    mirror: Mirror, error: float | None, told: bool
) -> None:
    record = make_record(3)
    first = dataclasses.replace(record.trials[0], risk_error=error)
    mirror_all(mirror, dataclasses.replace(record, trials=(first, *record.trials[1:])))
    study, trials = the_study(mirror), runs_of(mirror, "trial")
    assert study.data.metrics.get("risk_error") == error
    assert [run.data.metrics.get("risk_error") for run in trials] == [error, None, None]
    note = study.data.tags["mlflow.note.content"]
    sentence = (
        "Expected losses may be off by up to 3e-08 of their size, so the steps may not be exact."
    )
    assert note.endswith(sentence) == told
    assert ("may be off" in note) == told


def test_a_sampled_loss_is_told_with_its_standard_error(mirror: Mirror) -> None:
    record = make_record(2)
    first = dataclasses.replace(record.trials[0], steps=1, risk_error=0.012, sampled=True)
    mirror_all(mirror, dataclasses.replace(record, trials=(first, *record.trials[1:])))
    assert [run.data.metrics.get("sampled") for run in runs_of(mirror, "trial")] == [1.0, None]
    note = the_study(mirror).data.tags["mlflow.note.content"]
    assert "sampled, since Adam's closure is in doubt there; its standard error is 1.2 %." in note


def test_what_is_asked_for_after_the_first_trials_holds_for_them_too(mirror: Mirror) -> None:
    record = make_record(3)
    study = mirror.study(record)
    study.add(record.trials)
    best = dataclasses.replace(record, tracked="best")
    study.finish(best)
    (run,) = runs_of(mirror, "trial")
    assert best.best is not None
    assert run.data.tags["optuna.trial_number"] == str(best.best.number)
