"""What people see: tables, timelines and progress; hostile text is inert in all of them."""

from __future__ import annotations

from runner.reporting.console import console_for
from runner.reporting.escape import escape, shorten
from runner.reporting.progress import (
    LiveProgress,
    PlainProgress,
    Progress,
    QuietProgress,
    progress_for,
)
from runner.reporting.results import render_attempt, render_result
from runner.reporting.runs import render_run, render_runs
from runner.reporting.suites import render_suite, render_suites
from runner.reporting.timeline import render_trace

__all__ = [
    "LiveProgress",
    "PlainProgress",
    "Progress",
    "QuietProgress",
    "console_for",
    "escape",
    "progress_for",
    "render_attempt",
    "render_result",
    "render_run",
    "render_runs",
    "render_suite",
    "render_suites",
    "render_trace",
    "shorten",
]
