"""What is left for MLflow when the studies are over is written by one process, or its successor."""

import contextlib
import os
import shutil
import sqlite3
import time
from pathlib import Path

import pytest
from program import TINY, children, kill, require_whole, run

from nqm_study.app.publish import publish, stored_records
from nqm_study.report.frame import studies_frame
from nqm_study.study.storage.backends import Backend
from nqm_study.tracking.process import MirroredStudy, MirrorJob, MirrorProcess, MirrorState
from nqm_study.tracking.settings import Tracking

SIZES = "batch_size=4,16,64,256"


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four studies of eighty trials that MLflow knows nothing of."""
    folder = tmp_path_factory.mktemp("studied")
    sweep = ("-m", *TINY, "optimizer=sgd", SIZES, "study.n_trials=80")
    run(folder, *sweep, "tracking=none", "sampler=random")
    return folder


@pytest.fixture
def folder(studied: Path, tmp_path: Path) -> Path:
    shutil.copytree(studied / "mlruns", tmp_path / "mlruns")
    return tmp_path


class Watched:
    """The mirror of all studies of a folder, which are over."""

    def __init__(self, folder: Path) -> None:
        root = folder / "mlruns"
        records = stored_records(root)
        self.summaries = publish(root, studies_frame(records)).summaries
        studies = tuple(MirroredStudy(Backend(), record.name) for record in records)
        job = MirrorJob(root, Tracking(diagnostics=False), studies)
        self.mirror = MirrorProcess(lambda _: None, job)
        self.mirror.hurry()

    def finish(self) -> MirrorState:
        return self.mirror.finish(self.summaries)


def processes() -> list[int]:
    """The processes that were forked for this one: those that write to MLflow."""
    return [process for parent in children(os.getpid()) for process in children(parent)]


def started() -> int:
    """The one that writes to MLflow, once it is there."""
    deadline = time.monotonic() + 60
    while not processes():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (process,) = processes()
    return process


def wait_for_runs(folder: Path, count: int) -> None:
    """MLflow's database is put in its place whole."""
    database = folder / "mlruns" / "mlflow.db"
    deadline = time.monotonic() + 60
    while not database.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with contextlib.closing(sqlite3.connect(database, timeout=60)) as connection:
        while connection.execute("SELECT count(*) FROM runs").fetchone()[0] < count:
            assert time.monotonic() < deadline
            time.sleep(0.001)


def test_one_process_writes_all_of_it(folder: Path) -> None:
    watched = Watched(folder)
    started()
    state = watched.finish()
    assert state.done
    assert not state.problem
    assert processes() == []
    require_whole(folder, 80, 4, summaries=1)


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 1, 81, 162, 324])
def test_it_may_be_killed_amid_its_work(folder: Path, count: int) -> None:
    watched = Watched(folder)
    process = started()
    wait_for_runs(folder, count)
    kill(process)
    assert watched.finish().done
    require_whole(folder, 80, 4, summaries=1)
