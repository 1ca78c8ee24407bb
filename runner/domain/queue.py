"""What waits to be evaluated, who works on it, and by what right."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from runner.domain.base import Noun
from runner.domain.breaker import BreakerStatus
from runner.domain.execution import ExecutionProgress
from runner.domain.submission import BenchmarkSubmission

MOST_PRIORITY = 100


class JobState(StrEnum):
    """Where a job stands; the last three are for good, unless an operator puts it back."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    """There is a result, also where that result is `build_failed`."""
    FAILED = "failed"
    """There is no verdict, and the fault was ours."""
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether no worker will touch it any more."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


class JobOptions(Noun):
    """How a submission is to be evaluated; None: as the worker's settings or the submission say."""

    suite: str | None = None
    tasks: tuple[str, ...] = ()
    """Shell patterns of task ids; empty: all."""
    limit: int | None = Field(default=None, ge=1)
    """At most this many tasks."""
    repeats: int | None = Field(default=None, ge=1)
    seed: int | None = None


class Schedule(Noun):
    """When a job is to be run, before others or after."""

    priority: int = Field(default=0, ge=-MOST_PRIORITY, le=MOST_PRIORITY)
    """Higher first."""
    not_before: datetime | None = None


class Job(Noun):
    """One submission on its way through the queue, as it stands. Its id is its run's."""

    run_id: str
    submission: BenchmarkSubmission
    """Without credentials: those are sealed beside it."""
    options: JobOptions = JobOptions()
    priority: int = 0
    not_before: datetime | None = None
    """Not claimed earlier: as its submitter wished, or because something was out of order."""
    submitted_at: datetime
    state: JobState = JobState.QUEUED
    note: str = ""
    """One line: why it waits, or how it ended."""
    claims: int = Field(default=0, ge=0)
    """How often a worker has begun or gone on with it."""
    losses: int = Field(default=0, ge=0)
    """How often a worker was lost while it worked on it."""
    worker: str = ""
    """The worker that has it, or had it last."""
    first_claimed_at: datetime | None = None
    finished_at: datetime | None = None
    cancel_requested: bool = False


class NewJob(Noun):
    """What is put into the queue."""

    run_id: str
    submission: BenchmarkSubmission
    sealed: bytes = b""
    """Its credentials, encrypted; empty: it has none."""
    content_digest: str = ""
    """Of the submission's files as received."""
    options: JobOptions = JobOptions()
    schedule: Schedule = Schedule()
    submitted_at: datetime


class WorkerIdentity(Noun):
    """One worker process."""

    worker: str
    """Unique for each process that ever was."""
    host: str
    """Unique for each state directory: workers of one host can see whether others live."""


class Lease(Noun):
    """The right to work on a job. Whoever's `token` is not the job's any more may not commit."""

    run_id: str
    worker: str
    host: str
    token: int
    """Counts the claims of this job."""
    beat: int = 0
    """Counts its renewals: an observer that sees it stand still knows that nobody renews it."""


class Claim(Noun):
    """A job, and the right to work on it."""

    lease: Lease
    job: Job
    sealed: bytes = b""


class JobOutcome(Noun):
    """How a job ends; settles its quota."""

    state: JobState
    note: str = ""
    failure_reason: str = ""
    """`build_failed`, `internal_error`; empty where the result says all."""


class WorkerStatus(Noun):
    """One worker process, as its last heartbeat left it."""

    worker: str
    host: str
    started_at: datetime
    seen_at: datetime
    slots: int
    running: tuple[str, ...] = ()
    """The runs it works on."""
    draining: bool = False


class QueueStatus(Noun):
    """What `agenttrace queue` and `get_queue_status` show."""

    queue_size: int
    """Jobs that wait."""
    active_executions: int
    """Jobs that run."""
    finished: int = 0
    failed: int = 0
    cancelled: int = 0
    workers: tuple[WorkerStatus, ...] = ()
    circuit_breakers: tuple[BreakerStatus, ...] = ()
    jobs: tuple[Job, ...] = ()
    """Running ones, then waiting ones in the order in which they will be claimed; the first few."""
    progress: dict[str, ExecutionProgress] = Field(default_factory=dict)
    """By run id, of the running ones among them."""
