"""Which errors of a database pass by themselves, and what a person is told of those that do not."""

from __future__ import annotations

import sqlite3
from typing import NoReturn

import psycopg
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from runner.domain.text import one_line
from runner.errors import StoreUnavailable
from runner.store.address import Address

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_PRIMARY = 0xFF
"""An extended result code of SQLite has the primary one in its lowest byte."""

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_PASSING_CLASSES = ("08", "57P")  # connection exceptions; the server stops, crashed or starts
_PASSING_STATES = frozenset(
    {
        "40001",  # serialization failure
        "40P01",  # deadlock
        "55P03",  # a lock was not to be had within lock_timeout
        "53300",  # too many connections
        "25006",  # read only: a standby that is about to take over
    }
)
_PASSING_REFUSALS = (
    "starting up",
    "shutting down",
    "not yet accepting",
    "not accepting",
    "not currently accepting",
    "recovery",
    "too many",
    "connection slots",
)
"""What a server says to a new connection that may be let in later; any other FATAL is final: nobody
waits a minute to be told of a wrong password."""


def passes(error: BaseException) -> bool:
    """Whether the same transaction may go through if it is tried again."""
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, DBAPIError):
        return False
    return error.connection_invalidated or conflicts(error) or _driver_says_passing(error.orig)


def conflicts(error: BaseException) -> bool:
    """Whether somebody else wrote the same row first: tried again, it is found."""
    return isinstance(error, IntegrityError)


def _driver_says_passing(orig: BaseException | None) -> bool:
    match orig:
        case sqlite3.Error():
            return getattr(orig, "sqlite_errorcode", 0) & _PRIMARY in _BUSY
        case psycopg.Error(sqlstate=str(state)):
            return state in _PASSING_STATES or state.startswith(_PASSING_CLASSES)
        case psycopg.OperationalError():
            text = str(orig)
            return "FATAL" not in text or any(words in text for words in _PASSING_REFUSALS)
        case _:
            return False


def explain(error: SQLAlchemyError, address: Address, patience_seconds: float) -> NoReturn:
    """Raises StoreUnavailable, naming the database, the reason and what to do."""
    raise StoreUnavailable(
        f"{_what(error, address, patience_seconds)}: {_reason(error)}",
        remedy=_remedy(error, address),
    ) from error


def _what(error: SQLAlchemyError, address: Address, patience_seconds: float) -> str:
    if conflicts(error) or not passes(error):
        return f"the database {address.shown} refuses"
    verb = "is locked" if address.file else "does not answer"
    return f"the database {address.shown} {verb}, for {patience_seconds:g} s"


def _reason(error: SQLAlchemyError) -> str:
    orig = error.orig if isinstance(error, DBAPIError) else None
    lines = str(orig or error).strip().splitlines() or [type(error).__name__]
    return one_line(lines[0])


def _remedy(error: SQLAlchemyError, address: Address) -> str:
    if address.file is None:
        return "check that the PostgreSQL server runs, and storage.database_url"
    if passes(error):
        return (
            f"end the process that holds it (fuser {address.file}), or raise"
            " storage.database_patience_seconds"
        )
    return f"check {address.file} and its directory: permission, free space, or restore a backup"
