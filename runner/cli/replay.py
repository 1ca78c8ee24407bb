"""`agenttrace replay`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runner.cli.failure import inert
from runner.cli.invocation import (
    json_option,
    load,
    print_json,
    settings_options,
    stdout_console,
)
from runner.cli.runs import DIFFERENT, complete_runs, output_option

if TYPE_CHECKING:
    from runner.bootstrap.replaying import Replay, ReplayedTask
    from runner.reporting.replay import ReplayLine


@click.command(
    short_help="Run a run again against what it recorded.",
    epilog="""\b
Examples:
  agenttrace replay 20260314-092653-1f2e3d
  agenttrace replay 20260314-09 --task 'tool_use-*' --json
  agenttrace replay 20260314-09 -q && echo "the same, without asking any model"

\b
Exit codes: 0 every task was identical, 1 one was not, else as those of `run`.
""",
)
@click.argument("run", shell_complete=complete_runs)
@click.option(
    "-t",
    "--task",
    "tasks",
    multiple=True,
    metavar="GLOB",
    help="Only tasks whose id matches; may be repeated.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress; the comparison alone.")
@output_option
@settings_options
@json_option
def replay(
    *,
    run: str,
    tasks: tuple[str, ...],
    quiet: bool,
    output: Path | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """Run the image of RUN (its id, or as much of it as is unique) again, with the same tasks,
    seed and limits, and answer its model and tool calls from the recording.

    No model and no tool is asked, nothing is paid, and no key is needed. Says for each task whether
    the replay is identical: its calls, answer and score; not time, memory and cost. The first
    request that was not recorded is shown beside the one that was expected. The replay is a run of
    its own, in a directory of its own, which is marked as a replay.
    """
    from runner import bootstrap
    from runner.reporting import progress_for

    settings = load(profile, {"storage.runs_dir": output}).settings
    with progress_for(sys.stderr, quiet=quiet) as progress:
        replayed = bootstrap.replay(settings, run, tasks, [progress.notify], progress.say)
    if as_json:
        print_json(_as_data(replayed))
    else:
        _show(replayed)
    if not all(task.identical for task in replayed.tasks):
        raise click.exceptions.Exit(DIFFERENT)


def _show(replayed: Replay) -> None:
    from runner.reporting.replay import render_replay

    console = stdout_console()
    lines = [_line(task, console.width) for task in replayed.tasks]
    render_replay(lines, replayed.execution.replay_of, console)
    evidence = inert(str(replayed.path))
    click.echo(f"evidence of the replay: {evidence}")


def _line(task: ReplayedTask, width: int) -> ReplayLine:
    from runner import bootstrap
    from runner.reporting.replay import ReplayLine

    divergence = task.divergence
    return ReplayLine(
        task_id=task.replayed.task_id,
        repeat=task.replayed.repeat,
        exchanges=len(task.replayed.model_calls) + len(task.replayed.tool_calls),
        differences=task.differences,
        diverged_at=divergence.number if divergence else None,
        was_over=divergence is not None and divergence.recorded is None,
        side_by_side=bootstrap.side_by_side(divergence, width) if divergence else (),
    )


def _as_data(replayed: Replay) -> dict[str, object]:
    return {
        "replay_of": replayed.execution.replay_of,
        "run_id": replayed.execution.run_id,
        "evidence": str(replayed.path),
        "identical": all(task.identical for task in replayed.tasks),
        "tasks": [
            {
                "task_id": task.replayed.task_id,
                "repeat": task.replayed.repeat,
                "identical": task.identical,
                "differences": list(task.differences),
                "divergence": task.divergence.model_dump(mode="json") if task.divergence else None,
            }
            for task in replayed.tasks
        ],
    }
