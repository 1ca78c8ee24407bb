"""AgentTrace Runner: evaluates untrusted AI agents, isolated and measured from outside.

The names below are the public Python API; importing one imports what it needs, and no more.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.bootstrap import BenchmarkOrchestrator, SubmissionHandler, TaskExecutor
    from runner.domain import (
        AgentEndpoint,
        BenchmarkCategory,
        BenchmarkExecution,
        BenchmarkSubmission,
        BenchmarkTask,
        CategoryExecution,
        ExecutionProgress,
        ExecutionStatus,
        FailureReason,
        JobOptions,
        ResourceUsage,
        Schedule,
        TaskExecution,
        ValidationResult,
    )
    from runner.errors import RunnerError
    from runner.intake import image_submission, load_submission
    from runner.records import (
        DeterministicTaskOrdering,
        EnvironmentSnapshot,
        ExecutionRecorder,
        ReproducibilityVerifier,
        Tolerance,
        Tolerances,
    )
    from runner.suites import load_suite

_HOMES = {
    "AgentEndpoint": "runner.domain",
    "BenchmarkCategory": "runner.domain",
    "BenchmarkExecution": "runner.domain",
    "BenchmarkOrchestrator": "runner.bootstrap",
    "BenchmarkSubmission": "runner.domain",
    "BenchmarkTask": "runner.domain",
    "CategoryExecution": "runner.domain",
    "DeterministicTaskOrdering": "runner.records",
    "EnvironmentSnapshot": "runner.records",
    "ExecutionProgress": "runner.domain",
    "ExecutionRecorder": "runner.records",
    "ExecutionStatus": "runner.domain",
    "FailureReason": "runner.domain",
    "ReproducibilityVerifier": "runner.records",
    "ResourceUsage": "runner.domain",
    "JobOptions": "runner.domain",
    "RunnerError": "runner.errors",
    "Schedule": "runner.domain",
    "SubmissionHandler": "runner.bootstrap",
    "TaskExecution": "runner.domain",
    "TaskExecutor": "runner.bootstrap",
    "Tolerance": "runner.records",
    "Tolerances": "runner.records",
    "ValidationResult": "runner.domain",
    "image_submission": "runner.intake",
    "load_submission": "runner.intake",
    "load_suite": "runner.suites",
}

__all__ = [
    "AgentEndpoint",
    "BenchmarkCategory",
    "BenchmarkExecution",
    "BenchmarkOrchestrator",
    "BenchmarkSubmission",
    "BenchmarkTask",
    "CategoryExecution",
    "DeterministicTaskOrdering",
    "EnvironmentSnapshot",
    "ExecutionProgress",
    "ExecutionRecorder",
    "ExecutionStatus",
    "FailureReason",
    "JobOptions",
    "ReproducibilityVerifier",
    "ResourceUsage",
    "RunnerError",
    "Schedule",
    "SubmissionHandler",
    "TaskExecution",
    "TaskExecutor",
    "Tolerance",
    "Tolerances",
    "ValidationResult",
    "image_submission",
    "load_submission",
    "load_suite",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
