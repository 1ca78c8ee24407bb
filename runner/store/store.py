"""One database, opened: the queue, the ledger of runs and the breakers in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from runner.ports import BreakerStore, JobQueue, RunLedger
from runner.store.address import parse_address
from runner.store.breakers import SqlBreakerStore
from runner.store.database import Database
from runner.store.jobs import SqlJobQueue
from runner.store.migrate import bring_to_head
from runner.store.runs import SqlRunLedger


@dataclass(frozen=True, kw_only=True)
class Store:
    """An open database, by what it is used for."""

    queue: JobQueue
    ledger: RunLedger
    breakers: BreakerStore
    url_shown: str
    """Where it is, without its password."""


@contextmanager
def open_store(url: str, patience_seconds: float = 60.0) -> Iterator[Store]:
    """The database at `url`, made or migrated if need be, until the block ends.

    Any number of processes may open it at once. A call that meets a lock, or no answer, tries again
    for `patience_seconds`. Raises InvalidConfiguration, StoreUnavailable.
    """
    database = Database(parse_address(url), patience_seconds)
    try:
        bring_to_head(database)
        yield Store(
            queue=SqlJobQueue(database),
            ledger=SqlRunLedger(database),
            breakers=SqlBreakerStore(database),
            url_shown=database.address.shown,
        )
    finally:
        database.close()
