"""Transactions on either database, tried again as long as there is patience."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Table, create_engine, event, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_delay,
    stop_any,
    wait_random_exponential,
)
from tenacity.stop import stop_base

from runner.errors import StoreUnavailable
from runner.store.address import Address
from runner.store.faults import conflicts, explain, passes

T = TypeVar("T")

_BUSY_SECONDS = 1.0
"""What SQLite itself waits for a lock, before our own patience decides."""
_MOST_CONFLICTS = 5
"""Tries that lost to a unique key; one is a race, more are a mistake of ours."""
_CONNECT_SECONDS = 5
_WRITES = "agenttrace_writes"


class Database:
    """One database and its pool of connections; may be used from any thread."""

    def __init__(self, address: Address, patience_seconds: float) -> None:
        self.address = address
        self._patience_seconds = patience_seconds
        self._reading = _engine(address, patience_seconds)
        self._writing = self._reading.execution_options(**{_WRITES: True})

    def close(self) -> None:
        """Closes all connections."""
        self._reading.dispose()

    def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, in a transaction; `work` may be called more than once.

        Raises StoreUnavailable.
        """
        return self._patiently(self._reading, work)

    def write(self, work: Callable[[Connection], T]) -> T:
        """As `read`, for a transaction that may write. What it did is done when this returns; it
        may have been done, too, when `work` is called again: then it must find that.
        """
        return self._patiently(self._writing, work)

    def _patiently(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        stop = stop_any(stop_after_delay(self._patience_seconds), _StopAfterConflicts())
        tries = Retrying(
            stop=stop,
            wait=wait_random_exponential(multiplier=0.01, max=1),
            retry=retry_if_exception(passes),
            reraise=True,
        )
        try:
            result: T = tries(_in_transaction, engine, work)
        except SQLAlchemyError as error:
            explain(error, self.address, self._patience_seconds)
        return result


def _in_transaction(engine: Engine, work: Callable[[Connection], T]) -> T:
    with engine.begin() as connection:
        return work(connection)


class _StopAfterConflicts(stop_base):
    """A policy of tenacity's."""

    def __init__(self) -> None:
        self._seen = 0

    def __call__(self, retry_state: RetryCallState) -> bool:
        error = retry_state.outcome.exception() if retry_state.outcome else None
        self._seen += error is not None and conflicts(error)
        return self._seen >= _MOST_CONFLICTS


# -- what the two databases need ------------------------------------------------------------------


def _engine(address: Address, patience_seconds: float) -> Engine:
    if address.file is None:
        return _postgres(address)
    _make_file(address)
    return _sqlite(address, min(_BUSY_SECONDS, patience_seconds))


def _make_file(address: Address) -> None:
    """For this user alone: submissions are nobody else's business, sealed credentials even less.

    SQLite gives the files beside it (-wal, -shm) the same mode.
    """
    assert address.file is not None  # noqa: S101 - for the type checker
    try:
        address.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(address.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreUnavailable(
            f"cannot open {address.file}: {error.strerror}",
            remedy="set storage.database_url, or storage.state_dir, to a place of yours",
        ) from error


def _sqlite(address: Address, busy_seconds: float) -> Engine:
    engine = create_engine(
        address.url,
        connect_args={"timeout": busy_seconds, "isolation_level": None},
        pool_timeout=_CONNECT_SECONDS,
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _: object) -> None:
        for pragma in (
            "journal_mode = WAL",  # readers and one writer do not wait for one another
            # As PostgreSQL does: what was acknowledged is on the disk. With NORMAL a power cut
            # could take back a submission that somebody was told had been queued.
            "synchronous = FULL",
            "foreign_keys = ON",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that reads first and writes later fails at its first write, without waiting,
        # if somebody wrote in between, and all of it is done again; so it takes the lock at once.
        writes = connection.get_execution_options().get(_WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgres(address: Address) -> Engine:
    engine = create_engine(
        address.url,
        isolation_level="READ COMMITTED",  # rows are locked by name; nothing rests on snapshots
        pool_pre_ping=True,
        pool_timeout=_CONNECT_SECONDS,
        connect_args={
            "connect_timeout": _CONNECT_SECONDS,
            "application_name": "agenttrace",
            # A server whose host has vanished is noticed in half a minute, not in two hours.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 4,
            "tcp_user_timeout": 30_000,
        },
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _: object) -> None:
        connection.execute("SET lock_timeout = '5s'")
        connection.commit()

    return engine


# -- what SQL says in two ways --------------------------------------------------------------------


def insert_if_new(connection: Connection, table: Table, values: dict[str, Any]) -> None:
    """Inserts a row, unless there is one with its key."""
    connection.execute(_insert(connection, table).values(values).on_conflict_do_nothing())


def put(connection: Connection, table: Table, values: dict[str, Any]) -> None:
    """Inserts a row, or replaces the one with its key."""
    statement = _insert(connection, table).values(values)
    key = list(table.primary_key.columns)
    rest = {name: statement.excluded[name] for name in values if name not in {c.name for c in key}}
    connection.execute(statement.on_conflict_do_update(index_elements=key, set_=rest))


def _insert(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def lock_by_name(connection: Connection, name: str) -> None:
    """Until the transaction ends no other one gets past this; for what has no row to be locked.

    On SQLite there is but one writer.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))
