"""Rows of the queue as the nouns that they stand for."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, bindparam, select

from runner.domain import BenchmarkSubmission, Claim, Job, JobOptions, JobState, Lease
from runner.domain.text import one_line
from runner.errors import LeaseLost, UsageError
from runner.store.schema import jobs

LEASE = (jobs.c.run_id, jobs.c.worker, jobs.c.host, jobs.c.token, jobs.c.beat)
IN_TURN = (jobs.c.priority.desc(), jobs.c.turn, jobs.c.arrival)
"""The order of claiming; the index `jobs_in_turn` has it."""
_STANDING = (
    *LEASE,
    jobs.c.state,
    jobs.c.claims,
    jobs.c.claim_id,
    jobs.c.cancel_requested,
    jobs.c.submitter,
    jobs.c.finished_at,
    jobs.c.requeued_at,
)
"""What a change of a job depends on, without what was handed in."""
_LOCKED = select(*_STANDING).where(jobs.c.run_id == bindparam("this_run")).with_for_update()
_JOB = tuple(column for column in jobs.c if column is not jobs.c.sealed)


def select_jobs(*conditions: ColumnElement[bool]) -> Select[*tuple[Any, ...]]:
    """A query for what `to_job` needs."""
    return select(*_JOB).where(*conditions)


def to_job(row: Row[*tuple[Any, ...]]) -> Job:
    """The job of a whole row."""
    return Job(
        run_id=row.run_id,
        submission=BenchmarkSubmission.model_validate_json(row.submission),
        options=JobOptions.model_validate_json(row.options),
        priority=row.priority,
        not_before=row.not_before,
        submitted_at=row.submitted_at,
        state=JobState(row.state),
        note=row.note,
        claims=row.claims,
        losses=row.losses,
        worker=row.worker,
        first_claimed_at=row.first_claimed_at,
        finished_at=row.finished_at,
        cancel_requested=row.cancel_requested,
    )


def to_lease(row: Row[*tuple[Any, ...]]) -> Lease:
    """The lease of a row that has its columns."""
    return Lease(
        run_id=row.run_id, worker=row.worker, host=row.host, token=row.token, beat=row.beat
    )


def job_of(connection: Connection, run_id: str) -> Job:
    """One job; raises UsageError."""
    row = connection.execute(select_jobs(jobs.c.run_id == run_id)).one_or_none()
    if row is None:
        raise no_job(run_id)
    return to_job(row)


def claim_of(connection: Connection, run_id: str) -> Claim:
    """A running job as its worker gets it."""
    return to_claim(connection.execute(select(jobs).where(jobs.c.run_id == run_id)).one())


def to_claim(row: Row[*tuple[Any, ...]]) -> Claim:
    """The claim of a whole row."""
    return Claim(lease=to_lease(row), job=to_job(row), sealed=row.sealed)


def locked(connection: Connection, run_id: str) -> Row[*tuple[Any, ...]] | None:
    """A job's row, nobody else's to change until the transaction ends."""
    return connection.execute(_LOCKED, {"this_run": run_id}).one_or_none()


def fenced(connection: Connection, lease: Lease) -> None:
    """Locks the job's row; raises LeaseLost unless `lease` is still the right to work on it."""
    row = locked(connection, lease.run_id)
    if row is None or row.state != JobState.RUNNING or not held(row, lease):
        raise lease_lost(lease)


def held(row: Row[*tuple[Any, ...]], lease: Lease) -> bool:
    """Whether nobody has claimed the job since."""
    return (row.token, row.worker) == (lease.token, lease.worker)


def lease_lost(lease: Lease) -> LeaseLost:
    """The error of whoever's lease is not the job's any more."""
    return LeaseLost(
        f"the lease {lease.token} of run {lease.run_id} is not {one_line(lease.worker)}'s any more",
        remedy="nothing: whoever has the run now goes on with it",
    )


def no_job(run_id: str) -> UsageError:
    """The error of whoever asks for a job that there is not."""
    return UsageError(
        f"there is no job {one_line(run_id)}", remedy="`agenttrace queue` lists those there are"
    )
