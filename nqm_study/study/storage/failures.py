"""Errors of a storage, whatever the studies are kept in."""

from __future__ import annotations

import sys

from optuna.exceptions import StorageInternalError


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


def first_line(error: BaseException) -> str:
    """The first line of what a driver, or a system call, says is wrong."""
    if isinstance(error, StorageInternalError) and error.__cause__ is not None:
        error = error.__cause__
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    lines = str(cause).strip().splitlines()
    return lines[0] if lines else type(cause).__name__
