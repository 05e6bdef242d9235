"""The process that keeps MLflow up to date, as the process sees it that the user started.

Importing MLflow takes seconds, and a server's answers are waited for. So this happens beside the
studies, in a process of its own: it follows the storage, and ends when all is there. One is enough:
of 1,000 trials in ten studies, 5 of its 8 seconds of processor time are imports and opening MLflow.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

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

    def to_json(self) -> str:
        """The job in one line; ``from_json`` is its inverse."""
        return json.dumps({**asdict(self), "root": str(self.root)})

    @classmethod
    def from_json(cls, line: str) -> MirrorJob:
        """The job that ``to_json`` wrote."""
        data = json.loads(line)
        studies = (
            MirroredStudy(**{**each, "backend": Backend(**each["backend"])})
            for each in data["studies"]
        )
        tracking = Tracking(**data["tracking"])
        return cls(Path(data["root"]), tracking, tuple(studies), data["rebuild"])


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


class MirrorProcess:
    """A running ``python -m nqm_study.tracking.worker``."""

    def __init__(self, on_change: Callable[[MirrorState], None], job: MirrorJob) -> None:
        """Start it on its job.

        Args:
            on_change: called, in a thread of its own, when there is news.
            job: its task.
        """
        self.state = MirrorState()
        self._job = job
        self._command = ""
        self._on_change = on_change
        self._start()

    def hurry(self) -> None:
        """Let it write all that is missing, now that the studies are over; summaries come later."""
        self._ask(None)

    def finish(self, summaries: Sequence[Summary] = ()) -> MirrorState:
        """Let it write all that is missing, then the summaries, and end; its last news.

        One that was killed is started again.
        """
        self._ask(summaries)
        if self._wait() < 0:
            self._start()
            self._send(self._command)
            self._wait()
        if not self.state.done and not self.state.problem:
            self.state.problem = "the process that writes to it ended early"
        return self.state

    def kill(self) -> None:
        """End it at once; what it has not written is written by the next call."""
        self._process.kill()

    def _ask(self, summaries: Sequence[Summary] | None) -> None:
        said = None if summaries is None else [asdict(summary) for summary in summaries]
        self._command = json.dumps({"finish": said})
        self._send(self._command)

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "nqm_study.tracking.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C is this process's, which lets the other one finish.
            process_group=0,
            # Found wherever this one was found.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._send(self._job.to_json())

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None  # noqa: S101 (it was asked for)
        try:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            # It ended; finish sees to that.
            return

    def _wait(self) -> int:
        status = self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        return status

    def _listen(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 (it was asked for)
        for line in self._process.stdout:
            self._take(json.loads(line))
            self._on_change(self.state)

    def _take(self, news: Mapping[str, Any]) -> None:
        for name, value in news.items():
            if name == "note":
                self.state.notes.append(value)
            elif name == "left":
                self.state.left.append(value)
            else:
                setattr(self.state, name, value)
