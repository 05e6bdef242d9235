"""Locks that their holder's death opens: the kernel's on a file, a server's on a connection."""

from __future__ import annotations

import abc
import hashlib
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import sqlalchemy
from filelock import FileLock, Timeout
from sqlalchemy.exc import SQLAlchemyError

_PAUSE = 0.02
"""Seconds between two tries to get a server's lock."""


class Lock(abc.ABC):
    """What keeps others out. ``with`` waits for it for as long as it takes."""

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


class LockServer:
    """A PostgreSQL server's advisory locks, all of this process's on one connection.

    The server drops them when the connection ends, and so it does when it is restarted while their
    holder goes on.
    """

    def __init__(self, engine: sqlalchemy.Engine) -> None:
        """Keep locks over connections of an engine, which are in autocommit mode."""
        self._engine = engine
        self._connection: sqlalchemy.Connection | None = None

    def ask(self, function: str, key: int) -> bool:
        """What one of the server's functions on a lock returns.

        Raises:
            SQLAlchemyError: if the server cannot be reached. All locks are lost then.
        """
        if self._connection is None:
            self._connection = self._engine.connect()
        query = sqlalchemy.text(f"SELECT {function}(:key)")
        try:
            return bool(self._connection.execute(query, {"key": key}).scalar_one())
        except BaseException:
            self._connection.invalidate()
            self._connection.close()
            self._connection = None
            raise


class ServerLock(Lock):
    """A lock among all clients of a PostgreSQL server."""

    def __init__(self, server: LockServer, name: str) -> None:
        self._server = server
        digest = hashlib.sha256(name.encode()).digest()
        self._key = int.from_bytes(digest[:8], "big", signed=True)

    def acquire(self, timeout: float | None = None) -> bool:
        """Whether the lock was got within so many seconds; None waits for as long as it takes.

        Raises:
            SQLAlchemyError: if the server cannot be reached.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while not self._server.ask("pg_try_advisory_lock", self._key):
            if until is not None and time.monotonic() >= until:
                return False
            time.sleep(_PAUSE)
        return True

    def release(self) -> bool:
        """Let go of the lock; whether the server kept it until now."""
        try:
            return self._server.ask("pg_advisory_unlock", self._key)
        except SQLAlchemyError:
            # The connection broke, and the lock with it.
            return False
