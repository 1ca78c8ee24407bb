"""The ledger of runs: attempts and events under a lease, and the results of all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, select

from runner.domain import BenchmarkExecution, Lease, NumberedEvent, RunEvent, TaskExecution
from runner.store import attempts, results
from runner.store.database import Database
from runner.store.events import NO_TOKEN, append_new
from runner.store.rows import fenced
from runner.store.schema import events

T = TypeVar("T")

_FINALS_AT_ONCE = 200
"""Documents in memory; no transaction stays open while they are worked on."""


class SqlRunLedger:
    """Implements ports.RunLedger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin_attempt(self, lease: Lease, task_id: str, repeat: int, now: datetime) -> int:
        """See ports.RunLedger."""

        def work(connection: Connection) -> int:
            fenced(connection, lease)
            return attempts.begin(connection, lease, task_id, repeat, now)

        return self._database.write(work)

    def keep_attempt(self, lease: Lease, execution: TaskExecution, path: Path) -> None:
        """See ports.RunLedger."""
        self._keep(lease, execution, path)

    def adopt_attempt(self, lease: Lease, execution: TaskExecution, path: Path) -> bool:
        """See ports.RunLedger."""
        return self._keep(lease, execution, path)

    def _keep(self, lease: Lease, execution: TaskExecution, path: Path) -> bool:
        outcomes: list[bool] = []

        def work(connection: Connection) -> bool:
            fenced(connection, lease)
            outcomes.append(attempts.keep(connection, lease, execution, path))
            return any(outcomes)  # also where it was done, and only the reply was lost

        return self._database.write(work)

    def judged(self, run_id: str) -> frozenset[tuple[str, int]]:
        """See ports.RunLedger."""
        return self._database.read(lambda connection: attempts.judged(connection, run_id))

    def finals(self, run_id: str) -> Iterator[TaskExecution]:
        """See ports.RunLedger."""
        after = ("", 0)
        while page := self._database.read(
            partial(attempts.some_finals, run_id=run_id, after=after, limit=_FINALS_AT_ONCE)
        ):
            yield from page
            after = (page[-1].task_id, page[-1].repeat)

    def kept(self, run_id: str) -> dict[tuple[str, int, int], Path]:
        """See ports.RunLedger."""
        return self._database.read(lambda connection: attempts.kept(connection, run_id))

    def append_events(self, lease: Lease | None, events: Sequence[NumberedEvent]) -> None:
        """See ports.RunLedger. The store gives numbers of its own: a run that was lost and taken
        over has had several writers. A writer's own numbers tell what is there already.
        """
        if not events:
            return

        def work(connection: Connection) -> None:
            if lease is not None:
                fenced(connection, lease)
            token = lease.token if lease else NO_TOKEN
            append_new(connection, events[0].event.run_id, token, events)

        self._database.write(work)

    def events(self, run_id: str, after: int = 0) -> list[NumberedEvent]:
        """See ports.RunLedger."""
        query = (
            select(events.c.number, events.c.document)
            .where(events.c.run_id == run_id, events.c.number > after)
            .order_by(events.c.number)
        )
        rows = self._database.read(lambda connection: connection.execute(query).all())
        return [
            NumberedEvent(number=row.number, event=RunEvent.model_validate_json(row.document))
            for row in rows
        ]

    def index(self, execution: BenchmarkExecution, evidence: Path) -> None:
        """See ports.RunLedger."""
        self._database.write(lambda connection: results.put_result(connection, execution, evidence))

    def result(self, run_id: str) -> BenchmarkExecution | None:
        """See ports.RunLedger."""
        return self._database.read(lambda connection: results.result_of(connection, run_id))

    def indexed(self) -> dict[str, Path]:
        """See ports.RunLedger."""
        return self._database.read(results.indexed)
