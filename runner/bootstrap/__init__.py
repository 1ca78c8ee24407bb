"""The only place that names concrete classes: settings in, a working runner out.

Each name imports what it needs when it is asked for: a run on a laptop loads no database.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.bootstrap.commands import doctor, prepare_run, set_up
    from runner.bootstrap.costs import cost_report, estimate_cost
    from runner.bootstrap.maintenance import cleanup
    from runner.bootstrap.orchestration import BenchmarkOrchestrator, drain, work
    from runner.bootstrap.planning import catalog
    from runner.bootstrap.replaying import replay, side_by_side
    from runner.bootstrap.request import CleanupReport, RunRequest, SetUpReport
    from runner.bootstrap.running import resume, run
    from runner.bootstrap.submission_handler import SubmissionHandler
    from runner.bootstrap.submitting import SubmitRequest, submit
    from runner.bootstrap.task_executor import TaskExecutor
    from runner.doctor import Check, DoctorReport

_HOMES = {
    "BenchmarkOrchestrator": "runner.bootstrap.orchestration",
    "Check": "runner.doctor",
    "CleanupReport": "runner.bootstrap.request",
    "DoctorReport": "runner.doctor",
    "RunRequest": "runner.bootstrap.request",
    "SetUpReport": "runner.bootstrap.request",
    "SubmissionHandler": "runner.bootstrap.submission_handler",
    "SubmitRequest": "runner.bootstrap.submitting",
    "TaskExecutor": "runner.bootstrap.task_executor",
    "catalog": "runner.bootstrap.planning",
    "cleanup": "runner.bootstrap.maintenance",
    "cost_report": "runner.bootstrap.costs",
    "doctor": "runner.bootstrap.commands",
    "drain": "runner.bootstrap.orchestration",
    "estimate_cost": "runner.bootstrap.costs",
    "prepare_run": "runner.bootstrap.commands",
    "replay": "runner.bootstrap.replaying",
    "resume": "runner.bootstrap.running",
    "run": "runner.bootstrap.running",
    "set_up": "runner.bootstrap.commands",
    "side_by_side": "runner.bootstrap.replaying",
    "submit": "runner.bootstrap.submitting",
    "work": "runner.bootstrap.orchestration",
}

__all__ = [
    "BenchmarkOrchestrator",
    "Check",
    "CleanupReport",
    "DoctorReport",
    "RunRequest",
    "SetUpReport",
    "SubmissionHandler",
    "SubmitRequest",
    "TaskExecutor",
    "catalog",
    "cleanup",
    "cost_report",
    "doctor",
    "drain",
    "estimate_cost",
    "prepare_run",
    "replay",
    "resume",
    "run",
    "set_up",
    "side_by_side",
    "submit",
    "work",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
