"""Which errors are waited out, and which are told at once."""

from __future__ import annotations

import sqlite3
from typing import Any

import psycopg
import pytest
from psycopg import errors
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from runner.errors import StoreUnavailable
from runner.store.address import parse_address
from runner.store.faults import explain, passes

SERVER = parse_address("postgresql://me:hunter2@host/db")


def sqlite_error(code: int) -> OperationalError:
    cause: Any = sqlite3.OperationalError("it\nfailed")
    cause.sqlite_errorcode = code
    return OperationalError("SELECT", None, cause)


def postgres_error(cause: BaseException) -> OperationalError:
    return OperationalError("SELECT", None, cause)


@pytest.mark.parametrize(
    "error",
    [
        sqlite_error(sqlite3.SQLITE_BUSY),
        sqlite_error(sqlite3.SQLITE_BUSY_SNAPSHOT),
        sqlite_error(sqlite3.SQLITE_LOCKED_SHAREDCACHE),
        postgres_error(errors.DeadlockDetected()),
        postgres_error(errors.SerializationFailure()),
        postgres_error(errors.LockNotAvailable()),
        postgres_error(errors.AdminShutdown()),
        postgres_error(errors.ConnectionFailure()),
        postgres_error(errors.TooManyConnections()),
        postgres_error(psycopg.OperationalError("connection refused")),
        postgres_error(psycopg.OperationalError("FATAL:  the database system is starting up")),
        IntegrityError("INSERT", None, errors.UniqueViolation()),
        PoolTimeout(),
    ],
    ids=lambda error: str(getattr(error, "orig", error).__class__.__name__),
)
def test_what_passes(error: BaseException) -> None:
    assert passes(error)


@pytest.mark.parametrize(
    "error",
    [
        sqlite_error(sqlite3.SQLITE_FULL),
        sqlite_error(sqlite3.SQLITE_CORRUPT),
        sqlite_error(sqlite3.SQLITE_READONLY),
        postgres_error(psycopg.OperationalError("FATAL:  password authentication failed")),
        postgres_error(errors.DiskFull()),
        ProgrammingError("SELECT", None, errors.UndefinedTable()),
        ValueError(),
    ],
)
def test_what_does_not(error: BaseException) -> None:
    assert not passes(error)


def test_a_person_is_told_one_line() -> None:
    error = sqlite_error(sqlite3.SQLITE_FULL)
    with pytest.raises(StoreUnavailable, match=r"refuses: it ") as told:
        explain(error, parse_address("sqlite:////srv/x.db"), 60)
    assert "/srv/x.db" in told.value.message
    assert "free space" in told.value.remedy
    with pytest.raises(StoreUnavailable) as told:
        explain(postgres_error(psycopg.OperationalError("refused")), SERVER, 60)
    assert told.value.message == (
        "the database postgresql://me@host/db does not answer, for 60 s: refused"
    )
