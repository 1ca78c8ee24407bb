"""How far a run is: a fold over its events, which may be missing, doubled or late."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import assert_never

from runner.domain.execution import ExecutionProgress, ExecutionStatus, FailureReason
from runner.domain.run import EventKind, RunEvent
from runner.domain.text import one_line

MOST_TASKS = 10**9
"""No log that says more is believed."""
_NAMES_SHOWN = 3
_REASON_CHARACTERS = 120

Attempted = tuple[str, int]
"""A task and which repeat of it."""


def progress_of(events: Iterable[RunEvent], now: datetime | None = None) -> ExecutionProgress:
    """How far a run is by these events, in the order of its log; `now`: see `progress_at`."""
    fold = ProgressFold()
    for event in events:
        fold.add(event)
    return fold.progress_at(now)


@dataclass(frozen=True, kw_only=True)
class TaskEnd:
    """What TASK_FINISHED says, as far as it can be believed."""

    status: ExecutionStatus | None
    reason: FailureReason | None
    score: float | None
    """0 to 100."""
    seconds: float | None

    @property
    def word(self) -> str:
        """The reason where there is one, for it implies the status."""
        ending = self.reason or self.status
        return ending.value if ending else "ended"

    @property
    def has_verdict(self) -> bool:
        """Whether the task stays ended when the run is gone on with."""
        return self.reason is None or not self.reason.retried


def task_end(event: RunEvent) -> TaskEnd:
    """The ending that an event tells of; also RUN_FINISHED has a status and a score."""
    status, reason = event.data.get("status"), event.data.get("failure_reason")
    return TaskEnd(
        status=ExecutionStatus(status) if status in tuple(ExecutionStatus) else None,
        reason=FailureReason(reason) if reason in tuple(FailureReason) else None,
        score=_number(event, "score"),
        seconds=_number(event, "seconds"),
    )


@dataclass(frozen=True, kw_only=True)
class _Latest:
    """The latest attempt at a task and repeat that is over."""

    attempt: int
    at: datetime
    end: TaskEnd | None
    """None: it was given up, and another one follows."""


class ProgressFold:
    """Takes one event after the other, and knows how far the run is."""

    def __init__(self) -> None:
        self.announced = 0
        """Tasks times repeats, as the run said when it began; 0: it has not said."""
        self.running: dict[Attempted, datetime] = {}
        """What runs at present, and since when."""
        self.started_at: datetime | None = None
        self.updated_at: datetime | None = None
        self.status = ExecutionStatus.PENDING
        self.message = ""
        self._run_id = ""
        self._attempts: dict[Attempted, int] = {}
        self._over: dict[Attempted, _Latest] = {}
        self._seen = 0
        self._failed = 0
        self._unseen = 0
        """Tasks that ended before the events that we have."""
        self._beginning: RunEvent | None = None
        self._ended_at: datetime | None = None
        self._postponed_until: datetime | None = None
        self._pace = _Pace()

    def add(self, event: RunEvent) -> None:
        """Takes one event into account; never raises."""
        at = _utc(event.at)
        self._run_id = self._run_id or event.run_id
        self.updated_at = max(at, self.updated_at or at)
        if event.kind is not EventKind.SUBMITTED:
            self.started_at = self.started_at or at
        self._apply(event, at)
        self.message = words(event, self)

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return self.status not in (ExecutionStatus.PENDING, ExecutionStatus.RUNNING)

    @property
    def ended(self) -> int:
        """Tasks that have ended, each repeat for itself."""
        room = max(0, self.announced - self._seen - len(self.running))
        return self._seen + min(self._unseen, room)

    @property
    def total(self) -> int:
        """Tasks that there are; as long as the run has not said, more than have ended."""
        if self.over:
            return max(self.announced, self.ended)
        return max(self.announced or self.ended + 1, self.ended + len(self.running))

    @property
    def progress(self) -> ExecutionProgress:
        """How far the run was at the last event."""
        return self.progress_at(None)

    def progress_at(self, now: datetime | None) -> ExecutionProgress:
        """How far the run is, its completion estimated as of `now`; None: as of the last event."""
        return ExecutionProgress(
            run_id=self._run_id,
            total_tasks=self.total,
            completed_tasks=self.ended - self._failed,
            failed_tasks=self._failed,
            current_task=_names(list(self.running)),
            message=self.message,
            status=self.status,
            started_at=self.started_at,
            updated_at=self.updated_at,
            estimated_completion=self.estimate(now or self.updated_at),
        )

    def estimate(self, now: datetime | None) -> datetime | None:
        """When the run will be whole, from the pace so far.

        None before the first task has ended, and after the last.
        """
        if self.over or not self.announced or now is None:
            return None
        since = max(now, self._postponed_until or now)
        return self._pace.estimate(self.total - self.ended, since)

    # -- one event -----------------------------------------------------------------------------

    def _apply(self, event: RunEvent, at: datetime) -> None:
        match event.kind:
            case EventKind.SUBMITTED | EventKind.RUN_DRAINING:
                pass
            case EventKind.CLAIMED | EventKind.RUN_STARTED | EventKind.RUN_RESUMED:
                self._begin(event, at)
            case EventKind.RUN_POSTPONED:
                self._pause(at, ExecutionStatus.PENDING)
                self._postponed_until = _time(event, "until")
            case EventKind.TASK_STARTED:
                self._start(event, at)
            case EventKind.TASK_RETRIED:
                self._give_up(event, at)
            case EventKind.TASK_FINISHED:
                self._end(event, at)
            case EventKind.RUN_FINISHED:
                self._finish(event, at)

    def _begin(self, event: RunEvent, at: datetime) -> None:
        """A runner takes the run up: what ran under an earlier one does not run any more."""
        if event == self._beginning:
            return
        self._beginning = event
        self.status = ExecutionStatus.RUNNING
        self._postponed_until = None
        self.running = {which: since for which, since in self.running.items() if since > at}
        self._pace.begin(at)
        if event.kind is EventKind.CLAIMED:
            return
        self.announced = _count(event, "total") or self.announced
        self._forget_without_verdict(at)
        before = sum(1 for latest in self._over.values() if latest.end and latest.at <= at)
        self._unseen = max(0, _count(event, "finished") - before)

    def _forget_without_verdict(self, at: datetime) -> None:
        """What has no verdict is run again."""
        for which, latest in list(self._over.items()):
            if latest.at <= at and not (latest.end and latest.end.has_verdict):
                self._note(which, None)

    def _start(self, event: RunEvent, at: datetime) -> None:
        which, attempt = attempted(event), event.attempt or 1
        latest = self._over.get(which)
        if latest and (attempt, at) <= (latest.attempt, latest.at):
            return
        if which in self.running and attempt <= self._attempts[which]:
            return
        if self.over and self._ended_at and at <= self._ended_at:
            return
        self._note(which, None)
        self.running[which], self._attempts[which] = at, attempt
        self._pace.start(which, at)
        self.status = ExecutionStatus.RUNNING

    def _give_up(self, event: RunEvent, at: datetime) -> None:
        self._close(attempted(event), _Latest(attempt=event.attempt or 1, at=at, end=None))

    def _end(self, event: RunEvent, at: datetime) -> None:
        which = attempted(event)
        if which not in self._over and self._unseen and self._is_of_earlier(at):
            self._unseen -= 1
        latest = _Latest(attempt=event.attempt or 1, at=at, end=task_end(event))
        if self._close(which, latest):
            self._pace.end(which, at)

    def _close(self, which: Attempted, latest: _Latest) -> bool:
        """Whether it was news: no later attempt is known of."""
        known = self._over.get(which)
        if known and (known.attempt, known.end is not None) > (latest.attempt, bool(latest.end)):
            return False
        if which in self.running and self._attempts[which] > latest.attempt:
            return False
        self.running.pop(which, None)
        self._note(which, latest)
        return True

    def _note(self, which: Attempted, latest: _Latest | None) -> None:
        """Replaces what is known of its latest attempt that is over, and keeps count."""
        for known, step in ((self._over.pop(which, None), -1), (latest, +1)):
            if known and known.end:
                self._seen += step
                self._failed += step * (known.end.status is not ExecutionStatus.COMPLETED)
        if latest:
            self._over[which] = latest

    def _finish(self, event: RunEvent, at: datetime) -> None:
        if self._is_of_earlier(at):
            return
        self._ended_at = at
        self._pause(at, task_end(event).status or self._inferred_status())

    def _inferred_status(self) -> ExecutionStatus:
        whole = self.ended >= self.announced
        return ExecutionStatus.COMPLETED if whole else ExecutionStatus.FAILED

    def _pause(self, at: datetime, status: ExecutionStatus) -> None:
        self._pace.pause(at)
        self.running.clear()
        self.status = status

    def _is_of_earlier(self, at: datetime) -> bool:
        """Whether that was before the present runner took the run up."""
        return self._beginning is not None and at < _utc(self._beginning.at)


class _Pace:
    """How long tasks take and how many run at once, by the clock of the events."""

    def __init__(self) -> None:
        self._since: dict[Attempted, datetime] = {}
        """When the first attempt at what is not over began: its retries are part of its cost."""
        self._at: datetime | None = None
        self._tasks = 0
        self._task_seconds = 0.0
        self._busy_seconds = 0.0
        self._slot_seconds = 0.0

    def begin(self, at: datetime) -> None:
        """Nobody worked until now: the time since the last event does not count."""
        self._since = {which: since for which, since in self._since.items() if since > at}
        self._at = at

    def pause(self, at: datetime) -> None:
        """Nobody works from now on."""
        self._pass(at)
        self._since.clear()

    def start(self, which: Attempted, at: datetime) -> None:
        """An attempt begins."""
        self._pass(at)
        self._since.setdefault(which, at)

    def end(self, which: Attempted, at: datetime) -> None:
        """A task is over; it counts if its start was seen."""
        self._pass(at)
        since = self._since.pop(which, None)
        if since is not None:
            self._tasks += 1
            self._task_seconds += _seconds(since, at)

    def estimate(self, remaining: int, now: datetime) -> datetime | None:
        """When `remaining` tasks, those that run included, will have ended."""
        if not self._tasks or remaining <= 0:
            return None
        mean = self._task_seconds / self._tasks
        done = sum(min(mean, _seconds(since, now)) for since in self._since.values())
        at_once = self._slot_seconds / self._busy_seconds if self._busy_seconds else 1.0
        seconds = max(0.0, mean * remaining - done) / max(1.0, min(at_once, remaining))
        try:
            return now + timedelta(seconds=seconds)
        except OverflowError:
            return None

    def _pass(self, at: datetime) -> None:
        if self._at is not None and self._since:
            seconds = _seconds(self._at, at)
            self._busy_seconds += seconds
            self._slot_seconds += seconds * len(self._since)
        self._at = max(at, self._at or at)


# -- words ---------------------------------------------------------------------------------------


def words(event: RunEvent, fold: ProgressFold) -> str:
    """One inert line that says what has happened, once `fold` has taken it into account."""
    run, name = f"run {one_line(event.run_id)}", name_of(attempted(event))
    total = fold.announced or "?"
    match event.kind:
        case EventKind.SUBMITTED:
            said = f"{run}: waits in the queue"
        case EventKind.CLAIMED:
            said = f"{run}: a worker has it{_worker(event)}"
        case EventKind.RUN_STARTED:
            said = f"{run}: {total} tasks"
        case EventKind.RUN_RESUMED:
            before = _count(event, "finished")
            said = f"{run} goes on: {before} of {total} tasks were judged before"
        case EventKind.RUN_POSTPONED:
            said = f"{run} waits{_until(event)}{_because(event)}"
        case EventKind.TASK_STARTED:
            said = f"{name}: started"
        case EventKind.TASK_RETRIED:
            said = f"{name}: tried again{_because(event)}"
        case EventKind.TASK_FINISHED:
            said = f"[{fold.ended}/{total}] {name}: {_verdict(task_end(event))}"
        case EventKind.RUN_DRAINING:
            said = "stopping: what runs may finish; interrupt again to stop it now"
        case EventKind.RUN_FINISHED:
            said = f"{run}: {task_end(event).word}"
        case _:
            assert_never(event.kind)
    return said


def attempted(event: RunEvent) -> Attempted:
    """The task and repeat that an event is about."""
    return event.task_id or "", event.repeat or 1


def name_of(which: Attempted) -> str:
    """As a person reads it, inert."""
    task_id, repeat = which
    return one_line(task_id) + (f" #{repeat}" if repeat > 1 else "")


def _names(running: list[Attempted]) -> str | None:
    if not running:
        return None
    shown = ", ".join(map(name_of, running[:_NAMES_SHOWN]))
    hidden = len(running) - _NAMES_SHOWN
    return f"{shown} and {hidden} more" if hidden > 0 else shown


def _verdict(end: TaskEnd) -> str:
    parts = [end.word]
    parts += [f"score {end.score:.1f}"] if end.score is not None else []
    parts += [f"{end.seconds:.2f} s"] if end.seconds is not None else []
    return ", ".join(parts)


def _worker(event: RunEvent) -> str:
    worker = one_line(str(event.data.get("worker", "")), _REASON_CHARACTERS)
    return f" ({worker})" if worker else ""


def _because(event: RunEvent) -> str:
    reason = one_line(str(event.data.get("reason", "")), _REASON_CHARACTERS)
    return f": {reason}" if reason else ""


def _until(event: RunEvent) -> str:
    until = _time(event, "until")
    return f" until {clock_time(until, _utc(event.at).date())}" if until else ""


def clock_time(at: datetime, today: date) -> str:
    """`12:30:05 UTC`, with its date unless that is `today`'s (in UTC)."""
    at = _utc(at)
    return f"{at:%H:%M:%S} UTC" if at.date() == today else f"{at:%Y-%m-%d %H:%M:%S} UTC"


# -- what an event says, as far as it can be believed --------------------------------------------


def _number(event: RunEvent, name: str) -> float | None:
    given = event.data.get(name)
    if not isinstance(given, int | float):
        return None
    try:
        return float(given)
    except OverflowError:
        return None


def _count(event: RunEvent, name: str) -> int:
    given = event.data.get(name)
    return given if isinstance(given, int) and 0 < given <= MOST_TASKS else 0


def _time(event: RunEvent, name: str) -> datetime | None:
    given = event.data.get(name)
    if isinstance(given, datetime):
        return _utc(given)
    try:
        return _utc(datetime.fromisoformat(given)) if isinstance(given, str) else None
    except ValueError:
        return None


def _utc(at: datetime) -> datetime:
    """Aware and in UTC, so that any two can be compared; at the ends of time, as near as can be."""
    if at.tzinfo is None:
        return at.replace(tzinfo=UTC)
    try:
        return at.astimezone(UTC)
    except OverflowError:
        return at.replace(tzinfo=UTC)


def _seconds(since: datetime, until: datetime) -> float:
    return max(0.0, (until - since).total_seconds())
