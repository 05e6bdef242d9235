"""Locks that open when their holder dies: the contract, and the kernel's, on a file."""

from __future__ import annotations

import abc
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout


class Lock(abc.ABC):
    """A lock that keeps other processes out. ``with`` waits for it for as long as it takes."""

    @abc.abstractmethod
    def acquire(self, timeout: float | None = None) -> bool:
        """Whether the lock was got within so many seconds; None waits for as long as it takes."""

    @abc.abstractmethod
    def release(self) -> bool:
        """Let go of the lock; whether it was held until now."""

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class HostLock(Lock):
    """A lock among the processes of one machine, on a file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(path)

    def acquire(self, timeout: float | None = None) -> bool:
        """Whether the lock was got within so many seconds; None waits for as long as it takes."""
        try:
            self._lock.acquire(timeout=-1.0 if timeout is None else timeout)
        except Timeout:
            return False
        return True

    def release(self) -> bool:
        """Let go of the lock. The kernel keeps it as long as its holder lives."""
        self._lock.release()
        return True
