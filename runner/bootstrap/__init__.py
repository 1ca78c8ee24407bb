"""The only place that names concrete classes: settings in, a working runner out."""

from __future__ import annotations

from runner.bootstrap.commands import cleanup, doctor, prepare_run, set_up
from runner.bootstrap.planning import catalog
from runner.bootstrap.request import CleanupReport, RunRequest, SetUpReport
from runner.bootstrap.running import run
from runner.bootstrap.task_executor import TaskExecutor
from runner.doctor import Check, DoctorReport

__all__ = [
    "Check",
    "CleanupReport",
    "DoctorReport",
    "RunRequest",
    "SetUpReport",
    "TaskExecutor",
    "catalog",
    "cleanup",
    "doctor",
    "prepare_run",
    "run",
    "set_up",
]
