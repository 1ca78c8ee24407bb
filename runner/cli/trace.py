"""`agenttrace trace`."""

from __future__ import annotations

from pathlib import Path

import click

from runner.cli.invocation import (
    json_option,
    print_json,
    settings_options,
    stdout_console,
)
from runner.cli.runs import attempt_options, complete_runs, output_option, runs_directory


@click.group(short_help="Show what happened in an attempt.")
def trace() -> None:
    """Show what happened in an attempt."""


@trace.command(
    epilog="""\b
Examples:
  agenttrace trace show 20260314-0926 reasoning-001
  agenttrace trace show 20260314-0926 reasoning-001 --repeat 2 --attempt 1

The file itself, trace.otlp.jsonl in the attempt's directory, opens in Jaeger (upload).
"""
)
@click.argument("run", shell_complete=complete_runs)
@click.argument("task")
@attempt_options
@output_option
@settings_options
@json_option
def show(
    *,
    run: str,
    task: str,
    repeat: int | None,
    attempt: int | None,
    output: Path | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """Show the spans of one attempt at TASK in RUN: what took how long, and what came out."""
    from runner.records import find_run, load_trace, trace_path

    directory = find_run(runs_directory(profile, output), run)
    spans = load_trace(trace_path(directory, task, repeat, attempt))
    if as_json:
        print_json([span.model_dump(mode="json") for span in spans])
        return
    from runner.reporting import render_trace

    render_trace(spans, stdout_console())
