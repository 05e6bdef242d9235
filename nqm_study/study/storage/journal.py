"""The embedded default: Optuna's journal, an append-only file, made safe against torn lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from nqm_study.study.storage.failures import DamagedError

_POLL_SECONDS = 0.001
"""Between two tries to get the lock: a write takes about as long."""


class JournalLock:
    """Optuna's journal lock on a lock that the kernel drops when its holder dies.

    Whoever gets it first cuts the journal back to its last whole line. A writer that was killed, or
    whose disk was full, leaves half a line, and the next line would be glued to it.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._lock = FileLock(
            journal.with_name(f".{journal.name}.lock"), poll_interval=_POLL_SECONDS
        )

    def acquire(self) -> bool:
        """Wait for the lock."""
        self._lock.acquire()
        if self._journal.exists():
            _drop_torn_line(self._journal)
        return True

    def release(self) -> None:
        """Let go of the lock."""
        self._lock.release()


def open_journal(path: Path) -> JournalStorage:
    """The journal at a path, made if it is not there.

    Raises:
        DamagedError: naming the first line that is damaged, if one is by itself.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = JournalLock(path)
    lock.acquire()
    try:
        backend = JournalFileBackend(str(path), lock_obj=lock)  # type: ignore[arg-type]  # the base class is private
        # Nobody adds a line meanwhile.
        last = _last_line(path)
    finally:
        lock.release()
    try:
        storage = JournalStorage(backend)
        # Optuna reads over a last line that is none, and fails once another follows it.
        _require_operation(last)
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        number = _damaged_line(path)
        if number is None:
            raise DamagedError(
                f"{path}: has a line that this version of Optuna does not read; restore the file "
                "from a copy"
            ) from error
        raise DamagedError(
            f"{path}: line {number} is damaged; restore the file from a copy, or delete that line "
            "and lose what it said"
        ) from error
    return storage


def _require_operation(line: bytes) -> None:
    if line and not {"op_code", "worker_id"} <= {*json.loads(line)}:
        raise ValueError("not an operation")


def _damaged_line(path: Path) -> int | None:
    """The number of the first line that is no operation of a journal, from 1; None: all are."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                _require_operation(line)
            except (ValueError, TypeError):
                return number
    return None


def _last_line(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(_line_start(file, file.seek(0, 2) - 1))
        return file.read()


def _drop_torn_line(path: Path) -> None:
    with path.open("rb+") as file:
        end = file.seek(0, 2)
        whole = _line_start(file, end)
        if whole < end:
            file.truncate(whole)


def _line_start(file: BinaryIO, end: int) -> int:
    """The place after the last newline before a place of a file, or the file's beginning."""
    while end > 0:
        start = max(0, end - 65536)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
