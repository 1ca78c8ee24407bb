"""Who works on what: claiming the next job, taking one over, and showing that one lives."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, Select, bindparam, func, or_, select, update

from runner.domain import Claim, JobState, Lease, WorkerIdentity
from runner.store import events
from runner.store.columns import Instant
from runner.store.rows import IN_TURN, LEASE, claim_of, fenced, held, locked, to_claim, to_lease
from runner.store.schema import jobs

# Statements that never change are made once: making them costs more than the database does.
_CLAIMED_BEFORE = (
    select(jobs.c.run_id).where(jobs.c.claim_id == bindparam("this_claim")).with_for_update()
)
_NEXT_DUE = (
    select(jobs.c.run_id)
    .where(jobs.c.state == JobState.QUEUED)
    .where(or_(jobs.c.not_before.is_(None), jobs.c.not_before <= bindparam("now", type_=Instant)))
    .order_by(*IN_TURN)
    .limit(1)
    .with_for_update(skip_locked=True)
)
_NOT_CLAIMED_SO = or_(jobs.c.claim_id.is_(None), jobs.c.claim_id != bindparam("this_claim"))
_GIVE = (
    update(jobs)
    .where(jobs.c.run_id == bindparam("this_run"), _NOT_CLAIMED_SO)
    .values(
        state=JobState.RUNNING,
        worker=bindparam("to_worker"),
        host=bindparam("on_host"),
        token=jobs.c.token + 1,
        beat=0,
        claim_id=bindparam("this_claim"),
        claims=jobs.c.claims + 1,
        first_claimed_at=func.coalesce(
            jobs.c.first_claimed_at, bindparam("now", type_=Instant), type_=Instant
        ),
        not_before=None,
        note="",
    )
    .returning(*jobs.c)
)


def claim(
    connection: Connection, worker: WorkerIdentity, claim_id: str, now: datetime
) -> Claim | None:
    """The next job that is due, or the one that `claim_id` got already."""
    run_id: str | None = connection.scalar(_CLAIMED_BEFORE, {"this_claim": claim_id})
    run_id = run_id or connection.scalar(_NEXT_DUE, {"now": now})
    if run_id is None:
        return None
    return _give(connection, run_id, worker, claim_id, now)


def next_due(now: datetime) -> Select[str]:
    """The first job in turn that nobody is just claiming, its row locked: one index look-up."""
    return _NEXT_DUE.params(now=now)


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


def _give(
    connection: Connection, run_id: str, worker: WorkerIdentity, claim_id: str, now: datetime
) -> Claim:
    given = connection.execute(
        _GIVE,
        {
            "this_run": run_id,
            "this_claim": claim_id,
            "to_worker": worker.worker,
            "on_host": worker.host,
            "now": now,
        },
    ).one_or_none()
    if given is None:  # it was done, and only the reply was lost
        return claim_of(connection, run_id)
    events.claimed(connection, to_lease(given), now)
    return to_claim(given)


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
