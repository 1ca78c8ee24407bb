"""What `agenttrace runs watch` does: a run's events, from its log, as they come."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runner.cli.failure import inert
from runner.domain import Job, JobState, RunEvent
from runner.errors import InfrastructureError, StoreUnavailable, UsageError

if TYPE_CHECKING:
    from runner.bootstrap.queueing import JobStanding
    from runner.config import Settings

POLL_SECONDS = 0.5
ASK_SECONDS = 2.0
"""Between two looks at the queue: a database has more to do than this."""


def watch_run(settings: Settings, run: str, *, as_json: bool) -> None:
    """Shows the run until it ends.

    Raises UsageError when no run or several match, InfrastructureError when its runner is gone, or
    its job has failed, before its end.
    """
    directory, standing = _find(settings, run)
    queued = QueuedRun(settings, standing)
    events = _followed(directory, queued)
    if as_json:
        _print_events(events)
    else:
        _display(events, queued)


def _find(settings: Settings, run: str) -> tuple[Path, JobStanding | None]:
    """Where its evidence is or will be, and its job where it was queued."""
    from runner.bootstrap import queueing
    from runner.records import find_run

    root = settings.storage.runs_dir.expanduser()
    try:
        directory = find_run(root, run)
    except UsageError as unknown:
        standing = queueing.job_if_any(settings, run)
        if standing is None:
            raise unknown from None
        return root / standing.job.run_id, standing
    return directory, _standing(settings, directory.name)


def _standing(settings: Settings, run_id: str) -> JobStanding | None:
    """None also where the database does not answer: a run that has its log can be watched."""
    from runner.bootstrap import queueing

    with suppress(StoreUnavailable):
        return queueing.job_if_any(settings, run_id)
    return None


class QueuedRun:
    """A run as its queue sees it, looked at every now and then; it may be in none."""

    def __init__(
        self,
        settings: Settings,
        standing: JobStanding | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._asked = clock()
        self.standing = standing

    @property
    def job(self) -> Job | None:
        """As it was when last looked at."""
        return self.standing.job if self.standing else None

    def is_awaited(self) -> bool:
        """Whether a worker has it or will have it."""
        if self.standing and self._clock() - self._asked >= ASK_SECONDS:
            self.standing = _standing(self._settings, self.standing.job.run_id) or self.standing
            self._asked = self._clock()
        return self.job is not None and not self.job.state.final

    def where(self) -> str:
        """Why nothing happens, as far as the queue knows; empty while a worker has it."""
        if self.standing is None or self.standing.job.state is not JobState.QUEUED:
            return ""
        place = f", number {self.standing.place} in the queue" if self.standing.place else ""
        note = f": {self.standing.job.note}" if self.standing.job.note else ""
        return f"run {self.standing.job.run_id} waits{place}{note}"


def _followed(directory: Path, queued: QueuedRun) -> Iterator[RunEvent | None]:
    """As `follow`; a job that ended without a run's ending decides itself how that is said."""
    from runner.records.follow import follow

    try:
        yield from follow(directory, POLL_SECONDS, queued.is_awaited)
    except InfrastructureError:
        job = queued.job
        if job is None:
            raise
        if job.state is JobState.FAILED:
            raise InfrastructureError(
                f"run {job.run_id} has failed{f': {job.note}' if job.note else ''}",
                remedy=f"`agenttrace queue retry {job.run_id}` puts it back into the queue",
            ) from None


def _print_events(events: Iterator[RunEvent | None]) -> None:
    """One a line; ASCII alone, so that no character in it acts on a terminal."""
    for event in events:
        if event is not None:
            click.echo(json.dumps(event.model_dump(mode="json"), ensure_ascii=True))


def _display(events: Iterator[RunEvent | None], queued: QueuedRun) -> None:
    from runner.domain.progress import ProgressFold
    from runner.reporting import LiveProgress, progress_for

    fold, said = ProgressFold(), ""
    with progress_for(sys.stdout) as progress:
        for event in events:
            if event is not None:
                fold.add(event)
                progress.notify(event)
            elif (where := queued.where()) != said:
                said = where
                progress.say(where or "a worker has it")
    if not fold.over:
        _say_ending(queued.job)
    elif isinstance(progress, LiveProgress):  # it has taken itself away
        click.echo(inert(fold.message))


def _say_ending(job: Job | None) -> None:
    """Of a job that ended without a run."""
    if job is not None:
        note = f": {job.note}" if job.note else ""
        click.echo(inert(f"run {job.run_id}: {job.state.value}{note}"))
