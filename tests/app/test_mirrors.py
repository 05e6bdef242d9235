"""What is left for MLflow when the studies are over is written by several processes."""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from program import TINY, children, kill, require_whole, run

from nqm_study.app.publish import publish, stored_records
from nqm_study.report.frame import studies_frame
from nqm_study.study.storage.backends import Backend
from nqm_study.tracking.follower import Follower
from nqm_study.tracking.pool import MirroredStudy, MirrorJob, Mirrors, MirrorState
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


def whole(folder: Path) -> MirrorJob:
    """To write all runs of a folder anew: then it is known that MLflow has none."""
    root = folder / "mlruns"
    studies = tuple(MirroredStudy(Backend(), record.name) for record in stored_records(root))
    return MirrorJob(root, Tracking(diagnostics=False), studies, rebuild=True)


class Watched:
    """Mirrors over all studies of a folder, which write the runs anew."""

    def __init__(self, folder: Path) -> None:
        root = folder / "mlruns"
        self.mirrors = Mirrors(lambda _: None, whole(folder), cores=1)
        self.summaries = publish(root, studies_frame(stored_records(root))).summaries

    def finish(self) -> MirrorState:
        return self.mirrors.finish(self.summaries)


def processes() -> list[int]:
    """The processes that write to MLflow, the first one first."""
    found = children(os.getpid())
    return sorted(process for process, what in found.items() if "nqm_study.tracking.worker" in what)


def wait_for(count: int) -> list[int]:
    deadline = time.monotonic() + 60
    while len(found := processes()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def test_a_second_process_writes_a_part_of_it(folder: Path) -> None:
    watched = Watched(folder)
    assert len(processes()) == 1
    watched.mirrors.hurry(2)
    wait_for(2)
    state = watched.finish()
    assert state.done
    assert not state.problem
    assert processes() == []
    require_whole(folder, 80, 4, summaries=1)


@pytest.mark.slow
@pytest.mark.parametrize("place", [0, 1], ids=["the first", "the second"])
def test_either_of_them_may_be_killed(folder: Path, place: int) -> None:
    watched = Watched(folder)
    watched.mirrors.hurry(2)
    pair = wait_for(2)
    time.sleep(4.0)  # seconds, amid their work
    kill(pair[place])
    assert watched.finish().done
    require_whole(folder, 80, 4, summaries=1)


@pytest.mark.slow
def test_one_that_is_killed_before_it_shares_does_all(folder: Path) -> None:
    watched = Watched(folder)
    (first,) = processes()
    watched.mirrors.hurry(2)
    kill(first)
    assert watched.finish().done
    require_whole(folder, 80, 4, summaries=1)


def test_work_is_dealt_out_evenly_and_not_for_a_few_trials(folder: Path) -> None:
    job = whole(folder)
    for parts, sizes in ((2, [2]), (9, [1, 1])):
        given = Follower(job, ignore).share(parts)
        assert [len(part) for part in given] == sizes
        assert len({place for part in given for place in part}) == sum(sizes)
    assert Follower(job.part([0]), ignore).share(2) == [], "one study is one process's"


def test_what_may_be_there_already_is_not_shared(folder: Path) -> None:
    assert Follower(replace(whole(folder), rebuild=False), ignore).share(2) == []


def ignore(**_: object) -> None:
    """Nobody is told anything."""
