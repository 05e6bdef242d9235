"""The process that keeps MLflow up to date, as the process sees it that the user started.

Importing MLflow takes seconds, and a server's answers are waited for. So this happens beside the
studies, in a process of its own: it follows the storage, and ends when all is there. One is enough:
of 1,000 trials in ten studies, 5 of its 8 seconds of processor time are imports and opening MLflow.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from nqm_study.study.processes import CONTEXT, prepare
from nqm_study.study.storage.backends import Backend
from nqm_study.tracking.settings import Tracking


@dataclass(frozen=True)
class MirroredStudy:
    """A stored study to follow.

    Attributes:
        backend: where it is kept.
        name: its name there.
        n_trials: how many trials it is to have; None: those it has.
    """

    backend: Backend
    name: str
    n_trials: int | None = None


@dataclass(frozen=True)
class MirrorJob:
    """The task of a process that mirrors studies.

    Attributes:
        root: the directory mlruns/.
        tracking: where the runs go.
        studies: what to follow.
        rebuild: whether to delete the runs that there are and write all anew.
    """

    root: Path
    tracking: Tracking
    studies: tuple[MirroredStudy, ...]
    rebuild: bool = False


@dataclass(frozen=True)
class Summary:
    """A scaling curve's run in MLflow, as JSON values.

    Attributes:
        key: identifies the curve.
        name: the run's name.
        params: its parameters.
        points: (batch size, steps to the target, hyperparameters that need those steps); steps are
            infinite where the target was not reached.
        note: its description.
        files: paths of its artifacts.
        studies: for each row of its description, names of studies by what to call them there.
        kind: ``summary``, or ``report`` for several curves, which has no points.
    """

    key: str
    name: str
    params: Mapping[str, str]
    points: Sequence[tuple[int, float, Mapping[str, float]]]
    note: str
    files: Sequence[str]
    studies: Mapping[str, Mapping[str, str]]
    kind: str = "summary"


@dataclass
class MirrorState:
    """The last news of the process that mirrors.

    Attributes:
        uri: the tracking URI.
        page: path of the page that lists the runs.
        missing: finished trials that have no run yet.
        problem: why it cannot go on; empty where it can.
        notes: lines for the user.
        left: names of the studies that were left to another call, or passed over.
        done: whether all is mirrored.
    """

    uri: str = ""
    page: str = ""
    missing: int = 0
    problem: str = ""
    notes: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    done: bool = False


@dataclass(frozen=True)
class Finish:
    """The command to write all that is missing, since the studies are over.

    Attributes:
        summaries: what is written then, before the process ends; None: they come later.
    """

    summaries: Sequence[Summary] | None = None


class MirrorProcess:
    """A running ``nqm_study.tracking.worker``."""

    def __init__(self, on_change: Callable[[MirrorState], None], job: MirrorJob) -> None:
        """Start it on its job.

        Args:
            on_change: called, in a thread of its own, when there is news.
            job: its task.
        """
        self.state = MirrorState()
        self._job = job
        self._command = Finish()
        self._on_change = on_change
        self._start()
        # Python would wait for it.
        atexit.register(self.kill)

    def hurry(self) -> None:
        """Let it write all that is missing, now that the studies are over; summaries come later."""
        self._send(Finish())

    def finish(self, summaries: Sequence[Summary] = ()) -> MirrorState:
        """Let it write all that is missing, then the summaries, and end; its last news.

        One that was killed is started again.
        """
        self._send(Finish(summaries))
        self._listener.join()
        if (self._process.exitcode or 0) < 0:
            self._start()
            self._send(self._command)
            self._listener.join()
        if not self.state.done and not self.state.problem:
            self.state.problem = "the process that writes to it ended early"
        return self.state

    def kill(self) -> None:
        """End it at once; what it has not written is written by the next call."""
        if self._process.pid is not None:
            self._process.kill()

    def _start(self) -> None:
        prepare()
        self._pipe, theirs = CONTEXT.Pipe()
        self._process = CONTEXT.Process(target=_work, args=(theirs, self._job), daemon=True)
        # The process that it is forked from may still be importing.
        self._listener = threading.Thread(target=self._listen, args=(theirs,), daemon=True)
        self._listener.start()

    def _send(self, command: Finish) -> None:
        self._command = command
        # If it has ended, finish sees to that.
        with suppress(BrokenPipeError, ConnectionResetError):
            self._pipe.send(command)

    def _listen(self, theirs: Connection) -> None:
        self._process.start()
        theirs.close()
        with suppress(EOFError, ConnectionResetError):
            while True:
                self._take(self._pipe.recv())
                self._on_change(self.state)
        self._process.join()

    def _take(self, news: Mapping[str, Any]) -> None:
        for name, value in news.items():
            if name == "note":
                self.state.notes.append(value)
            elif name == "left":
                self.state.left.append(value)
            else:
                setattr(self.state, name, value)


def _work(pipe: Connection, job: MirrorJob) -> None:
    """Be the process that writes to MLflow."""
    from nqm_study.tracking.worker import main

    main(pipe, job)
