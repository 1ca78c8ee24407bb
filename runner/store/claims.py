"""Who works on what: claiming the next job, taking one over, and showing that one lives."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Select, func, literal, or_, select, update

from runner.domain import Claim, JobState, Lease, WorkerIdentity
from runner.store import events
from runner.store.columns import Instant
from runner.store.rows import IN_TURN, LEASE, claim_of, fenced, held, locked, to_claim, to_lease
from runner.store.schema import jobs


def claim(
    connection: Connection, worker: WorkerIdentity, claim_id: str, now: datetime
) -> Claim | None:
    """The next job that is due, or the one that `claim_id` got already."""
    run_id = _claimed_before(connection, claim_id) or connection.scalar(next_due(now))
    if run_id is None:
        return None
    return _give(connection, run_id, worker, claim_id, now)


def next_due(now: datetime) -> Select[str]:
    """The first job in turn that nobody is just claiming, its row locked: one index look-up."""
    return (
        select(jobs.c.run_id)
        .where(jobs.c.state == JobState.QUEUED)
        .where(or_(jobs.c.not_before.is_(None), jobs.c.not_before <= now))
        .order_by(*IN_TURN)
        .limit(1)
        .with_for_update(skip_locked=True)
    )


def take_over(
    connection: Connection, seen: Lease, worker: WorkerIdentity, claim_id: str, now: datetime
) -> Claim | None:
    """The job, if its lease is still exactly as `seen`: it has neither moved nor beaten since."""
    row = locked(connection, seen.run_id)
    if row is None or row.state != JobState.RUNNING:
        return None
    if row.claim_id != claim_id and (not held(row, seen) or row.beat != seen.beat):
        return None
    if row.claim_id != claim_id:
        lost = update(jobs).where(jobs.c.run_id == seen.run_id)
        connection.execute(lost.values(losses=jobs.c.losses + 1))
    return _give(connection, seen.run_id, worker, claim_id, now)


def _claimed_before(connection: Connection, claim_id: str) -> str | None:
    run_id: str | None = connection.scalar(
        select(jobs.c.run_id).where(jobs.c.claim_id == claim_id).with_for_update()
    )
    return run_id


def _give(
    connection: Connection, run_id: str, worker: WorkerIdentity, claim_id: str, now: datetime
) -> Claim:
    given = connection.execute(
        update(jobs)
        .where(jobs.c.run_id == run_id, _not_claimed_as(claim_id))
        .values(
            state=JobState.RUNNING,
            worker=worker.worker,
            host=worker.host,
            token=jobs.c.token + 1,
            beat=0,
            claim_id=claim_id,
            claims=jobs.c.claims + 1,
            first_claimed_at=func.coalesce(jobs.c.first_claimed_at, literal(now, Instant)),
            not_before=None,
            note="",
        )
        .returning(*jobs.c)
    ).one_or_none()
    if given is None:  # it was done, and only the reply was lost
        return claim_of(connection, run_id)
    events.claimed(connection, to_lease(given), now)
    return to_claim(given)


def _not_claimed_as(claim_id: str) -> ColumnElement[bool]:
    return or_(jobs.c.claim_id.is_(None), jobs.c.claim_id != claim_id)


def leases(connection: Connection) -> list[Lease]:
    """Those of all running jobs."""
    query = select(*LEASE).where(jobs.c.state == JobState.RUNNING).order_by(jobs.c.arrival)
    return [to_lease(row) for row in connection.execute(query)]


def renew(connection: Connection, lease: Lease) -> tuple[Lease, bool]:
    """One beat more; raises LeaseLost."""
    fenced(connection, lease)
    row = connection.execute(
        update(jobs)
        .where(jobs.c.run_id == lease.run_id)
        .values(beat=jobs.c.beat + 1)
        .returning(*LEASE, jobs.c.cancel_requested)
    ).one()
    return to_lease(row), row.cancel_requested
