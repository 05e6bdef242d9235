"""New runs in one transaction are those that MLflow's client writes, or there are none."""

import math
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.dbmodels.models import SqlTag

from nqm_study.tracking import bulk
from nqm_study.tracking.drafts import Draft, Point
from nqm_study.tracking.store import RUNS_AT_ONCE, RunStore

START = 1_767_323_045_000

TRIALS = [
    Draft(
        f"trial {number}",
        {"kind": "trial", "optuna.trial_number": str(number), "status": "reached"},
        {"learning_rate": repr(0.1 / (number + 1)), "decay": "linear"},
        (Point("reached", 1.0), Point("steps_to_target", 1000 - number), Point("risk", 0.0099)),
        parent="0" * 32,
        started=START + number,
        finished=START + number + 250,
    )
    for number in range(5)
]

OTHERS = [
    Draft("nothing", {}, {}, (), started=START, finished=START),
    Draft("no times, é % ' \"", {"mlflow.user": "é"}, {"choice": ""}, (Point("risk", math.inf),)),
    Draft(
        "a curve",
        {"long": "t" * 9000},
        {"long": "p" * 9000},
        (
            *(Point("steps", value, step) for step, value in ((4, 7), (64, 3.5), (16, -0.0))),
            *(Point("steps", value, 64) for value in (3.5, 9.0, 2)),
            *(Point("risk", value) for value in (math.nan, 0.5, math.inf)),
        ),
        started=START,
    ),
]


def database(store: RunStore) -> str:
    return store.uri.removeprefix("sqlite:///")


def rows(store: RunStore) -> dict[str, list[str]]:
    """All rows of all tables, runs by their names."""
    with closing(sqlite3.connect(database(store))) as connection:
        names = dict(connection.execute("SELECT run_uuid, name FROM runs"))
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        found = {
            table: [repr(row) for row in connection.execute(f"SELECT * FROM {table}")]  # noqa: S608
            for (table,) in tables.fetchall()
        }
    for run_id, name in names.items():
        found = {
            table: [row.replace(run_id, name) for row in each] for table, each in found.items()
        }
    return {table: sorted(each) for table, each in found.items()}


def test_both_ways_leave_the_same_rows(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The experiment, and where its artifacts are, is the same one.
    (tmp_path / "copy").mkdir()
    with (
        closing(sqlite3.connect(database(store))) as source,
        closing(sqlite3.connect(tmp_path / "copy" / "mlflow.db")) as target,
    ):
        source.backup(target)
    client = replace(RunStore.local(tmp_path / "copy", "nqm_study"), embedded=None)
    empty = rows(store)
    assert rows(client) == empty
    monkeypatch.setattr(time, "time", lambda: START / 1000)
    for each in (store, client):
        each.add([*TRIALS, *OTHERS])
    found = rows(store)
    assert found == rows(client)
    changed = {table for table in found if found[table] != empty[table]}
    assert changed == {"runs", "tags", "params", "metrics", "latest_metrics"}
    assert len(found["runs"]) == len(TRIALS) + len(OTHERS)


@pytest.mark.parametrize("embedded", [True, False])
def test_a_deleted_experiment_gets_no_runs(store: RunStore, embedded: bool) -> None:
    store.client.delete_experiment(store.experiment_id)
    before = rows(store)
    with pytest.raises(MlflowException, match="must be in the 'active' state"):
        (store if embedded else replace(store, embedded=None)).add(TRIALS)
    assert rows(store) == before


def test_a_run_that_mlflow_refuses_leaves_none(store: RunStore) -> None:
    before = rows(store)
    with pytest.raises(MlflowException, match="Invalid value"):
        store.add([*TRIALS, replace(TRIALS[0], params={"two\nlines": "1"})])
    assert rows(store) == before


def test_a_kill_amid_the_writing_leaves_none(store: RunStore, tmp_path: Path) -> None:
    before = rows(store)
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from sqlalchemy import event\n"
        "from nqm_study.tracking.drafts import Draft, Point\n"
        "from nqm_study.tracking.store import RunStore\n"
        "store = RunStore.local(Path(sys.argv[1]), 'nqm_study')\n"
        "def kill(connection, cursor, statement, *_):\n"
        "    if statement.startswith('INSERT INTO latest_metrics'):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "event.listen(store.embedded.engine, 'before_cursor_execute', kill)\n"
        "point = (Point('risk', 1.0),)\n"
        "store.add([Draft(str(k), {}, {'momentum': '0.9'}, point) for k in range(1000)])\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "mlruns")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert rows(store) == before


def test_tables_that_are_not_known_are_left_to_the_client(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.embedded is not None

    def opened() -> RunStore:
        return RunStore.local(tmp_path / "mlruns", "nqm_study")

    with monkeypatch.context() as other:
        other.setattr(bulk, "REVISIONS", ("of another MLflow",))
        assert opened().embedded is None
    with monkeypatch.context() as other:
        other.setitem(bulk._COLUMNS, SqlTag, {"key", "value"})
        assert opened().embedded is None
    assert opened().embedded is not None


def test_a_server_gets_a_few_runs_at_once(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    together, lock = threading.Barrier(RUNS_AT_ONCE), threading.Lock()
    busy, written = 0, []

    def write(_: RunStore, draft: Draft) -> str:
        nonlocal busy
        with lock:
            busy += 1
            assert busy <= RUNS_AT_ONCE
        # Broken unless as many are here at once.
        together.wait(timeout=60)
        with lock:
            busy -= 1
            written.append(draft.name)
        return ""

    monkeypatch.setattr(RunStore, "write", write)
    drafts = [replace(TRIALS[0], name=str(number)) for number in range(3 * RUNS_AT_ONCE)]
    replace(store, embedded=None, runs_at_once=RUNS_AT_ONCE).add(drafts)
    assert sorted(written) == sorted(draft.name for draft in drafts)


def test_an_error_of_one_run_is_raised(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(_: RunStore, draft: Draft) -> str:
        if draft is TRIALS[-1]:
            raise MlflowException("the server is away")
        return ""

    monkeypatch.setattr(RunStore, "write", write)
    with pytest.raises(MlflowException, match="the server is away"):
        replace(store, embedded=None, runs_at_once=4).add(TRIALS)
