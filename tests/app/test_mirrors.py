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


def forked() -> set[int]:
    """The processes that Python's fork server started for this one.

    Other tests leave servers behind, which come and go and start processes of their own.
    """
    servers = [
        process for process, line in children(os.getpid()).items() if "multiprocessing" in line
    ]
    return {process for server in servers for process in children(server)}


class Watched:
    """The mirror of all studies of a folder, which are over."""

    def __init__(self, folder: Path) -> None:
        self._others = forked()
        root = folder / "mlruns"
        records = stored_records(root)
        self.summaries = publish(root, studies_frame(records)).summaries
        studies = tuple(MirroredStudy(Backend(), record.name) for record in records)
        job = MirrorJob(root, Tracking(diagnostics=False), studies)
        self.mirror = MirrorProcess(lambda _: None, job)
        self.mirror.hurry()

    def processes(self) -> set[int]:
        """Those that were forked for it and run."""
        return forked() - self._others

    def started(self) -> int:
        """The one that writes to MLflow, once it is there."""
        deadline = time.monotonic() + 60
        while not (processes := self.processes()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        (process,) = processes
        return process

    def finish(self) -> MirrorState:
        return self.mirror.finish(self.summaries)


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
    watched.started()
    state = watched.finish()
    assert state.done
    assert not state.problem
    assert not watched.processes()
    require_whole(folder, 80, 4, summaries=1)


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 1, 81, 162, 324])
def test_it_may_be_killed_amid_its_work(folder: Path, count: int) -> None:
    watched = Watched(folder)
    process = watched.started()
    wait_for_runs(folder, count)
    kill(process)
    assert watched.finish().done
    require_whole(folder, 80, 4, summaries=1)
