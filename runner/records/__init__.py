"""The evidence of a run: its directory, traces, order of tasks and environment."""

from __future__ import annotations

from runner.records.archive import (
    find_attempt,
    find_run,
    list_runs,
    load_attempts,
    load_run,
    trace_path,
    unindexed_results,
    unknown_attempts,
)
from runner.records.layout import new_run_id
from runner.records.ordering import DeterministicTaskOrdering
from runner.records.recorder import ExecutionRecorder
from runner.records.run_directory import RunDirectory
from runner.records.snapshot import EnvironmentSnapshot, runner_version
from runner.records.spans import load_trace
from runner.records.verifier import ReproducibilityVerifier, Tolerance, Tolerances

__all__ = [
    "DeterministicTaskOrdering",
    "EnvironmentSnapshot",
    "ExecutionRecorder",
    "ReproducibilityVerifier",
    "RunDirectory",
    "Tolerance",
    "Tolerances",
    "find_attempt",
    "find_run",
    "list_runs",
    "load_attempts",
    "load_run",
    "load_trace",
    "new_run_id",
    "runner_version",
    "trace_path",
    "unindexed_results",
    "unknown_attempts",
]
