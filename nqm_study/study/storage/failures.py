"""Errors of a storage, whatever the studies are kept in."""

from __future__ import annotations

import sys
from typing import Any

from optuna.exceptions import StorageInternalError

_CONNECTION = "08"
"""The class of the SQLSTATEs that say that a connection failed."""

_PASSING = ("57P01", "57P02", "57P03", "40001", "40P01")
"""The SQLSTATEs of a server that stops, crashed or starts, of a serialization and a deadlock."""


class DamagedError(ValueError):
    """A file that holds studies is damaged."""


class UnreachableError(ValueError):
    """The server that holds the studies does not answer, or refuses."""


def failures(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """Exceptions of a storage that cannot be read or written, and others, for an except clause.

    A database's errors are among them where one is in use: a journal does without SQLAlchemy.
    """
    if "sqlalchemy" not in sys.modules:
        return OSError, StorageInternalError, *others

    from sqlalchemy.exc import SQLAlchemyError

    return OSError, StorageInternalError, SQLAlchemyError, *others


def passes(error: BaseException) -> bool:
    """Whether a server's error passes with time, and the same action may then succeed.

    A connection was lost or not accepted, the server stops or starts, or a transaction met another.
    Too many connections are none of these: libpq gives no SQLSTATE for a connection that a running
    server refuses, and such a refusal says what a person has to change.
    """
    cause = _of_driver(error)
    state = getattr(cause, "sqlstate", None)
    if state is not None:
        return state.startswith(_CONNECTION) or state in _PASSING
    of_connection = type(cause).__name__ in ("OperationalError", "InterfaceError")
    return of_connection and not _not_taken(cause)


def refused(error: BaseException) -> bool:
    """Whether a PostgreSQL server says what is wrong, and would say the same again."""
    return getattr(_of_driver(error), "sqlstate", None) is not None and not passes(error)


def _of_driver(error: BaseException) -> Any:
    """The driver's own error below what Optuna, SQLAlchemy and this program made of it, or None."""
    found: BaseException | None = error
    while found is not None and getattr(found, "orig", None) is None:
        found = found.__cause__
    return getattr(found, "orig", None)


def _not_taken(error: Any) -> bool:
    """Whether a server that takes connections did not take this one."""
    tried = getattr(error, "pgconn", None)
    if tried is None:
        return False

    from psycopg.conninfo import make_conninfo
    from psycopg.pq import PGconn, Ping

    given = {each.keyword.decode(): each.val.decode() for each in tried.info if each.val}
    place = {name: given[name] for name in ("host", "hostaddr", "port") if name in given}
    return PGconn.ping(make_conninfo(**place, connect_timeout=5).encode()) == Ping.OK


def first_line(error: BaseException) -> str:
    """The first line of what a driver, or a system call, says is wrong."""
    if isinstance(error, StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    lines = str(cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__
