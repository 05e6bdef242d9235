"""Storage survives what happens to files, and refuses what would mix two studies."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import optuna
import pytest
from filelock import FileLock, Timeout
from studies import FACTS, definition, journal, run_in

from nqm_study.study.definition import Range, StudyDefinition
from nqm_study.study.space import SearchSpace
from nqm_study.study.storage import journal as module
from nqm_study.study.storage.backends import EMBEDDED, Backend
from nqm_study.study.storage.journal import open_journal
from nqm_study.study.storage.studies import (
    StudyMismatchError,
    check_definition,
    check_units,
    open_study,
    read_records,
    study_record,
)
from nqm_study.study.trials import ranking


def _create(kind: str, folder: Path, index: int) -> None:
    storage = Backend(kind).open(folder)
    open_study(storage, f"study {index}", definition(), lambda: FACTS)


@pytest.mark.parametrize("kind", sorted(EMBEDDED))
def test_processes_that_create_a_storage_at_once_all_succeed(tmp_path: Path, kind: str) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_create, args=(kind, tmp_path, i)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    names = [record.name for record in read_records(Backend(kind).open(tmp_path))]
    assert names == [f"study {i}" for i in range(4)]


@pytest.mark.parametrize("torn", ['{"op_code": 4, "worker_id": "', "x" * 200_000])
def test_half_a_line_left_by_a_kill_is_cut_off(tmp_path: Path, torn: str) -> None:
    before = study_record(run_in(journal(tmp_path), definition(), 3))
    with (tmp_path / "optuna.journal").open("a") as file:
        file.write(torn)
    after = study_record(run_in(journal(tmp_path), definition(), 5))
    assert after.trials[:3] == before.trials
    assert len(after.trials) == 5
    lines = (tmp_path / "optuna.journal").read_text().splitlines()
    assert all(json.loads(line) for line in lines)


def test_a_journal_of_half_a_line_only_is_empty(tmp_path: Path) -> None:
    (tmp_path / "optuna.journal").write_text('{"op_co')
    assert read_records(journal(tmp_path)) == ()


def test_no_line_is_added_while_a_journal_that_is_opened_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, checked = tmp_path / "optuna.journal", []
    read = module._last_line

    def last_line(path: Path) -> bytes:
        with pytest.raises(Timeout):
            FileLock(path.with_name(".optuna.journal.lock")).acquire(timeout=0.02)
        checked.append(path)
        return read(path)

    monkeypatch.setattr(module, "_last_line", last_line)
    open_journal(path)
    assert checked == [path]


def test_the_lock_of_a_killed_process_does_not_hold_the_next(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path;"
        "from nqm_study.study.storage.journal import JournalLock;"
        "JournalLock(Path(sys.argv[1])).acquire(); print('held', flush=True); time.sleep(600)"
    )
    path = tmp_path / "optuna.journal"
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        os.kill(holder.pid, signal.SIGKILL)
    started = time.monotonic()
    open_journal(tmp_path / "optuna.journal")
    assert time.monotonic() - started < 10.0, "the lock outlived its holder"


def test_a_changed_search_space_is_refused_with_what_changed(tmp_path: Path) -> None:
    run_in(journal(tmp_path), definition(), 2)
    other = {"learning_rate": Range(1e-2, 3.0, "log"), "momentum": 0.9}
    changed = replace(definition(), hyperparameters=other)
    with pytest.raises(StudyMismatchError) as refusal:
        run_in(journal(tmp_path), changed, 4)
    text = str(refusal.value)
    assert "study.name=study" in text
    assert "hyperparameters.learning_rate.low=0.001 (now 0.01)" in text
    assert "hyperparameters.momentum=" in text
    assert "\n" not in text
    assert len(read_records(journal(tmp_path))[0].trials) == 2


def test_a_study_of_another_program_is_refused(tmp_path: Path) -> None:
    study = optuna.create_study(storage=journal(tmp_path), study_name="study")
    study.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(StudyMismatchError, match="did not make"):
        run_in(journal(tmp_path), definition(), 4)
    assert read_records(journal(tmp_path)) == ()


def test_a_study_left_without_its_definition_by_a_kill_is_completed(tmp_path: Path) -> None:
    optuna.create_study(storage=journal(tmp_path), study_name="study")
    assert len(study_record(run_in(journal(tmp_path), definition(), 2)).trials) == 2


def test_the_budget_is_no_part_of_a_definition_and_everything_else_is() -> None:
    base = definition()
    assert "n_trials" not in base.to_json()
    changes = {
        "optimizer": "other",
        "hyperparameters": {"learning_rate": 0.1},
        "spectrum": "other",
        "spectrum_digest": "0",
        "schedule": "other",
        "batch_size": 17.0,
        "target": 0.3,
        "seed": 4,
        "sampler": {"name": "random"},
        "max_steps": 10,
        "spectrum_settings": {"dim": 50},
        "schedule_settings": {"pieces": 2},
        "optimizer_settings": {"beta2_policy": "half_life"},
        "warm_start": True,
        "enqueued": [{"learning_rate": 0.1}],
        "max_growth": 1000.0,
        "code": {"optimizer": "my_optimizers.Mine 1"},
        "batch_schedule": "ramp",
        "batch_settings": {"integer": True},
        "objective": "time",
        "objective_settings": {"hardware_batch_size": 64.0, "hardware_exponent": 1.0},
        "problem": "least_squares",
        "problem_settings": {"label_noise": 0.0},
    }
    assert set(changes) == {each.name for each in fields(base)}
    fingerprints = {replace(base, **{k: v}).fingerprint for k, v in changes.items()}  # type: ignore[arg-type]
    assert len(fingerprints | {base.fingerprint}) == len(changes) + 1
    same_curve = {replace(base, batch_size=17.0).curve, replace(base, seed=9).curve}
    assert same_curve == {base.curve}
    assert replace(base, target=0.3).curve != base.curve


def test_a_definition_comes_back_from_json_as_it_was() -> None:
    text = json.dumps(definition().to_json())
    assert StudyDefinition.from_json(json.loads(text)) == definition()
    assert StudyDefinition.from_json(json.loads(text)).fingerprint == definition().fingerprint


def test_whole_batch_sizes_are_written_out_in_names() -> None:
    assert "-B1048576-" in replace(definition(), batch_size=2.0**20).default_name


def test_facts_are_computed_once_when_a_study_is_made(tmp_path: Path) -> None:
    asked = []

    def facts() -> dict[str, float | None]:
        asked.append(1)
        return FACTS

    for _ in range(3):
        study = open_study(journal(tmp_path), "study", definition(), facts)
    assert len(asked) == 1
    record = study_record(study)
    assert (record.bayes_bound, record.initial_risk) == (7, 2.0)
    assert (record.classical_bound, record.optimal_steps) == (9.5, None)


def _without(missing: str) -> dict[str, object]:
    """What is stored when a study is made, less one key."""
    known = {"definition": definition().to_json(), **FACTS}
    known["definition"] = {k: v for k, v in known["definition"].items() if k != missing}
    return {key: value for key, value in known.items() if key != missing}


@pytest.mark.parametrize("missing", [*FACTS, "definition", "max_steps", "spectrum_digest"])
def test_a_study_stored_by_another_version_is_refused_in_one_line(
    tmp_path: Path, missing: str
) -> None:
    study = optuna.create_study(storage=journal(tmp_path), study_name="study")
    study.set_user_attr("nqm_study", _without(missing))
    for asked in (
        lambda: run_in(journal(tmp_path), definition(), 2),
        lambda: check_definition(study, definition()),
    ):
        with pytest.raises(StudyMismatchError) as refusal:
            asked()
        text = str(refusal.value)
        assert text.startswith("study.name=study: was stored by another version of nqm_study")
        assert missing in text
        assert "choose another study.name or another mlruns folder, or delete the study" in text
        assert "\n" not in text


def test_what_is_empty_or_off_is_left_out_of_a_fingerprint() -> None:
    # Computed at commit 5d0bab6: a change would begin stored studies anew.
    kept = definition()
    assert kept.fingerprint == "fa15477414a38bfc3453686ab4a053c6ca0aa437ca64cd6971e2c6faa60a28a1"
    found = replace(kept, warm_start=True, max_growth=1000.0, enqueued=({"momentum": 0.5},))
    assert found.fingerprint == ("907798a5874116b08396ae1f3e9149866b0b0fd09cb8864076f5712bd3eefc93")


def test_a_study_stored_in_coordinates_is_read_and_not_continued(tmp_path: Path) -> None:
    # As it was stored before parameters were the user's: coordinates, and logarithms of the steps.
    made = definition()
    space = SearchSpace.of(made.hyperparameters)
    now = run_in(journal(tmp_path / "now"), made, 9)
    before = open_study(journal(tmp_path / "before"), "study", made, lambda: FACTS)
    for trial in now.get_trials():
        (value,) = ranking(trial.values, trial.user_attrs["risk"], made.target, made.max_steps)
        params = space.point(trial.params)
        old = optuna.trial.create_trial(
            params=params,
            distributions=space.coordinate_distributions,
            value=value,
            user_attrs=trial.user_attrs,
        )
        before.add_trial(old)
    found, expected = study_record(before), study_record(now)
    assert [each.hyperparameters for each in found.trials] == [
        each.hyperparameters for each in expected.trials
    ]
    assert (found.best.number, found.at_edge) == (expected.best.number, expected.at_edge)
    for study, n_trials in ((before, 9), (before, 3), (now, 10)):
        check_units(study, n_trials)
    with pytest.raises(StudyMismatchError, match=r"^study\.name=study: .*; choose another") as told:
        check_units(before, 10)
    assert "\n" not in str(told.value)
