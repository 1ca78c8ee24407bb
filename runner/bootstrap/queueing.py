"""What a person asks of the queue: where things stand, cancel, put back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

from runner.bootstrap.policies import breaker_policy, quota_of
from runner.bootstrap.storing import has_store, store_of
from runner.config import Settings
from runner.domain import (
    BreakerStatus,
    ExecutionProgress,
    Job,
    JobState,
    NumberedEvent,
    QueueStatus,
    QuotaEntry,
    QuotaUse,
    SubmissionQuota,
)
from runner.domain.base import Noun
from runner.domain.progress import progress_of
from runner.errors import UsageError
from runner.orchestrator.breakers import SharedBreakers
from runner.ports import BreakerStore, JobQueue, RunLedger
from runner.store import Store

JOBS_SHOWN = 20
_WHERE_TO_LOOK = "`agenttrace queue` shows what is there"


class JobStanding(Noun):
    """One job, and where it stands."""

    job: Job
    place: int | None = None
    """In the order of claiming, 1 is next; None unless it waits."""
    quota_entry: QuotaEntry | None = None
    progress: ExecutionProgress
    """By its events; PENDING and empty before there are any."""


class QuotaReport(Noun):
    """What submitters have, and what they have used."""

    quota: SubmissionQuota
    """Each submitter's."""
    uses: tuple[QuotaUse, ...]
    entries: tuple[QuotaEntry, ...]
    """The ledger of these submitters, oldest first."""


def queue_status(settings: Settings, jobs: int = JOBS_SHOWN) -> QueueStatus:
    """The queue at a glance, with at most so many jobs; and their progress."""
    with store_of(settings) as store:
        return status_of(settings, store, jobs)


def status_of(settings: Settings, store: Store, jobs: int = JOBS_SHOWN) -> QueueStatus:
    """The same, of a store that is open."""
    counts = store.queue.counts()
    shown = store.queue.jobs((JobState.RUNNING, JobState.QUEUED), jobs)
    return QueueStatus(
        queue_size=counts.get(JobState.QUEUED, 0),
        active_executions=counts.get(JobState.RUNNING, 0),
        finished=counts.get(JobState.FINISHED, 0),
        failed=counts.get(JobState.FAILED, 0),
        cancelled=counts.get(JobState.CANCELLED, 0),
        workers=tuple(store.queue.workers()),
        circuit_breakers=_breakers(settings, store.breakers),
        jobs=tuple(shown),
        progress=_progress(store.ledger, shown),
    )


def job(settings: Settings, run_id: str) -> JobStanding:
    """One job by its id, or as much of it as is unique; raises UsageError."""
    with store_of(settings) as store:
        found = _find(store.queue, run_id)
        submitter = found.submission.submitted_by
        entries = store.queue.quota_entries(submitter)
        return JobStanding(
            job=found,
            place=store.queue.place(found.run_id),
            quota_entry=next((e for e in reversed(entries) if e.run_id == found.run_id), None),
            progress=_progress_of(store.ledger, found.run_id),
        )


def job_if_any(settings: Settings, run_id: str) -> JobStanding | None:
    """The job of a run that need not have been queued; no database is made to find that out.

    Raises UsageError when several match.
    """
    if not has_store(settings):
        return None
    with store_of(settings) as store:
        fitting = _fitting(store.queue, run_id)
    return job(settings, run_id) if fitting else None


def job_events(settings: Settings, run_id: str) -> tuple[NumberedEvent, ...]:
    """What has happened in a job, in order; raises UsageError."""
    with store_of(settings) as store:
        return tuple(store.ledger.events(_find(store.queue, run_id).run_id))


def cancel(settings: Settings, run_ids: Sequence[str]) -> tuple[Job, ...]:
    """Waiting jobs are cancelled and refunded, running ones asked to stop.

    Raises UsageError: for an id that fits no job or several, before any is cancelled.
    """
    with store_of(settings) as store:
        ids = _find_all(store.queue, run_ids)
        note = "cancelled by an operator"
        return tuple(store.queue.cancel(run_id, _now(), note) for run_id in ids)


def retry(settings: Settings, run_ids: Sequence[str]) -> tuple[Job, ...]:
    """Ended jobs wait again, and go on where they stopped. Raises UsageError as `cancel` does."""
    with store_of(settings) as store:
        ids = _find_all(store.queue, run_ids)
        return tuple(store.queue.requeue(run_id, _now()) for run_id in ids)


def quota(settings: Settings, submitter: str | None = None) -> QuotaReport:
    """What one submitter, or each of all, has used."""
    each = quota_of(settings)
    with store_of(settings) as store:
        entries = store.queue.quota_entries(submitter)
        names = [submitter] if submitter is not None else sorted({e.submitter for e in entries})
        uses = [store.queue.quota_use(name, each, _now()) for name in names]
        return QuotaReport(quota=each, uses=tuple(uses), entries=tuple(entries))


def breakers(settings: Settings) -> tuple[BreakerStatus, ...]:
    """The circuit breakers that have anything to say."""
    with store_of(settings) as store:
        return _breakers(settings, store.breakers)


def _find_all(queue: JobQueue, wanted: Sequence[str]) -> list[str]:
    """Each of them once."""
    return list(dict.fromkeys(_find(queue, each).run_id for each in wanted))


def _find(queue: JobQueue, wanted: str) -> Job:
    """As `records.find_run` does; raises UsageError when no job or several match."""
    fitting = _fitting(queue, wanted)
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise UsageError(f"there is no job {wanted!r} in the queue", remedy=_WHERE_TO_LOOK)
    names = ", ".join(each.run_id for each in fitting[:3])
    raise UsageError(
        f"several jobs start with {wanted!r}: {names}{', ...' if len(fitting) > 3 else ''}",
        remedy="give more of the id",
    )


def _fitting(queue: JobQueue, wanted: str) -> list[Job]:
    """The job of that id, else those whose ids start with it."""
    with suppress(UsageError):
        return [queue.job(wanted)]
    return [queue.job(run_id) for run_id in queue.starting_with(wanted, 4)] if wanted else []


def _progress(ledger: RunLedger, jobs: Sequence[Job]) -> dict[str, ExecutionProgress]:
    running = [each.run_id for each in jobs if each.state is JobState.RUNNING]
    return {run_id: _progress_of(ledger, run_id) for run_id in running}


def _progress_of(ledger: RunLedger, run_id: str) -> ExecutionProgress:
    return progress_of((each.event for each in ledger.events(run_id)), _now())


def _breakers(settings: Settings, store: BreakerStore) -> tuple[BreakerStatus, ...]:
    return SharedBreakers(store, breaker_policy(settings)).statuses()


def _now() -> datetime:
    return datetime.now(UTC)
