"""Out of a worker's hands: a job ends, waits once more, or is taken back."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, bindparam, update

from runner.domain import BenchmarkExecution, Job, JobOutcome, JobState, Lease
from runner.domain.text import one_line
from runner.errors import UsageError
from runner.store import quotas, results
from runner.store.rows import held, job_of, lease_lost, locked, no_job
from runner.store.schema import jobs

_FAIL = (
    update(jobs)
    .where(jobs.c.run_id == bindparam("this_run"))
    .values(
        state=bindparam("to_state"),
        note=bindparam("because"),
        failure_reason=bindparam("reason"),
        finished_at=bindparam("at"),
        not_before=None,
        claim_id=None,
    )
)
"""Credentials stay where the fault was ours: then the job is likely to be put back."""
_END = _FAIL.values(sealed=b"")


def postpone(
    connection: Connection, lease: Lease, until: datetime, note: str, now: datetime
) -> None:
    """Back to its old place; a job whose cancellation was asked for ends instead.

    Raises LeaseLost.
    """
    row = locked(connection, lease.run_id)
    if row is None or not held(row, lease):
        raise lease_lost(lease)
    if row.state == JobState.QUEUED or (row.state == JobState.CANCELLED and row.cancel_requested):
        return  # it was done, and only the reply was lost
    if row.state != JobState.RUNNING:
        raise lease_lost(lease)
    if row.cancel_requested:
        _end(connection, row.run_id, JobOutcome(state=JobState.CANCELLED), row.claims, now)
        return
    connection.execute(
        update(jobs)
        .where(jobs.c.run_id == lease.run_id)
        .values(state=JobState.QUEUED, not_before=until, note=one_line(note), claim_id=None)
    )


def finish(
    connection: Connection,
    lease: Lease,
    *,
    outcome: JobOutcome,
    execution: BenchmarkExecution | None,
    evidence: Path | None,
    now: datetime,
) -> None:
    """The end of a job, whole or not at all; raises LeaseLost."""
    row = locked(connection, lease.run_id)
    if row is None or not held(row, lease):
        raise lease_lost(lease)
    if row.state == outcome.state and row.state != JobState.RUNNING:
        return  # it was done, and only the reply was lost
    if row.state != JobState.RUNNING:
        raise lease_lost(lease)
    _end(connection, row.run_id, outcome, row.claims, now)
    if execution is not None:
        results.put_result(connection, execution, evidence, row.submitter)


def cancel(connection: Connection, run_id: str, now: datetime, note: str) -> Job:
    """A waiting job ends, a running one is asked to; raises UsageError."""
    row = locked(connection, run_id)
    if row is None:
        raise no_job(run_id)
    if row.state == JobState.RUNNING:
        connection.execute(
            update(jobs)
            .where(jobs.c.run_id == run_id)
            .values(cancel_requested=True, note=one_line(note))
        )
    elif row.state == JobState.QUEUED:
        outcome = JobOutcome(state=JobState.CANCELLED, note=note)
        _end(connection, run_id, outcome, row.claims, now)
    elif row.state != JobState.CANCELLED or row.finished_at != now:  # else: this very call
        raise UsageError(f"the job {one_line(run_id)} has ended: {row.state}")
    return job_of(connection, run_id)


def requeue(connection: Connection, run_id: str, now: datetime) -> Job:
    """An ended job waits again, at its old turn, and counts again; raises UsageError.

    Workers lost with it are forgotten, or it would end at once for their number.
    """
    row = locked(connection, run_id)
    if row is None:
        raise no_job(run_id)
    if not JobState(row.state).final:
        if row.requeued_at != now:  # else: this very call
            raise UsageError(
                f"the job {one_line(run_id)} has not ended: it is {row.state}",
                remedy=f"to end it: agenttrace queue cancel {one_line(run_id)}",
            )
        return job_of(connection, run_id)
    connection.execute(
        update(jobs)
        .where(jobs.c.run_id == run_id)
        .values(
            state=JobState.QUEUED,
            requeued_at=now,
            finished_at=None,
            not_before=None,
            cancel_requested=False,
            losses=0,
            note="",
            failure_reason="",
        )
    )
    quotas.reserve_again(connection, run_id)
    return job_of(connection, run_id)


def _end(
    connection: Connection, run_id: str, outcome: JobOutcome, claims: int, now: datetime
) -> None:
    values = {
        "this_run": run_id,
        "to_state": outcome.state,
        "because": one_line(outcome.note),
        "reason": outcome.failure_reason,
        "at": now,
    }
    connection.execute(_FAIL if outcome.state is JobState.FAILED else _END, values)
    quotas.settle(connection, run_id, outcome.state, claims, now)
