"""The queue, its workers, quotas and circuit breakers, as a person reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from runner.domain import (
    BreakerState,
    BreakerStatus,
    ExecutionProgress,
    Job,
    JobState,
    NumberedEvent,
    QueueStatus,
    QuotaEntry,
    QuotaUse,
    SubmissionQuota,
    WorkerStatus,
)
from runner.domain.progress import ProgressFold, clock_time
from runner.reporting.console import field, inert, plain_table
from runner.reporting.escape import shorten
from runner.reporting.progress import clock_cell

_NOTE_CHARACTERS = 200
_NAME_CHARACTERS = 40

_STATE_STYLES = {
    JobState.QUEUED: "dim",
    JobState.RUNNING: "cyan",
    JobState.FINISHED: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "dim",
}
_BREAKER_STYLES = {
    BreakerState.CLOSED: "green",
    BreakerState.HALF_OPEN: "yellow",
    BreakerState.OPEN: "red",
}


def render_queue(status: QueueStatus, console: Console, now: datetime) -> None:
    """What runs, what waits in the order of claiming, who works, what is out of order."""
    console.print(queue_view(status, now))


def queue_view(status: QueueStatus, now: datetime) -> Group:
    """The same as one renderable, for a display that is refreshed."""
    parts: list[RenderableType] = [_headline(status)]
    if status.jobs:
        parts += [Text(), _jobs_table(status, now)]
    parts += _more(status)
    if status.workers:
        parts += [Text(), _workers_table(status.workers, now)]
    elif status.queue_size:
        parts.append(Text("No worker runs: `agenttrace worker` starts one.", style="yellow"))
    troubled = [b for b in status.circuit_breakers if b.breaker.state is not BreakerState.CLOSED]
    if troubled:
        parts += [Text(), _breakers_table(troubled, now)]
    return Group(*parts)


def render_job(
    job: Job,
    console: Console,
    now: datetime,
    *,
    place: int | None = None,
    entry: QuotaEntry | None = None,
    progress: ExecutionProgress | None = None,
    events: Sequence[NumberedEvent] = (),
) -> None:
    """One job in full: where it stands, its quota, all that has happened to it."""
    for name, value in _job_fields(job, now, place, progress):
        field(console, name, value)
    if entry:
        field(console, "quota", _entry_words(entry))
    if events:
        console.print()
        console.print(_events_table(events))


def render_changed(jobs: Iterable[Job], console: Console) -> None:
    """A line for each job that was cancelled or put back: what became of it."""
    for job in jobs:
        asked = job.state is JobState.RUNNING and job.cancel_requested
        words = "is asked to stop" if asked else job.state.value
        console.print(Text.assemble(_text(job.run_id), ": ", words))


def render_quota(
    quota: SubmissionQuota,
    uses: Sequence[QuotaUse],
    entries: Sequence[QuotaEntry],
    console: Console,
    now: datetime,
) -> None:
    """What each submitter has used, and the ledger that says so."""
    if not uses:
        console.print(Text("Nobody has submitted anything."))
        return
    names = ("in 24 hours", "in 7 days")
    table = plain_table("submitter", *names, "next free", right=names, fold=("submitter",))
    for use in uses:
        free = "now" if use.next_free_at is None else _time(use.next_free_at, now)
        style = "yellow" if use.exhausted(quota) else ""
        day, week = f"{use.day} of {quota.per_day}", f"{use.week} of {quota.per_week}"
        table.add_row(_name(use.submitter), Text(day, style), Text(week, style), Text(free))
    console.print(table)
    if entries:
        console.print()
        console.print(_ledger_table(entries, now))


def render_breakers(breakers: Sequence[BreakerStatus], console: Console, now: datetime) -> None:
    """Each breaker that has anything to say."""
    if not breakers:
        console.print(Text("All circuit breakers are closed, and none has seen a failure."))
        return
    console.print(_breakers_table(breakers, now))


# -- the queue at a glance -----------------------------------------------------------------------


def _headline(status: QueueStatus) -> Text:
    if not status.queue_size and not status.active_executions:
        now = "Nothing runs and nothing waits"
    else:
        now = f"{status.active_executions} running, {status.queue_size} waiting"
    ended = f"{status.finished} finished, {status.failed} failed, {status.cancelled} cancelled"
    return Text.assemble((now, "bold"), "; ", ended)


def _more(status: QueueStatus) -> list[RenderableType]:
    hidden = status.queue_size + status.active_executions - len(status.jobs)
    return [Text(f"and {hidden} more", style="dim")] if status.jobs and hidden > 0 else []


def _jobs_table(status: QueueStatus, now: datetime) -> Table:
    fold = ("agent", "submitter", "note")
    table = plain_table("run", "state", "tasks", "for", *fold, right=("tasks", "for"), fold=fold)
    progress: Mapping[str, ExecutionProgress] = status.progress
    for job in status.jobs:
        table.add_row(*_job_row(job, progress.get(job.run_id), now))
    return table


def _job_row(job: Job, progress: ExecutionProgress | None, now: datetime) -> Iterable[Text]:
    since = job.first_claimed_at if job.state is JobState.RUNNING else job.submitted_at
    yield _text(job.run_id)
    yield _state(job)
    yield _tasks(progress)
    yield Text(_age(since or job.submitted_at, now))
    yield _name(f"{job.submission.agent_name} {job.submission.agent_version}")
    yield _name(job.submission.submitted_by or "-")
    yield Text(_job_note(job, progress, now))


def _state(job: Job) -> Text:
    stopping = job.state is JobState.RUNNING and job.cancel_requested
    return Text("stopping" if stopping else job.state.value, _STATE_STYLES[job.state])


def _tasks(progress: ExecutionProgress | None) -> Text:
    if progress is None or not progress.total_tasks:
        return Text("-", style="dim")
    return Text(f"{_ended(progress)}/{progress.total_tasks}")


def _ended(progress: ExecutionProgress) -> int:
    return progress.completed_tasks + progress.failed_tasks


def _job_note(job: Job, progress: ExecutionProgress | None, now: datetime) -> str:
    parts = []
    if job.state is JobState.QUEUED and job.not_before and job.not_before > now:
        parts.append(f"not before {_time(job.not_before, now)}")
    if job.priority:
        parts.append(f"priority {job.priority:+}")
    if progress and progress.estimated_completion:
        parts.append(f"until about {_time(progress.estimated_completion, now)}")
    if job.note:
        parts.append(shorten(job.note, _NOTE_CHARACTERS))
    return "; ".join(parts)


def _workers_table(workers: Sequence[WorkerStatus], now: datetime) -> Table:
    right = ("runs", "up", "seen")
    table = plain_table("worker", *right, "state", right=right, fold=("worker",))
    for worker in workers:
        table.add_row(
            _text(worker.worker),
            Text(f"{len(worker.running)}/{worker.slots}"),
            Text(_age(worker.started_at, now)),
            Text(f"{_age(worker.seen_at, now)} ago"),
            Text("draining", style="yellow") if worker.draining else Text("working", style="green"),
        )
    return table


def _breakers_table(breakers: Sequence[BreakerStatus], now: datetime) -> Table:
    fold = ("circuit breaker", "last failure")
    table = plain_table(
        "circuit breaker", "state", "failures", "tried at", "last failure", fold=fold
    )
    for each in breakers:
        state = each.breaker.state
        table.add_row(
            _text(each.name),
            Text(state.value.replace("_", " "), _BREAKER_STYLES[state]),
            Text(str(each.breaker.failures)),
            Text(_time(each.retry_at, now) if each.retry_at else "-"),
            _text(each.breaker.last_failure),
        )
    return table


# -- one job -------------------------------------------------------------------------------------


def _job_fields(
    job: Job, now: datetime, place: int | None, progress: ExecutionProgress | None
) -> Iterable[tuple[str, Text]]:
    yield "run", _text(job.run_id)
    yield "state", _state(job) + Text(f", number {place} in the queue" if place else "")
    submission = job.submission
    yield "agent", _text(f"{submission.agent_name} {submission.agent_version}")
    yield "submitter", _text(submission.submitted_by or "-")
    yield "submitted", Text(f"{_time(job.submitted_at, now)}, {_age(job.submitted_at, now)} ago")
    if job.not_before:
        yield "not before", Text(_time(job.not_before, now))
    if job.priority:
        yield "priority", Text(f"{job.priority:+}")
    if job.claims:
        yield "worker", _text(f"{job.worker} (claim number {job.claims})")
    if progress and progress.updated_at:
        yield from _progress_fields(progress, now)
    if job.finished_at:
        yield "ended", Text(_time(job.finished_at, now))
    if job.note:
        yield "note", _text(job.note)


def _progress_fields(progress: ExecutionProgress, now: datetime) -> Iterable[tuple[str, Text]]:
    if progress.started_at:
        failed = f", {progress.failed_tasks} of them failed" if progress.failed_tasks else ""
        yield "tasks", _tasks(progress) + Text(f" ended{failed}")
    if progress.current_task:
        yield "now", _text(progress.current_task)
    if progress.estimated_completion:
        yield "until about", Text(_time(progress.estimated_completion, now))


def _entry_words(entry: QuotaEntry) -> str:
    reason = f" ({entry.refund_reason.value})" if entry.refund_reason else ""
    return entry.state.value + reason


def _events_table(events: Sequence[NumberedEvent]) -> Table:
    table = plain_table("number", "at (UTC)", "event", right=("number",), fold=("event",))
    fold = ProgressFold()
    for each in events:
        fold.add(each.event)
        at = each.event.at.astimezone(UTC)
        table.add_row(Text(str(each.number)), Text(f"{at:%Y-%m-%d %H:%M:%S}"), _text(fold.message))
    return table


def _ledger_table(entries: Sequence[QuotaEntry], now: datetime) -> Table:
    table = plain_table("run", "submitter", "reserved at", "state", fold=("submitter", "state"))
    for entry in entries:
        table.add_row(
            _text(entry.run_id),
            _name(entry.submitter),
            Text(_time(entry.reserved_at, now)),
            Text(_entry_words(entry)),
        )
    return table


# -- cells ---------------------------------------------------------------------------------------


def _text(words: str) -> Text:
    return inert(shorten(words, _NOTE_CHARACTERS))


def _name(words: str) -> Text:
    return inert(shorten(words, _NAME_CHARACTERS))


def _time(at: datetime, now: datetime) -> str:
    return clock_time(at, now.astimezone(UTC).date())


def _age(since: datetime, now: datetime) -> str:
    return clock_cell((now - since).total_seconds())
