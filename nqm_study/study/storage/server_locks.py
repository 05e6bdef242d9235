"""Locks that a PostgreSQL server keeps, for as long as their holder's connection lasts."""

from __future__ import annotations

import hashlib
import time

import sqlalchemy
from sqlalchemy.exc import SQLAlchemyError

from nqm_study.study.storage.locks import Lock

_PAUSE = 0.02
"""Seconds between two tries to get a server's lock."""


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
