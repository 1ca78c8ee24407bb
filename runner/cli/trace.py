"""`agenttrace trace`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runner.cli.failure import inert, say
from runner.cli.invocation import (
    json_option,
    print_json,
    settings_options,
    stdout_console,
)
from runner.cli.runs import attempt_options, complete_runs, output_option, runs_directory

if TYPE_CHECKING:
    from runner.records.exports.files import ExportedFile


@click.group(short_help="Show what happened in an attempt.")
def trace() -> None:
    """Show what happened in an attempt, or hand it to other programs."""


@trace.command(
    epilog="""\b
Examples:
  agenttrace trace show 20260314-0926 reasoning-001
  agenttrace trace show 20260314-0926 reasoning-001 --repeat 2 --attempt 1

The file itself, trace.otlp.jsonl in the attempt's directory, opens in Jaeger (upload); `trace push`
sends it.
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
    """Show the spans of one attempt at TASK in RUN: what took how long, which models and tools were
    called, what was said, and what came out.
    """
    from runner.records import find_run, load_trace, trace_path

    directory = find_run(runs_directory(profile, output), run)
    spans = load_trace(trace_path(directory, task, repeat, attempt))
    if as_json:
        print_json([span.model_dump(mode="json") for span in spans])
        return
    from runner.reporting import render_trace

    render_trace(spans, stdout_console())


@trace.command(
    epilog="""\b
Examples:
  agenttrace trace export 20260314-0926 --to otlp -o run.otlp.jsonl
  agenttrace trace export 20260314-0926 --to inspect -o log.json
  agenttrace trace export 20260314-0926 --to atif -o trajectories
  agenttrace trace export 20260314-0926 --to atif --task reasoning-001 | jq .steps
"""
)
@click.argument("run", shell_complete=complete_runs)
@click.option(
    "--to",
    "form",
    type=click.Choice(["otlp", "atif", "inspect"]),
    required=True,
    help="OTLP-JSON lines, ATIF 1.8 trajectories, or an Inspect log.",
)
@click.option("-t", "--task", metavar="TASK", help="Attempts at this task.  [default: at all]")
@click.option("--repeat", type=click.IntRange(min=1), help="Of this repeat.  [default: of all]")
@click.option("--attempt", type=click.IntRange(min=1), help="Which attempt.  [default: the last]")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where to write; a directory for several trajectories.  [default: stdout]",
)
@click.option(
    "--runs-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where the runs' directories are.  [setting storage.runs_dir]",
)
@settings_options
@json_option
def export(
    *,
    run: str,
    form: str,
    task: str | None,
    repeat: int | None,
    attempt: int | None,
    output: Path | None,
    runs_dir: Path | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """Write the attempts of RUN in the form of another program.

    Several trajectories are a line each on stdout, and a file each with -o. Texts come from what
    was recorded (exchanges.jsonl), without what looks like a key. What goes to stdout is JSON in
    any case; with -o and --json, the names of the files are.
    """
    from runner.records import find_run
    from runner.records.exports import Format, export_run
    from runner.records.exports.chosen import Choice

    directory = find_run(runs_directory(profile, runs_dir), run)
    choice = Choice(task_id=task, repeat=repeat, attempt=attempt)
    files = export_run(directory, Format(form), choice)
    if output is None:
        for each in files:
            click.echo(each.data, nl=False)
        return
    written = _write(files, output)
    if as_json:
        print_json({"files": written})
        return
    for path in written:
        say(f"wrote {path}")


def _write(files: Iterator[ExportedFile], output: Path) -> list[Path]:
    """One file as it is called, several into a directory of that name; where they are."""
    from runner.records.durable import replace_synced, storing

    first, second = next(files), next(files, None)
    several = second is not None or output.is_dir()
    written = []
    with storing(output):
        if several:
            output.mkdir(parents=True, exist_ok=True)
        for each in chain([first], [second] if second else [], files):
            path = output / each.name if several else output
            replace_synced(path, each.data)
            written.append(path)
    return written


@trace.command(
    epilog="""\b
Examples:
  agenttrace trace push http://localhost:4318 20260314-0926
  agenttrace trace push https://otlp.example.com/v1/traces 20260314-0926 --task reasoning-001 \\
    --header authorization='Bearer ...'

Headers also come from OTEL_EXPORTER_OTLP_HEADERS (NAME=VALUE,...), where others cannot see them.
"""
)
@click.argument("url")
@click.argument("run", shell_complete=complete_runs)
@click.option("-t", "--task", metavar="TASK", help="Attempts at this task.  [default: at all]")
@click.option("--repeat", type=click.IntRange(min=1), help="Of this repeat.  [default: of all]")
@click.option("--attempt", type=click.IntRange(min=1), help="Which attempt.  [default: the last]")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="May be repeated.")
@output_option
@settings_options
@json_option
def push(
    *,
    url: str,
    run: str,
    task: str | None,
    repeat: int | None,
    attempt: int | None,
    headers: tuple[str, ...],
    output: Path | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """Send the traces of RUN to the receiver at URL: OTLP over HTTP, in protobuf.

    URL is the receiver's base or ends in /v1/traces. Exits with 3 when it does not take them.
    """
    from runner.records import find_run
    from runner.records.exports.chosen import Choice, choose
    from runner.records.layout import TRACE
    from runner.records.push import parse_headers, push_traces

    given = parse_headers(headers, os.environ.get("OTEL_EXPORTER_OTLP_HEADERS", ""))
    choice = Choice(task_id=task, repeat=repeat, attempt=attempt)
    chosen = choose(find_run(runs_directory(profile, output), run), choice)
    pushed = push_traces(url, [each.path / TRACE for each in chosen.attempts], given)
    if as_json:
        print_json(pushed.model_dump(mode="json"))
        return
    click.echo(f"sent {pushed.traces} traces in {pushed.requests} requests")
    if pushed.rejected_spans:
        say(f"the receiver rejected {pushed.rejected_spans} spans")
    for message in pushed.messages:
        say(f"it says: {inert(message)}")
