"""What people see: tables, timelines and progress; hostile text is inert in all of them."""

from __future__ import annotations

from runner.reporting.checks import render_checks
from runner.reporting.console import console_for
from runner.reporting.escape import escape, shorten
from runner.reporting.progress import (
    LiveProgress,
    PlainProgress,
    Progress,
    QuietProgress,
    progress_for,
)
from runner.reporting.queue import (
    queue_view,
    render_breakers,
    render_changed,
    render_job,
    render_queue,
    render_quota,
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
    "queue_view",
    "render_attempt",
    "render_breakers",
    "render_changed",
    "render_checks",
    "render_job",
    "render_queue",
    "render_quota",
    "render_result",
    "render_run",
    "render_runs",
    "render_suite",
    "render_suites",
    "render_trace",
    "shorten",
]
