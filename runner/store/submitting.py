"""Into the queue: quota, job and first event, in one transaction; and a place that is fair.

Start-time fair queueing: each submitter's jobs take successive turns, none earlier than the turn
that is being served. Whoever submits many waits behind whoever submits few, and nobody saves up
turns by not submitting. As a job's turn never changes, the next job is one look-up in an index.
"""

from __future__ import annotations

from sqlalchemy import Connection, func, insert, select

from runner.domain import EventKind, Job, JobState, NewJob, RunEvent, SubmissionQuota
from runner.store import events, quotas
from runner.store.documents import submission_json, to_json
from runner.store.rows import job_of, select_jobs, to_job
from runner.store.schema import EVER_CLAIMED, jobs


def submit(connection: Connection, new: NewJob, quota: SubmissionQuota) -> Job:
    """The job, queued; raises QuotaExceeded."""
    submitter = new.submission.submitted_by
    quotas.lock_submitter(connection, submitter)
    known = connection.execute(select_jobs(jobs.c.run_id == new.run_id)).one_or_none()
    if known is not None:
        return to_job(known)
    connection.execute(insert(jobs).values(_row(new, _turn(connection, new))))
    quotas.reserve(connection, new.run_id, submitter, quota, new.submitted_at)
    event = RunEvent(kind=EventKind.SUBMITTED, at=new.submitted_at, run_id=new.run_id)
    events.record(connection, event)
    return job_of(connection, new.run_id)


def _turn(connection: Connection, new: NewJob) -> int:
    last = select(func.max(jobs.c.turn)).where(jobs.c.priority == new.schedule.priority)
    served = connection.scalar(last.where(EVER_CLAIMED))
    own = connection.scalar(last.where(jobs.c.submitter == new.submission.submitted_by))
    return max(served or 0, own or 0) + 1


def _row(new: NewJob, turn: int) -> dict[str, object]:
    return {
        "run_id": new.run_id,
        "submitter": new.submission.submitted_by,
        "state": JobState.QUEUED,
        "priority": new.schedule.priority,
        "turn": turn,
        "not_before": new.schedule.not_before,
        "submitted_at": new.submitted_at,
        "claims": 0,
        "losses": 0,
        "cancel_requested": False,
        "note": "",
        "failure_reason": "",
        "worker": "",
        "host": "",
        "token": 0,
        "beat": 0,
        "content_digest": new.content_digest,
        "options": to_json(new.options),
        "submission": submission_json(new.submission),
        "sealed": new.sealed,
    }
