"""`agenttrace runs`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from runner.cli.invocation import (
    Command,
    json_option,
    load,
    print_json,
    settings_options,
    stdout_console,
)

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


DIFFERENT = 1
"""Exit code of `runs diff` and `replay`, as that of diff itself."""


def complete_runs(
    ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem | str]:
    """Ids of the runs that there are, newest first."""
    from runner.errors import RunnerError
    from runner.records import list_runs

    try:
        runs = list_runs(runs_directory(ctx.params.get("profile"), ctx.params.get("output")))
    except RunnerError:  # a completion is no place for an error message
        return []
    return [run.run_id for run in reversed(runs) if run.run_id.startswith(incomplete)]


def runs_directory(profile: str | None, output: Path | None) -> Path:
    """Where the runs are that this command line speaks of."""
    settings = load(profile, {"storage.runs_dir": output}).settings
    return settings.storage.runs_dir.expanduser()


output_option = click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where the runs' directories are.  [setting storage.runs_dir]",
)


def attempt_options(command: Command) -> Command:
    """The options that say which attempt at a task is meant."""
    which = click.IntRange(min=1)
    repeat = click.option("--repeat", type=which, help="Which repeat.  [default: the first]")
    attempt = click.option("--attempt", type=which, help="Which attempt.  [default: the last]")
    return repeat(attempt(command))


@click.group(short_help="List runs, or show one.")
def runs() -> None:
    """List the runs whose evidence is here, show one, watch it go on, or compare two."""


@runs.command(
    "list",
    epilog="""\b
Examples:
  agenttrace runs list
  agenttrace runs list -o /srv/runs --json | jq '.[].score'
""",
)
@output_option
@settings_options
@json_option
def list_(output: Path | None, profile: str | None, as_json: bool) -> None:
    """List all runs, the oldest first, with their status and score."""
    from runner.records import list_runs

    found = list_runs(runs_directory(profile, output))
    if as_json:
        print_json([run.model_dump(mode="json") for run in found])
        return
    from runner.reporting import render_runs

    render_runs(found, stdout_console())


@runs.command(
    epilog="""\b
Examples:
  agenttrace runs show 20260314-0926
  agenttrace runs show 20260314-0926 reasoning-001
  agenttrace runs show 20260314-0926 --json | jq .execution.overall_score
"""
)
@click.argument("run", shell_complete=complete_runs)
@click.argument("task", required=False)
@attempt_options
@output_option
@settings_options
@json_option
def show(
    *,
    run: str,
    task: str | None,
    repeat: int | None,
    attempt: int | None,
    output: Path | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """Show RUN (its id, or as much of it as is unique): each attempt, its verdict and usage.

    With TASK, show one attempt at that task in full: its answer, limits, figures and artifacts.
    """
    directory = runs_directory(profile, output)
    if task is None:
        _show_run(directory, run, as_json=as_json)
    else:
        _show_attempt(directory, run, (task, repeat, attempt), as_json=as_json)


@runs.command(
    epilog="""\b
Examples:
  agenttrace runs watch 20260314-0926
  agenttrace runs watch 20260314-0926 --json | jq -c .kind
"""
)
@click.argument("run", shell_complete=complete_runs)
@output_option
@settings_options
@json_option
def watch(*, run: str, output: Path | None, profile: str | None, as_json: bool) -> None:
    """Watch RUN (its id, or as much of it as is unique) from another process until it ends.

    A queued run is waited for. Ctrl-C ends the watching alone. Exits with 3 when the runner of RUN
    is gone before its end. With --json: one event a line, as it comes.
    """
    from runner.cli.watch import watch_run

    settings = load(profile, {"storage.runs_dir": output}).settings
    watch_run(settings, run, as_json=as_json)


@runs.command(
    epilog="""\b
Examples:
  agenttrace runs diff 20260314-0926 20260315-1012
  agenttrace runs diff 20260314-0926 20260315-1012 --json | jq '.tasks[] | select(.same | not)'
"""
)
@click.argument("one", metavar="A", shell_complete=complete_runs)
@click.argument("other", metavar="B", shell_complete=complete_runs)
@output_option
@settings_options
@json_option
def diff(*, one: str, other: str, output: Path | None, profile: str | None, as_json: bool) -> None:
    """Show what differs between the runs A and B: environment, settings, limits, suite, image, and
    for each task status, score, answer, tokens and the first call that differs.

    Exits with 0 when all tasks have the same status, score and answer, else with 1.
    """
    from runner.records.compare import compare_runs

    comparison = compare_runs(runs_directory(profile, output), one, other)
    if as_json:
        print_json(comparison.model_dump(mode="json"))
    else:
        from runner.reporting.comparison import render_comparison

        render_comparison(comparison, stdout_console())
    if not comparison.same:
        raise click.exceptions.Exit(DIFFERENT)


def _show_run(directory: Path, run: str, *, as_json: bool) -> None:
    from runner.records import load_run

    found = load_run(directory, run)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    from runner.reporting import render_run

    render_run(found, stdout_console())


def _show_attempt(
    directory: Path, run: str, which: tuple[str, int | None, int | None], *, as_json: bool
) -> None:
    from runner.errors import StorageFailed
    from runner.records import find_attempt, find_run

    found = find_attempt(find_run(directory, run), *which)
    if found.execution is None:
        raise StorageFailed(found.note, remedy=f"see what is left in {found.path}")
    if as_json:
        print_json(found.execution.model_dump(mode="json"))
        return
    from runner.reporting import render_attempt

    render_attempt(found.execution, stdout_console(), evidence=found.path)
