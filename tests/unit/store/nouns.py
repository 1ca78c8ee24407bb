"""Jobs, executions and moments for tests of the store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from runner.domain import (
    AgentEndpoint,
    BenchmarkCategory,
    BenchmarkExecution,
    BenchmarkSubmission,
    CategoryExecution,
    EventKind,
    ExecutionStatus,
    FailureReason,
    Limits,
    NewJob,
    NumberedEvent,
    RunEvent,
    Schedule,
    SubmissionQuota,
    TaskExecution,
    WorkerIdentity,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
UNLIMITED = SubmissionQuota(per_day=10**6, per_week=10**6)
ALICE = WorkerIdentity(worker="alice", host="one")
BOB = WorkerIdentity(worker="bob", host="two")


def new_job(run_id: str, submitter: str = "team", **fields: Any) -> NewJob:
    """`priority` and `not_before` go into its schedule, the rest are its own fields."""
    schedule = Schedule(
        priority=fields.pop("priority", 0), not_before=fields.pop("not_before", None)
    )
    values = {
        "submission": submission(submitter),
        "schedule": schedule,
        "submitted_at": NOW,
        **fields,
    }
    return NewJob(run_id=run_id, **values)


def submission(submitter: str = "team", **endpoint: Any) -> BenchmarkSubmission:
    values = endpoint or {"endpoint_type": "container", "image": "x"}
    return BenchmarkSubmission(
        agent_name="a",
        agent_version="1.0.0",
        submitted_by=submitter,
        agent_endpoint=AgentEndpoint(**values),
    )


def task_execution(
    task_id: str = "t",
    repeat: int = 1,
    attempt: int = 1,
    *,
    run_id: str = "run",
    failure: FailureReason | None = None,
    output: str = "",
) -> TaskExecution:
    return TaskExecution(
        run_id=run_id,
        submission_id="s",
        task_id=task_id,
        category=BenchmarkCategory.REASONING,
        repeat=repeat,
        attempt=attempt,
        status=ExecutionStatus.FAILED if failure else ExecutionStatus.COMPLETED,
        failure_reason=failure,
        output=output,
        started_at=NOW,
        finished_at=NOW,
        limits=Limits(),
    )


def benchmark_execution(run_id: str = "run", *tasks: TaskExecution) -> BenchmarkExecution:
    category = CategoryExecution(
        category=BenchmarkCategory.REASONING,
        status=ExecutionStatus.COMPLETED,
        task_executions=tasks,
    )
    return BenchmarkExecution(
        run_id=run_id,
        submission_id="s",
        agent_name="a",
        agent_version="1.0.0",
        suite_name="s",
        suite_version="1",
        suite_digest="sha256:0",
        status=ExecutionStatus.COMPLETED,
        seed=1,
        started_at=NOW,
        finished_at=NOW,
        category_executions={BenchmarkCategory.REASONING: category},
    )


def numbered(*numbers: int, run_id: str = "run", task_id: str = "t") -> list[NumberedEvent]:
    event = RunEvent(kind=EventKind.TASK_STARTED, at=NOW, run_id=run_id, task_id=task_id)
    return [NumberedEvent(number=number, event=event) for number in numbers]
