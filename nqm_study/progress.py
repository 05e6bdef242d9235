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

ADDRESS = "NQM_STUDY_PROGRESS"
"""Environment variable with the port that takes messages."""


@dataclass(frozen=True)
class Message:
    """How far a study is.

    Attributes:
        study: its label.
        done, total: finished trials and the budget.
        steps: the fewest steps to the target so far; None where it was not reached.
        over: whether the study has ended.
        ran: trials that this call added.
    """

    study: str
    done: int
    total: int
    steps: int | None
    over: bool
    ran: int


def send(message: Message) -> None:
    """Tell the process that draws, if there is one."""
    port = os.environ.get(ADDRESS)
    if port is None:
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.sendto(json.dumps(asdict(message)).encode(), ("127.0.0.1", int(port)))


class Board:
    """A bar for each running study and one for all; plain lines when the output is no terminal."""

    def __init__(self, console: Console, studies: int) -> None:
        self._console = console
        self._studies = studies
        self._over = 0
        self._tasks: dict[str, TaskID] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._all = self._progress.add_task("studies", total=studies, note="")
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def start(self) -> None:
        """Listen and draw until ``stop``."""
        os.environ[ADDRESS] = str(self._socket.getsockname()[1])
        self._progress.start()
        self._thread.start()

    def stop(self) -> None:
        """Show what has arrived, and leave the terminal to others."""
        os.environ.pop(ADDRESS, None)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
            channel.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._progress.stop()
        self._socket.close()

    def _listen(self) -> None:
        while data := self._socket.recv(65536):
            self._show(Message(**json.loads(data)))

    def _show(self, message: Message) -> None:
        if message.study not in self._tasks:
            self._tasks[message.study] = self._progress.add_task(
                message.study, total=message.total, note=""
            )
        task = self._tasks[message.study]
        note = "" if message.steps is None else f"{message.steps:,} steps"
        self._progress.update(task, completed=message.done, note=note)
        if message.over:
            self._over += 1
            self._progress.update(task, visible=False)
            self._progress.update(self._all, completed=self._over)
            reached = note or "target not reached"
            self._console.print(
                f"{self._over}/{self._studies}  {message.study}: {reached}, "
                f"{message.done} trials ({message.ran} new)",
                highlight=False,
            )
