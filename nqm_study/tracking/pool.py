"""The processes that keep MLflow up to date, as the process sees them that the user started.

Mirroring costs several times what a trial does, and importing MLflow takes seconds. So both happen
beside the studies, in processes of their own: they follow the storage, and end when all is there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
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

    def part(self, places: Iterable[int]) -> MirrorJob:
        """The job of following some of the studies, given by their places."""
        return replace(self, studies=tuple(self.studies[place] for place in places))

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
    """The last news of the processes that mirror.

    Attributes:
        uri: the tracking URI.
        page: path of the page that lists the runs.
        missing: finished trials that have no run yet.
        problem: why it cannot go on; empty where it can.
        notes: lines for the user.
        done: whether all is mirrored.
    """

    uri: str = ""
    page: str = ""
    missing: int = 0
    problem: str = ""
    notes: list[str] = field(default_factory=list)
    done: bool = False


class Mirrors:
    """The ``MirrorProcess``es of a call, as many as pay: a core each, and at most ``MOST``.

    Measured for 1,000 trials on two cores: alone 30 s with one and 17 to 20 s with two; beside the
    workers of a sweep 40 s with one and 46 s with two. So there are few beside the studies, and
    more when these are over: with ``hurry`` ten studies of 100 trials take 54 s, without it 60 s.
    """

    MOST = 4

    def __init__(
        self, on_change: Callable[[MirrorState], None], job: MirrorJob, *, cores: int
    ) -> None:
        """Start them on a job, of which each has its own studies.

        Args:
            on_change: called, in threads of its own, when there is news of one of them.
            job: their task.
            cores: how many cores are free for them.
        """
        self._on_change = on_change
        places = range(len(job.studies))
        # A rebuild deletes before it writes, which one process has to do.
        count = 1 if job.rebuild else max(1, min(self.MOST, cores, len(places)))
        # One by one, since there may be news of the first while the next is started.
        self._processes: list[MirrorProcess] = []
        self._sharing: list[MirrorProcess] = []
        for start in range(count):
            part = job.part(places[start::count])
            self._processes.append(MirrorProcess(self._changed, part))

    def hurry(self, cores: int) -> None:
        """Let more processes write what is left, now that the studies are over.

        Args:
            cores: how many are free for all of them.
        """
        more = min(self.MOST, cores) - len(self._processes)
        for place, process in enumerate(self._processes):
            # One more part for each further process, dealt out evenly.
            parts = 1 + len(range(place, more, len(self._processes)))
            if parts > 1:
                self._sharing.append(process)
                process.share(parts)
            process.ask(None)

    def finish(self, summaries: Sequence[Summary] = ()) -> MirrorState:
        """Let them write all that is missing, then the summaries, and end; their last news."""
        for process in self._sharing:
            self._processes += process.helpers()
        first, *others = self._processes
        first.ask(None)
        for process in others:
            process.ask(())
        for process in others:
            process.join()
        # The summaries name the runs of all studies, so these have to be there.
        first.ask(summaries)
        first.join()
        return self.state

    def kill(self) -> None:
        """End them at once; what they have not written is written by the next call."""
        for process in self._processes:
            process.kill()

    @property
    def state(self) -> MirrorState:
        """The news of all of them, as one."""
        states = [process.state for process in self._processes]
        return MirrorState(
            uri=next((state.uri for state in states if state.uri), ""),
            page=next((state.page for state in states if state.page), ""),
            missing=sum(state.missing for state in states),
            problem=next((state.problem for state in states if state.problem), ""),
            notes=[note for state in states for note in state.notes],
            done=all(state.done for state in states),
        )

    def _changed(self) -> None:
        self._on_change(self.state)


class MirrorProcess:
    """A running ``python -m nqm_study.tracking.worker``."""

    def __init__(self, on_change: Callable[[], None], job: MirrorJob) -> None:
        """Start it on its job.

        Args:
            on_change: called, in a thread of its own, when there is news.
            job: its task.
        """
        self.state = MirrorState()
        self._job = job
        self._command = ""
        self._on_change = on_change
        self._helpers: list[MirrorProcess] = []
        self._shared = threading.Event()
        self._start()

    def ask(self, summaries: Sequence[Summary] | None) -> None:
        """Ask it to write all that is missing, then the summaries, and end.

        Args:
            summaries: what to write; None if they come later: it does not end before.
        """
        said = None if summaries is None else [asdict(summary) for summary in summaries]
        self._command = json.dumps({"finish": said})
        self._send(self._command)

    def share(self, parts: int) -> None:
        """Ask it to keep one of some parts of its job; ``helpers`` get the others."""
        self._send(json.dumps({"share": parts}))

    def helpers(self) -> list[MirrorProcess]:
        """The processes that have the other parts, once it has shared its job or ended."""
        self._shared.wait()
        return self._helpers

    def kill(self) -> None:
        """End it at once, and those that share its job."""
        self._process.kill()
        for helper in self._helpers:
            helper.kill()

    def join(self) -> None:
        """Wait for its end. One that was killed is started again."""
        if self._wait() < 0:
            self._start()
            self._send(self._command)
            self._wait()
        if not self.state.done and not self.state.problem:
            self.state.problem = "the process that writes to it ended early"

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
            self._on_change()
        # It shares nothing any more.
        self._shared.set()

    def _take(self, news: Mapping[str, Any]) -> None:
        for name, value in news.items():
            if name == "note":
                self.state.notes.append(value)
            elif name == "left":
                self._hand_on(value)
            else:
                setattr(self.state, name, value)

    def _hand_on(self, parts: Sequence[Sequence[int]]) -> None:
        """Let a process of its own do each part of the job that this one gave up."""
        job = self._job
        kept = set(range(len(job.studies))) - {place for part in parts for place in part}
        for part in parts:
            one = replace(job.part(part), rebuild=False)
            self._helpers.append(MirrorProcess(self._on_change, one))
        # If it is killed and started again, it deletes nothing that the others wrote.
        self._job = replace(job.part(sorted(kept)), rebuild=job.rebuild and not parts)
        self._shared.set()
