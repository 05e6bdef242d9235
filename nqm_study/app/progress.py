"""Progress of all studies of a call, shown by the process the user started.

Studies run in processes of their own. Each sends what it has done to a datagram socket on the
loopback interface, whose address it finds in the environment; the first process draws. A message
that is lost costs a late bar and nothing else.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from nqm_study.app.terminal import say
from nqm_study.study.records import error_text
from nqm_study.study.text import printable
from nqm_study.tracking.process import MirrorState

ADDRESS = "NQM_STUDY_PROGRESS"
"""Environment variable: machine/process:port of the process that draws."""


@dataclass(frozen=True)
class Message:
    """How far a study is.

    Attributes:
        study: its name.
        done, total: finished trials and the budget.
        steps: the fewest steps to the target so far; None where it was not reached.
        examples: the fewest examples to the target so far, where there are two objectives.
        time: the least time so far, where that is minimised; ``steps`` are those that take it.
        risk_error: the largest relative error of the risk, where it is larger than meant.
        new: trials that this call added; None where that is not known.
        over: whether the study has ended.
        waiting: whether it waits for another call that is running it.
        failed: why it failed, where it did.
    """

    study: str
    done: int = 0
    total: int = 0
    steps: int | None = None
    examples: float | None = None
    time: float | None = None
    risk_error: float | None = None
    new: int | None = 0
    over: bool = False
    waiting: bool = False
    failed: str = ""


def send(message: Message) -> bool:
    """Tell the process that draws; whether there is one on this machine."""
    address = _address()
    if address is None:
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.sendto(json.dumps(asdict(message)).encode(), ("127.0.0.1", address[1]))
    return True


def sent_elsewhere() -> bool:
    """Whether another process of this machine draws."""
    address = _address()
    return address is not None and address[0] != os.getpid()


def orphaned() -> bool:
    """Whether the process that draws, and waits for this one, has ended.

    A job that submitit started goes on without it: its result is waited for by no process, but its
    trials are in the storage.
    """
    address = _address()
    if address is None or "SUBMITIT_EXECUTOR" in os.environ:
        return False
    try:
        os.kill(address[0], 0)
    except ProcessLookupError:
        return True
    return False


def _address() -> tuple[int, int] | None:
    """Process and port; None without one, or on another machine, where they mean nothing."""
    machine, _, rest = os.environ.get(ADDRESS, "").rpartition("/")
    if not rest or machine != socket.gethostname():
        return None
    process, port = rest.split(":")
    return int(process), int(port)


class Board:
    """A bar for each running study and one for all; plain lines when the output is no terminal."""

    def __init__(self, console: Console, labels: Mapping[str, str]) -> None:
        """Draw on a console what the studies with these names send, under these labels."""
        self._console = console
        self._labels = {name: printable(label) for name, label in labels.items()}
        self._over: set[str] = set()
        self._tasks: dict[str, TaskID] = {}
        self._failed: dict[str, str] = {}
        self._mirror: TaskID | None = None
        self._problem = ""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._all = self._progress.add_task("studies", total=len(labels), note="starting")
        self._thread = threading.Thread(target=self._listen, daemon=True)

    @property
    def unfinished(self) -> list[str]:
        """The names of the studies that have not said that they are over, or have failed."""
        return [name for name in self._labels if name not in self._over]

    @property
    def complete(self) -> int:
        """The number of studies that have said that they are over."""
        return len(self._over)

    @property
    def studies(self) -> int:
        """The number of studies of the call."""
        return len(self._labels)

    @property
    def failed(self) -> dict[str, str]:
        """Why studies failed, by their labels."""
        return {self._labels.get(name, name): reason for name, reason in self._failed.items()}

    def label(self, name: str) -> str:
        """The label of the study of this name."""
        return self._labels.get(name, name)

    def show_mirror(self, state: MirrorState) -> None:
        """Show how far MLflow is behind, once nothing else is left to wait for."""
        if state.problem and state.problem != self._problem:
            self._print(f"MLflow: {state.problem}; trying again, and the studies go on")
        self._problem = state.problem
        if self._mirror is not None:
            note = f"{state.missing:,} trials to go" if state.missing else ""
            self._progress.update(self._mirror, note=note, visible=not state.done)

    def await_mirror(self) -> None:
        """Say that MLflow is waited for."""
        self._mirror = self._progress.add_task("MLflow", total=None, note="")

    def start(self) -> str:
        """Listen and draw until ``stop``; the address to send to."""
        address = f"{socket.gethostname()}/{os.getpid()}:{self._socket.getsockname()[1]}"
        os.environ[ADDRESS] = address
        self._progress.start()
        self._thread.start()
        return address

    def stop(self) -> None:
        """Show what has arrived, and leave the terminal to others; nothing the second time."""
        if os.environ.pop(ADDRESS, None) is None:
            return
        self.hear_out()
        self._progress.stop()
        self._socket.close()

    def hear_out(self) -> None:
        """Show all that was sent until now, when every study has ended; listen no longer."""
        if self._thread.is_alive():
            # Messages arrive in the order in which they were sent, and this one ends listening.
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
                channel.sendto(b"", self._socket.getsockname())
            self._thread.join()

    def settle(self, message: Message) -> None:
        """Show what a study on another machine could not send itself."""
        self._show(message)

    def _listen(self) -> None:
        while data := self._socket.recv(65536):
            self._show(Message(**json.loads(data)))

    def _show(self, message: Message) -> None:
        label = self.label(message.study)
        if message.failed:
            self._failed[message.study] = message.failed
            self._print(f"{label}: failed, {message.failed}")
            return
        if message.waiting:
            self._print(f"{label}: another call is running it; waiting")
            return
        if message.study not in self._tasks:
            self._tasks[message.study] = self._progress.add_task(label, total=None, note="")
            self._progress.update(self._all, note="")
        task = self._tasks[message.study]
        note = "" if message.steps is None else f"{message.steps:,} steps"
        if note and message.examples is not None:
            # Two ends of a frontier, of different trials.
            note += f" or {message.examples:.3e} examples at best"
        if note and message.time is not None:
            note += f", time {message.time:,.6g}"
        self._progress.update(task, completed=message.done, total=message.total, note=note)
        if message.over and message.study not in self._over:
            self._over.add(message.study)
            self._progress.update(task, visible=False)
            self._progress.update(self._all, completed=len(self._over))
            trials = f"{message.done} trial{'' if message.done == 1 else 's'}"
            if message.new is not None:
                trials += f" ({message.new} new)"
            place = f"{len(self._over)}/{len(self._labels)}"
            line = f"{place}  {label}: {note or 'target not reached'}, {trials}"
            if message.risk_error is not None:
                line += (
                    f"; may not be exact: losses are off by up to {error_text(message.risk_error)}"
                )
            self._print(line)

    def _print(self, line: str) -> None:
        say(self._console, line)
