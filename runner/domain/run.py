"""What was asked of a run, and what happened in it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field

from runner.domain.base import Noun
from runner.domain.image import Image
from runner.domain.limits import Limits
from runner.domain.submission import BenchmarkSubmission
from runner.domain.task import BenchmarkTask, Suite


class RunPlan(Noun):
    """One submission against some tasks of a suite, in a fixed order."""

    run_id: str
    submission: BenchmarkSubmission
    suite: Suite
    tasks: tuple[BenchmarkTask, ...]
    """Those to be run, in the order to be run in."""
    repeats: int = Field(default=1, ge=1)
    parallelism: int = Field(default=3, ge=1)
    seed: int
    limits: Limits
    """The configured ones; tasks may override some."""
    image: Image
    settings: dict[str, Any] = Field(default_factory=dict)
    """The merged settings, secrets redacted, for the record."""
    environment: dict[str, Any] = Field(default_factory=dict)
    started_at: datetime


class EventKind(StrEnum):
    """What can happen in a run."""

    RUN_STARTED = "run_started"
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
    """TASK_FINISHED: status, failure_reason, score, seconds; TASK_RETRIED: reason."""
