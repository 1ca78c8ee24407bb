"""What was asked of a run, and what happened in it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import Field

from runner.domain.base import Noun
from runner.domain.execution import BenchmarkExecution, ExecutionStatus, TaskExecution
from runner.domain.image import Image
from runner.domain.limits import Limits
from runner.domain.submission import BenchmarkSubmission
from runner.domain.task import BenchmarkTask, Suite


class RunPlan(Noun):
    """One submission against some tasks of a suite, in a fixed order."""

    run_id: str
    submission: BenchmarkSubmission
    suite: Suite
    suite_source: str = ""
    """The name or directory that it was found by."""
    tasks: tuple[BenchmarkTask, ...]
    """Those to be run, in the order to be run in."""
    repeats: int = Field(default=1, ge=1)
    parallelism: int = Field(default=3, ge=1)
    seed: int
    limits: Limits
    """The configured ones; tasks may override some."""
    image: Image | None
    """None: the agent is behind a URL."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """The merged settings, secrets redacted, for the record."""
    environment: dict[str, Any] = Field(default_factory=dict)
    runner_version: str = ""
    started_at: datetime
    replay_of: str = ""
    """The run whose recorded exchanges take the place of models and tools."""
    queued: bool = False
    """It belongs to the queue, which goes on with it by itself."""


class EventKind(StrEnum):
    """What can happen in a run."""

    SUBMITTED = "submitted"
    CLAIMED = "claimed"
    """A worker has begun, or goes on where another one was lost."""
    RUN_STARTED = "run_started"
    RUN_RESUMED = "run_resumed"
    RUN_POSTPONED = "run_postponed"
    TASK_STARTED = "task_started"
    TASK_RETRIED = "task_retried"
    TASK_FINISHED = "task_finished"
    RUN_DRAINING = "run_draining"
    RUN_FINISHED = "run_finished"


class RunEvent(Noun):
    """One thing that happened in a run."""

    kind: EventKind
    at: datetime
    run_id: str
    task_id: str | None = None
    repeat: int | None = None
    attempt: int | None = None
    data: dict[str, Any] = Field(default_factory=dict)
    """RUN_STARTED: total (attempts planned); RUN_RESUMED: total, finished; TASK_FINISHED: status,
    failure_reason, score, seconds; TASK_RETRIED: reason, failure_reason; RUN_POSTPONED: reason,
    until (ISO 8601); CLAIMED: worker, token; RUN_FINISHED: status, score,
    reason (of a run without a result)."""


class NumberedEvent(Noun):
    """An event, and its place in its run's log, from 1 without gaps."""

    number: int
    event: RunEvent


class RunSummary(Noun):
    """One line about a run, as its directory tells it."""

    run_id: str
    path: Path
    status: ExecutionStatus
    """RUNNING only while its runner lives; a run whose runner died is FAILED, with a note."""
    agent_name: str = ""
    agent_version: str = ""
    suite_name: str = ""
    suite_version: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    tasks_total: int = 0
    """Tasks times repeats."""
    tasks_finished: int = 0
    score: float | None = None
    """0 to 100; None until the run is finished."""
    replay_of: str = ""
    """The run that it is a replay of."""
    notes: tuple[str, ...] = ()
    """What is missing or damaged, one line each."""


class RecordedAttempt(Noun):
    """One attempt's directory; `execution` is None where it cannot be read, and `note` says why."""

    path: Path
    task_id: str
    repeat: int
    attempt: int
    execution: TaskExecution | None
    note: str = ""


class LoadedRun(Noun):
    """All that a run's directory holds of it."""

    summary: RunSummary
    execution: BenchmarkExecution | None
    """None while the run is not finished, or where its file is damaged."""
    attempts: tuple[RecordedAttempt, ...] = ()
    events: tuple[RunEvent, ...] = ()
