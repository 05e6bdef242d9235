"""A call redoes exactly what is stale: studies, figures, and runs in MLflow."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from program import SWEEP, mirrored, run, runs, stored

from nqm_study.report.drawn import Drawn
from nqm_study.tracking.kept import Kept
from nqm_study.tracking.settings import Tracking

Copied = Callable[[Path], Path]
AGAIN = (*SWEEP, "study.n_trials=6")
REPORT = "nqm_study.report"


@pytest.fixture
def done(swept: Path, copied: Copied) -> Path:
    """A folder in which everything is up to date."""
    folder = copied(swept)
    run(folder, module=REPORT)
    return folder


def figures(folder: Path) -> dict[str, int]:
    """When each file of the figures was written, by name."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("mlruns/figures/*/*")}


def record(folder: Path) -> Path:
    """The record of the figures."""
    (found,) = folder.glob("mlruns/.drawn-*.json")
    return found


def written(folder: Path) -> int:
    """When MLflow was last compared, and written."""
    (found,) = folder.glob("mlruns/.mirrored-*.json")
    return found.stat().st_mtime_ns


def jobs(folder: Path) -> list[Path]:
    """The jobs that were started."""
    return sorted(folder.glob("mlruns/hydra/**/overrides.yaml"))


def ids(folder: Path, kind: str) -> set[str]:
    return {each.info.run_id for each in runs(folder, kind)}


def redrawn(before: dict[str, int], folder: Path) -> set[str]:
    after = figures(folder)
    assert after.keys() == before.keys()
    return {name for name, moment in after.items() if moment != before[name]}


def test_a_call_with_nothing_to_do_writes_nothing_and_says_the_same(done: Path) -> None:
    before, mirror = figures(done), written(done)
    started = jobs(done)
    again = run(done, *AGAIN)
    assert again.stderr.count("6 trials (0 new)") == 4
    assert again.stdout.splitlines()[:5] == (done / "output").read_text().splitlines()[:5]
    assert "mlflow ui --backend-store-uri sqlite:///" in again.stdout
    assert (redrawn(before, done), written(done)) == (set(), mirror)
    assert jobs(done) == started


def test_only_studies_that_are_missing_are_started(done: Path) -> None:
    before = len(jobs(done))
    sweep = [each.replace("16,64", "16,64,256") for each in AGAIN]
    more = run(done, *sweep)
    assert more.stderr.count("(0 new)") == 4
    assert more.stderr.count("(6 new)") == 2
    assert len(jobs(done)) == before + 2
    assert mirrored(done) == stored(done)


def test_a_trial_that_changed_in_the_storage_is_drawn_and_mirrored(done: Path) -> None:
    before, studies, trials = figures(done), ids(done, "study"), ids(done, "trial")
    journal = done / "mlruns" / "optuna.journal"
    lines = journal.read_text().splitlines(keepends=True)
    (place, steps) = min(
        ((index, int(found[1])) for index, line in enumerate(lines)
         if (found := re.search(r'"value":(\d+)\.0,', line))),
        key=lambda pair: pair[1],
    )  # fmt: skip
    lines[place] = (
        lines[place]
        .replace(f'"value":{steps}.0,', f'"value":{steps - 1}.0,')
        .replace(f'"steps":{steps},', f'"steps":{steps - 1},')
    )
    journal.write_text("".join(lines))
    run(done, module=REPORT)
    assert {"steps_to_target.png", "report.html"} <= redrawn(before, done)
    assert len(studies & ids(done, "study")) == 3
    assert mirrored(done) == stored(done)
    assert len(ids(done, "trial") - trials) == 1
    assert len(trials - ids(done, "trial")) == 1
    found = {each.data.metrics.get("best_steps_to_target") for each in runs(done, "study")}
    assert steps - 1 in found


def test_a_figure_that_changed_is_drawn_and_no_other(done: Path) -> None:
    before, mirror = figures(done), written(done)
    (file,) = done.glob("mlruns/figures/*/learning_rate.svg")
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    run(done, module=REPORT)
    assert file.read_bytes() == content
    assert redrawn(before, done) == {f"learning_rate.{ending}" for ending in ("png", "svg", "pdf")}
    assert written(done) == mirror


def test_another_version_of_a_library_draws_all_and_mirrors_nothing(done: Path) -> None:
    before, mirror = figures(done), written(done)
    kept = json.loads(record(done).read_text())
    kept["versions"]["matplotlib"] = "0.1"
    record(done).write_text(json.dumps(kept))
    run(done, module=REPORT)
    assert redrawn(before, done) == set(before)
    assert written(done) == mirror


def test_a_run_that_was_deleted_is_written_again(done: Path) -> None:
    before, trials = figures(done), ids(done, "trial")
    gone = min(trials)
    MlflowClient(f"sqlite:///{done}/mlruns/mlflow.db").delete_run(gone)
    run(done, *AGAIN)
    assert mirrored(done) == stored(done)
    assert len(ids(done, "trial") - trials) == 1
    assert redrawn(before, done) == set()


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"studies": 1}', '{"parts": []}'])
def test_a_damaged_record_is_an_empty_one(tmp_path: Path, content: str) -> None:
    for name in ("record.json", ".mirrored-3fea1a3f1a82.json"):
        (tmp_path / name).write_text(content)
    assert Drawn.read(tmp_path / "record.json") == Drawn()
    assert Kept.read(tmp_path, Tracking()) == Kept()


def test_without_records_all_is_done_again_and_the_same(done: Path) -> None:
    for path in (record(done), *done.glob("mlruns/.mirrored-*.json")):
        path.write_text("{")
    before = figures(done)
    run(done, *AGAIN)
    assert redrawn(before, done) == set(before)
    assert mirrored(done) == stored(done)
    assert json.loads(record(done).read_text())["parts"]


def test_a_check_compares_the_runs_themselves(done: Path) -> None:
    client = MlflowClient(f"sqlite:///{done}/mlruns/mlflow.db")
    changed = min(ids(done, "study"))
    client.set_tag(changed, "nqm.digest", "other")
    mirror = written(done)
    run(done, module=REPORT)
    assert written(done) == mirror
    run(done, "--check", module=REPORT)
    assert written(done) != mirror
    assert changed not in ids(done, "study")
    assert mirrored(done) == stored(done)
