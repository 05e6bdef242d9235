"""Only what passes with time is waited for; all else fails at once, in one line."""

import time

import pytest
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import DBAPIError

from nqm_study.study import shared
from nqm_study.study.storage.failures import UnreachableError, passes
from nqm_study.study.trials import NotStoredError

psycopg = pytest.importorskip("psycopg", reason="the extra postgresql is not installed")


def wrapped(cause: Exception) -> list[Exception]:
    """An error of the driver as it comes from SQLAlchemy, from Optuna and from this program."""
    error = DBAPIError.instance("SELECT 1", {}, cause, psycopg.Error)
    assert isinstance(error, DBAPIError)
    others = [StorageInternalError("an exception"), UnreachableError("storage.url=...")]
    for other in others:
        other.__cause__ = error
    return [error, *others]


@pytest.mark.parametrize(
    ("state", "waited"),
    [
        *((state, True) for state in ("08000", "08006", "57P01", "57P02", "57P03")),
        *((state, True) for state in ("40001", "40P01")),
        # Permission denied, a name too long, no such table, a full disk, too many connections.
        *((state, False) for state in ("42501", "22001", "42P01", "53100", "53300")),
        # A key twice, an action that was cancelled, a read-only transaction.
        *((state, False) for state in ("23505", "57014", "25006")),
    ],
)
def test_a_servers_error_is_waited_for_by_its_sqlstate(state: str, waited: bool) -> None:
    cause = psycopg.errors.lookup(state)("whatever it says")
    assert [passes(error) for error in wrapped(cause)] == [waited] * 3


@pytest.mark.parametrize(
    ("cause", "waited"),
    [
        (psycopg.OperationalError("server closed the connection unexpectedly"), True),
        (psycopg.InterfaceError("the connection is closed"), True),
        (psycopg.ProgrammingError("the query has 0 placeholders"), False),
        (psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes"), False),
    ],
)
def test_without_a_sqlstate_only_a_lost_connection_is_waited_for(
    cause: Exception, waited: bool
) -> None:
    assert [passes(error) for error in wrapped(cause)] == [waited] * 3


def test_what_a_server_refuses_ends_a_study_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise wrapped(psycopg.errors.InsufficientPrivilege("permission denied\nfor a table"))[1]

    started = time.monotonic()
    with pytest.raises(NotStoredError, match=r"^the storage refused: permission denied$"):
        shared.patiently(refused)
    assert time.monotonic() - started < 2.0
    tries = []

    def lost() -> int:
        tries.append(1)
        if len(tries) < 4:
            raise wrapped(psycopg.errors.AdminShutdown("terminating connection"))[1]
        return 7

    monkeypatch.setattr(time, "sleep", lambda _: None)
    assert shared.patiently(lost) == 7
