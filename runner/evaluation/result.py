"""The result of a run, from what came of its tasks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from runner.domain import (
    BenchmarkCategory,
    BenchmarkExecution,
    CategoryExecution,
    ExecutionStatus,
    FailureReason,
    RunPlan,
    TaskExecution,
)


def run_result(
    plan: RunPlan, executions: Sequence[TaskExecution], expected: int
) -> BenchmarkExecution:
    """Of `executions` in the plan's order; with fewer than `expected` of them it was cancelled."""
    by_category = {
        category: _category(category, [e for e in executions if e.category is category])
        for category in BenchmarkCategory
        if any(e.category is category for e in executions)
    }
    return BenchmarkExecution(
        run_id=plan.run_id,
        submission_id=plan.submission.submission_id,
        agent_name=plan.submission.agent_name,
        agent_version=plan.submission.agent_version,
        suite_name=plan.suite.name,
        suite_version=plan.suite.version,
        suite_digest=plan.suite.digest,
        status=_overall_status(executions, expected),
        seed=plan.seed,
        image_id=plan.image.image_id if plan.image else "",
        started_at=plan.started_at,
        finished_at=datetime.now(UTC),
        category_executions=by_category,
        retried_attempts=sum(execution.attempt - 1 for execution in executions),
        environment=plan.environment,
        runner_version=plan.runner_version,
        replay_of=plan.replay_of,
    )


def _category(
    category: BenchmarkCategory, executions: Sequence[TaskExecution]
) -> CategoryExecution:
    return CategoryExecution(
        category=category,
        status=_overall_status(executions, len(executions)),
        task_executions=tuple(executions),
    )


def _overall_status(executions: Sequence[TaskExecution], expected: int) -> ExecutionStatus:
    """COMPLETED says that every task was judged, not that it was solved."""
    if len(executions) < expected:
        return ExecutionStatus.CANCELLED
    if any(e.failure_reason is FailureReason.INTERNAL_ERROR for e in executions):
        return ExecutionStatus.FAILED
    return ExecutionStatus.COMPLETED
