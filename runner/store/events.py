"""What happened in each run, numbered in the order in which it was stored."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, bindparam, func, insert, select

from runner.domain import EventKind, Lease, NumberedEvent, RunEvent
from runner.store.database import lock_by_name
from runner.store.documents import to_json
from runner.store.schema import events

NO_TOKEN = 0
"""Of events that were written without a lease; a lease's first token is 1."""

_LAST = select(func.max(events.c.number)).where(events.c.run_id == bindparam("this_run"))
_INSERT = insert(events)


def record(connection: Connection, event: RunEvent, token: int = NO_TOKEN) -> None:
    """Appends an event of the store's own, once for each transaction that is done."""
    _append(connection, event.run_id, token, [(None, event)])


def claimed(connection: Connection, lease: Lease, now: datetime) -> None:
    """Appends that a worker has the job."""
    data = {"worker": lease.worker, "token": lease.token}
    event = RunEvent(kind=EventKind.CLAIMED, at=now, run_id=lease.run_id, data=data)
    record(connection, event, lease.token)


def append_new(
    connection: Connection, run_id: str, token: int, given: Sequence[NumberedEvent]
) -> None:
    """Appends those whose number this lease has not used yet."""
    _lock(connection, run_id)
    mine = (events.c.run_id == run_id) & (events.c.token == token)
    known = events.c.source_number.between(
        min(one.number for one in given), max(one.number for one in given)
    )
    there = set(connection.scalars(select(events.c.source_number).where(mine, known)))
    new = {one.number: one.event for one in given if one.number not in there}
    _append(connection, run_id, token, list(new.items()))


def _append(
    connection: Connection,
    run_id: str,
    token: int,
    new: Sequence[tuple[int | None, RunEvent]],
) -> None:
    if not new:
        return
    _lock(connection, run_id)
    last = connection.scalar(_LAST, {"this_run": run_id})
    rows = [
        {
            "run_id": run_id,
            "number": number,
            "token": token,
            "source_number": source_number,
            "kind": event.kind,
            "at": event.at,
            "document": to_json(event),
        }
        for number, (source_number, event) in enumerate(new, start=(last or 0) + 1)
    ]
    connection.execute(_INSERT, rows)


def _lock(connection: Connection, run_id: str) -> None:
    """Two writers would take the same number; a run that was never queued has no row to lock."""
    lock_by_name(connection, f"agenttrace events {run_id}")
