"""Attempts of leased runs: begun, kept, and which of them is the final one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, insert, select, tuple_, update

from runner.domain import Lease, TaskExecution
from runner.store.documents import to_json
from runner.store.schema import attempts


class AttemptState(StrEnum):
    """Whether anything came of an attempt; one that a lost worker began stays as it is."""

    BEGUN = "begun"
    KEPT = "kept"


def begin(connection: Connection, lease: Lease, task_id: str, repeat: int, now: datetime) -> int:
    """The number of a new attempt, of a run whose row is locked."""
    run_id = lease.run_id
    last = select(func.max(attempts.c.attempt)).where(_same_task(run_id, task_id, repeat))
    number = (connection.scalar(last) or 0) + 1
    connection.execute(
        insert(attempts).values(
            run_id=run_id,
            task_id=task_id,
            repeat=repeat,
            attempt=number,
            token=lease.token,
            state=AttemptState.BEGUN,
            is_final=False,
            judged=False,
            begun_at=now,
        )
    )
    return number


def keep(connection: Connection, lease: Lease, execution: TaskExecution, path: Path) -> bool:
    """The attempt is at `path`, and final unless a later one is; False when that was known.

    The row of its run is locked.
    """
    same = _same_task(execution.run_id, execution.task_id, execution.repeat)
    kept = select(attempts.c.attempt).where(same, attempts.c.state == AttemptState.KEPT)
    numbers = set(connection.scalars(kept))
    if execution.attempt in numbers:
        return False
    final = execution.attempt > max(numbers, default=0)
    if final:
        before = update(attempts).where(same, attempts.c.is_final)
        connection.execute(before.values(is_final=False))
    _write(connection, lease, execution, _outcome(execution, path) | {"is_final": final})
    return True


def judged(connection: Connection, run_id: str) -> frozenset[tuple[str, int]]:
    """Task and repeat of those final attempts that have a verdict."""
    query = select(attempts.c.task_id, attempts.c.repeat).where(
        attempts.c.run_id == run_id, attempts.c.is_final, attempts.c.judged
    )
    return frozenset((row.task_id, row.repeat) for row in connection.execute(query))


def kept(connection: Connection, run_id: str) -> dict[tuple[str, int, int], Path]:
    """Where each kept attempt is, by task, repeat and attempt."""
    columns = (attempts.c.task_id, attempts.c.repeat, attempts.c.attempt, attempts.c.path)
    query = select(*columns).where(
        attempts.c.run_id == run_id, attempts.c.state == AttemptState.KEPT
    )
    return {
        (row.task_id, row.repeat, row.attempt): Path(row.path) for row in connection.execute(query)
    }


def some_finals(
    connection: Connection, run_id: str, after: tuple[str, int], limit: int
) -> Sequence[TaskExecution]:
    """The next final attempts by task and repeat, `after` not included."""
    place = tuple_(attempts.c.task_id, attempts.c.repeat)
    query = (
        select(attempts.c.document)
        .where(attempts.c.run_id == run_id, attempts.c.is_final, place > after)
        .order_by(attempts.c.task_id, attempts.c.repeat)
        .limit(limit)
    )
    return [TaskExecution.model_validate_json(text) for text in connection.scalars(query)]


def _same_task(run_id: str, task_id: str, repeat: int) -> ColumnElement[bool]:
    return (
        (attempts.c.run_id == run_id)
        & (attempts.c.task_id == task_id)
        & (attempts.c.repeat == repeat)
    )


def _write(
    connection: Connection, lease: Lease, execution: TaskExecution, values: dict[str, Any]
) -> None:
    """Over the row of the attempt as it was begun; one found on disk may have none."""
    here = _same_task(execution.run_id, execution.task_id, execution.repeat)
    begun = update(attempts).where(here, attempts.c.attempt == execution.attempt)
    if connection.execute(begun.values(values)).rowcount:
        return
    key = {name: getattr(execution, name) for name in ("run_id", "task_id", "repeat", "attempt")}
    start = {"token": lease.token, "begun_at": execution.started_at}
    connection.execute(insert(attempts).values(key | start | values))


def _outcome(execution: TaskExecution, path: Path) -> dict[str, Any]:
    return {
        "state": AttemptState.KEPT,
        "judged": execution.has_verdict,
        "category": execution.category,
        "status": execution.status,
        "failure_reason": execution.failure_reason,
        "score": execution.normalized_score,
        "path": str(path),
        "document": to_json(execution),
    }
