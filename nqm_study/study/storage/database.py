"""Databases that keep studies: SQLite in a file, and a PostgreSQL server with its locks."""

from __future__ import annotations

import hashlib
import re
import time
import warnings
from pathlib import Path

import sqlalchemy
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError, SQLAlchemyError

from nqm_study.study.storage.failures import DamagedError, UnreachableError, first_line
from nqm_study.study.storage.locks import Lock

_CONNECT_SECONDS = 10
"""A server that has not answered by then is taken to be down."""

_PAUSE = 0.02
"""Seconds between two tries to get a server's lock."""


def open_sqlite(path: Path) -> RDBStorage:
    """The SQLite database at a path, made by one process at a time.

    Raises:
        DamagedError: if the file is no database of Optuna's.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path.with_name(f".{path.name}.lock")):
            return RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}})
    except OperationalError:
        raise
    except DatabaseError as error:
        raise DamagedError(f"{path}: {error.orig}; restore the file from a copy") from error


def server_url(text: str) -> sqlalchemy.URL:
    """A PostgreSQL server's address, for the driver that is installed with this project.

    Raises:
        ValueError: if it is no such address; the message leaves out what may be a password.
    """
    try:
        url = sqlalchemy.make_url(text)
    except (ArgumentError, ValueError):
        # The latter is of a port that is no number.
        url = None
    whole = url is not None and url.get_backend_name() == "postgresql" and url.database
    if url is None or not whole or not 0 < (url.port or 1) < 2**16:
        raise ValueError(
            f"storage.url={_masked(text) or 'null'}: must be "
            "postgresql://user:password@host:port/database, or the environment variable "
            "NQM_STUDY_STORAGE must hold such an address"
        )
    if "password" in url.query:
        # Where it is left out of what is shown.
        url = url.set(password=str(url.query["password"])).difference_update_query(["password"])
    return url.set(drivername="postgresql+psycopg")


def _masked(text: str) -> str:
    """An address, whole or not, on one line and less all that may be a password."""
    shown = re.sub(r"(?s)^([a-z+]+://)?.*@", r"\1***@", text)
    if shown == text:
        # After a colon and no @ it is a port, or a password.
        shown = re.sub(r"(?<=:)[^/:]*[^/:0-9][^/:]*", "***", text)
    shown = re.sub(r"(?s)[?#].*", "", shown)
    return shown if shown.isprintable() else repr(shown)


def connect(url: sqlalchemy.URL) -> sqlalchemy.Engine:
    """Connections to a server, each checked before it is used again, in autocommit mode.

    Raises:
        UnreachableError: if the server does not answer.
        ValueError: if the driver is not installed.
    """
    try:
        engine = sqlalchemy.create_engine(
            url,
            isolation_level="AUTOCOMMIT",
            pool_pre_ping=True,
            connect_args={"connect_timeout": _CONNECT_SECONDS},
        )
        with engine.connect():
            return engine
    except ImportError as error:
        raise ValueError(
            "storage=postgresql: needs psycopg; pip install 'nqm-study[postgresql]'"
        ) from error
    except SQLAlchemyError as error:
        raise UnreachableError(f"storage.url={url}: {first_line(error)}") from error


def open_postgresql(url: sqlalchemy.URL, heartbeat_interval: int, grace_period: int) -> RDBStorage:
    """The studies in a PostgreSQL database; its tables are made by one process at a time.

    Args:
        url: the server's address, as ``server_url`` gives it.
        heartbeat_interval: seconds between two signs of life of whoever runs a trial.
        grace_period: seconds without one after which a trial is given to another process.

    Raises:
        UnreachableError: if the server does not answer.
    """
    engine = connect(url)
    try:
        with ServerLock(LockServer(engine), "nqm_study/create"), warnings.catch_warnings():
            # Optuna calls heartbeats experimental; that is a word about their interface.
            warnings.simplefilter("ignore", ExperimentalWarning)
            return RDBStorage(
                url.render_as_string(hide_password=False),
                engine_kwargs={
                    "pool_pre_ping": True,
                    "connect_args": {"connect_timeout": _CONNECT_SECONDS},
                },
                heartbeat_interval=heartbeat_interval,
                grace_period=grace_period,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
            )
    except SQLAlchemyError as error:
        raise UnreachableError(f"storage.url={url}: {first_line(error)}") from error
    finally:
        engine.dispose()


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
        """Call one of the server's functions on a lock; its answer.

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
