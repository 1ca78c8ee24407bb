"""The queue: each call one transaction, told in the modules beside this one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, or_, select, tuple_

from runner.domain import (
    BenchmarkExecution,
    Claim,
    Job,
    JobOutcome,
    JobState,
    Lease,
    NewJob,
    QuotaEntry,
    QuotaUse,
    SubmissionQuota,
    WorkerIdentity,
    WorkerStatus,
)
from runner.store import claims, endings, quotas, submitting
from runner.store.database import Database, put
from runner.store.documents import to_json
from runner.store.rows import IN_TURN, job_of, select_jobs, to_job
from runner.store.schema import jobs, workers

_ENDED = tuple(state for state in JobState if state.final)


class SqlJobQueue:
    """Implements ports.JobQueue."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def submit(self, job: NewJob, quota: SubmissionQuota) -> Job:
        """See ports.JobQueue."""
        return self._database.write(lambda c: submitting.submit(c, job, quota))

    def quota_use(self, submitter: str, quota: SubmissionQuota, now: datetime) -> QuotaUse:
        """See ports.JobQueue."""
        return self._database.read(lambda c: quotas.quota_use(c, submitter, quota, now))

    def quota_entries(self, submitter: str | None = None) -> list[QuotaEntry]:
        """See ports.JobQueue."""
        return self._database.read(lambda c: quotas.entries(c, submitter))

    def claim(self, worker: WorkerIdentity, claim_id: str, now: datetime) -> Claim | None:
        """See ports.JobQueue."""
        return self._database.write(lambda c: claims.claim(c, worker, claim_id, now))

    def leases(self) -> list[Lease]:
        """See ports.JobQueue."""
        return self._database.read(claims.leases)

    def take_over(
        self, seen: Lease, worker: WorkerIdentity, claim_id: str, now: datetime
    ) -> Claim | None:
        """See ports.JobQueue."""
        return self._database.write(lambda c: claims.take_over(c, seen, worker, claim_id, now))

    def renew(self, lease: Lease) -> tuple[Lease, bool]:
        """See ports.JobQueue."""
        return self._database.write(lambda c: claims.renew(c, lease))

    def postpone(self, lease: Lease, until: datetime, note: str, now: datetime) -> None:
        """See ports.JobQueue. A job whose cancellation was asked for is cancelled instead."""
        self._database.write(lambda c: endings.postpone(c, lease, until, note, now))

    def finish(
        self,
        lease: Lease,
        outcome: JobOutcome,
        execution: BenchmarkExecution | None,
        evidence: Path | None,
        now: datetime,
    ) -> None:
        """See ports.JobQueue. Raises ValueError for a state that is no end."""
        if not outcome.state.final:
            raise ValueError(f"a job does not end {outcome.state}")
        self._database.write(
            lambda c: endings.finish(
                c, lease, outcome=outcome, execution=execution, evidence=evidence, now=now
            )
        )

    def cancel(self, run_id: str, now: datetime, note: str = "") -> Job:
        """See ports.JobQueue."""
        return self._database.write(lambda c: endings.cancel(c, run_id, now, note))

    def requeue(self, run_id: str, now: datetime) -> Job:
        """See ports.JobQueue."""
        return self._database.write(lambda c: endings.requeue(c, run_id, now))

    def job(self, run_id: str) -> Job:
        """See ports.JobQueue."""
        return self._database.read(lambda c: job_of(c, run_id))

    def jobs(
        self, states: Sequence[JobState] = tuple(JobState), limit: int | None = None
    ) -> list[Job]:
        """See ports.JobQueue."""
        return self._database.read(lambda c: _list(c, states, limit))

    def place(self, run_id: str) -> int | None:
        """See ports.JobQueue."""
        return self._database.read(lambda c: _place(c, run_id))

    def starting_with(self, prefix: str, limit: int) -> list[str]:
        """See ports.JobQueue."""
        fitting = jobs.c.run_id.startswith(prefix, autoescape=True)
        query = select(jobs.c.run_id).where(fitting).order_by(jobs.c.run_id).limit(limit)
        return self._database.read(lambda c: list(c.scalars(query)))

    def counts(self) -> dict[JobState, int]:
        """See ports.JobQueue."""
        query = select(jobs.c.state, func.count()).group_by(jobs.c.state)
        found = {
            JobState(state): count
            for state, count in self._database.read(lambda c: c.execute(query).all())
        }
        return {state: found.get(state, 0) for state in JobState}

    def report(self, status: WorkerStatus) -> None:
        """See ports.JobQueue."""
        self._database.write(lambda c: _report(c, status))

    def workers(self) -> list[WorkerStatus]:
        """See ports.JobQueue."""
        query = select(workers.c.document).order_by(workers.c.worker)
        documents = self._database.read(lambda c: c.scalars(query).all())
        return [WorkerStatus.model_validate_json(document) for document in documents]


def _list(connection: Connection, states: Sequence[JobState], limit: int | None) -> list[Job]:
    newest_first = (jobs.c.finished_at.desc(), jobs.c.arrival.desc())
    groups: tuple[tuple[Sequence[JobState], Sequence[ColumnElement[Any]]], ...] = (
        ((JobState.RUNNING,), (jobs.c.first_claimed_at, jobs.c.arrival)),
        ((JobState.QUEUED,), IN_TURN),
        (_ENDED, newest_first),
    )
    listed: list[Job] = []
    for group, order in groups:
        wanted = [state for state in group if state in states]
        query = select_jobs(jobs.c.state.in_(wanted)).order_by(*order)
        if limit is not None:
            query = query.limit(limit - len(listed))
        listed += map(to_job, connection.execute(query))
    return listed


def _report(connection: Connection, status: WorkerStatus) -> None:
    if status.slots == 0:
        connection.execute(delete(workers).where(workers.c.worker == status.worker))
        return
    row = {
        "worker": status.worker,
        "host": status.host,
        "seen_at": status.seen_at,
        "document": to_json(status),
    }
    put(connection, workers, row)


def _place(connection: Connection, run_id: str) -> int | None:
    waiting = select(func.count()).where(jobs.c.state == JobState.QUEUED)
    own = select(jobs.c.priority, jobs.c.turn, jobs.c.arrival).where(
        jobs.c.run_id == run_id, jobs.c.state == JobState.QUEUED
    )
    row = connection.execute(own).one_or_none()
    if row is None:
        return None
    before = tuple_(jobs.c.turn, jobs.c.arrival) <= (row.turn, row.arrival)
    sooner = or_(jobs.c.priority > row.priority, and_(jobs.c.priority == row.priority, before))
    return connection.scalar(waiting.where(sooner))
