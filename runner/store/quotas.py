"""The ledger of quotas: what was reserved, what counted in the end, what was given back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, insert, select, update

from runner.domain import (
    JobState,
    QuotaEntry,
    QuotaState,
    QuotaUse,
    RefundReason,
    SubmissionQuota,
)
from runner.domain.quota import DAY, WEEK
from runner.domain.text import one_line
from runner.errors import QuotaExceeded
from runner.store.database import insert_if_new
from runner.store.schema import quota_entries, submitters

_SET = (
    update(quota_entries)
    .where(quota_entries.c.run_id == bindparam("this_run"))
    .values(
        state=bindparam("to_state"),
        settled_at=bindparam("at"),
        refund_reason=bindparam("because"),
    )
)


def lock_submitter(connection: Connection, submitter: str) -> None:
    """Until the transaction ends nobody else submits in that name."""
    insert_if_new(connection, submitters, {"submitter": submitter})
    connection.execute(
        select(submitters).where(submitters.c.submitter == submitter).with_for_update()
    )


def quota_use(
    connection: Connection, submitter: str, quota: SubmissionQuota, now: datetime
) -> QuotaUse:
    """What counts: entries of the last day and week that were not refunded."""
    counting = (
        select(quota_entries.c.reserved_at)
        .where(quota_entries.c.submitter == submitter)
        .where(quota_entries.c.reserved_at > now - WEEK)
        .where(quota_entries.c.state != QuotaState.REFUNDED)
        .order_by(quota_entries.c.reserved_at)
    )
    week = list(connection.scalars(counting))
    day = [moment for moment in week if moment > now - DAY]
    waits = [_freed(day, quota.per_day, DAY), _freed(week, quota.per_week, WEEK)]
    next_free_at = max(filter(None, waits), default=None)
    if 0 in (quota.per_day, quota.per_week):
        next_free_at = None  # none is ever free
    return QuotaUse(submitter=submitter, day=len(day), week=len(week), next_free_at=next_free_at)


def _freed(entries: Sequence[datetime], allowed: int, window: timedelta) -> datetime | None:
    """When so many have left the window that one more fits; None: one fits now, or never will."""
    excess = len(entries) - allowed
    return entries[excess] + window if 0 <= excess < len(entries) else None


def reserve(
    connection: Connection, run_id: str, submitter: str, quota: SubmissionQuota, now: datetime
) -> None:
    """One submission more, of a submitter who is locked and a job that is there.

    Raises QuotaExceeded.
    """
    use = quota_use(connection, submitter, quota, now)
    if use.exhausted(quota):
        raise _exceeded(use, quota)
    connection.execute(
        insert(quota_entries).values(
            run_id=run_id, submitter=submitter, state=QuotaState.RESERVED, reserved_at=now
        )
    )


def reserve_again(connection: Connection, run_id: str) -> None:
    """An ended job is to run again: its entry counts as it did before, at its old time."""
    _set(connection, run_id, QuotaState.RESERVED, None, None)


def settle(
    connection: Connection, run_id: str, ended: JobState, claims: int, now: datetime
) -> None:
    """The job has ended: what has a verdict counts, `build_failed` included."""
    if ended is JobState.FINISHED:
        _set(connection, run_id, QuotaState.COMMITTED, now, None)
    elif ended is JobState.FAILED:
        _set(connection, run_id, QuotaState.REFUNDED, now, RefundReason.INFRASTRUCTURE_FAILED)
    else:
        begun = claims > 0
        reason = (
            RefundReason.CANCELLED_BY_OPERATOR if begun else RefundReason.CANCELLED_BEFORE_START
        )
        _set(connection, run_id, QuotaState.REFUNDED, now, reason)


def entries(connection: Connection, submitter: str | None) -> list[QuotaEntry]:
    """The ledger, oldest first; of one submitter or of all."""
    query = select(quota_entries).order_by(quota_entries.c.reserved_at, quota_entries.c.run_id)
    if submitter is not None:
        query = query.where(quota_entries.c.submitter == submitter)
    return [QuotaEntry(**row) for row in connection.execute(query).mappings()]


def _set(
    connection: Connection,
    run_id: str,
    state: QuotaState,
    settled_at: datetime | None,
    reason: RefundReason | None,
) -> None:
    values = {"this_run": run_id, "to_state": state, "at": settled_at, "because": reason}
    connection.execute(_SET, values)


def _exceeded(use: QuotaUse, quota: SubmissionQuota) -> QuotaExceeded:
    free = f"{use.next_free_at:%Y-%m-%d %H:%M:%S} UTC" if use.next_free_at else ""
    return QuotaExceeded(
        f"{one_line(use.submitter) or 'this submitter'} has used {use.day} of {quota.per_day}"
        f" submissions in 24 hours and {use.week} of {quota.per_week} in 7 days",
        remedy=f"the next is free at {free}" if free else "ask the operator for a quota",
    )
