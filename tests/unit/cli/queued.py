"""A queue that the commands ask, as a recording fake, and the jobs in it."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

from runner.domain import (
    AgentEndpoint,
    BenchmarkSubmission,
    ExecutionProgress,
    Job,
    JobState,
    QueueStatus,
)

from .conftest import NOW, FakeBootstrap

QUESTIONS = (
    "queue_status",
    "job",
    "job_if_any",
    "job_events",
    "cancel",
    "retry",
    "quota",
    "breakers",
)


def install(fake: FakeBootstrap) -> None:
    """Makes `runner.bootstrap.queueing` answer as `fake.answers` says."""
    answers = {name: fake.answer(name) for name in QUESTIONS}
    sys.modules["runner.bootstrap"].queueing = SimpleNamespace(**answers)  # type: ignore[attr-defined]


def job(run_id: str = "r1", state: JobState = JobState.QUEUED, **fields: Any) -> Job:
    submission = BenchmarkSubmission(
        agent_name="echo\x1b[2J",
        agent_version="1.0.0",
        submitted_by="team",
        agent_endpoint=AgentEndpoint(endpoint_type="container", image="x"),
    )
    return Job(run_id=run_id, submission=submission, submitted_at=NOW, state=state, **fields)


def status(*jobs: Job, **fields: Any) -> QueueStatus:
    waiting = [each for each in jobs if each.state is JobState.QUEUED]
    counts = {"queue_size": len(waiting), "active_executions": len(jobs) - len(waiting)}
    return QueueStatus(**(counts | {"jobs": jobs} | fields))


def standing(job: Job, place: int | None = None) -> Any:
    from runner.bootstrap.queueing import JobStanding

    progress = ExecutionProgress(run_id=job.run_id, total_tasks=0)
    return JobStanding(job=job, place=place, progress=progress)
