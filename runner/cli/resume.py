"""`agenttrace resume`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.cli.gateway import gateway_flags, spending_options
from runner.cli.invocation import json_option, load, settings_options
from runner.cli.run import conclude
from runner.cli.runs import complete_runs, output_option

if TYPE_CHECKING:
    from runner.domain import BenchmarkExecution


@click.command(
    short_help="Go on with a run that was stopped.",
    epilog="""\b
Examples:
  agenttrace resume 20260314-092653-1f2e3d
  agenttrace resume 20260314-09 --json -q > result.json
  agenttrace resume 20260314-092653-1f2e3d --max-cost 5

\b
Exit codes are those of `run`.
""",
)
@click.argument("run", shell_complete=complete_runs)
@click.option(
    "--fail-under",
    type=click.FloatRange(0, 100),
    metavar="SCORE",
    help="Exit with 1 when the overall score (0-100) is lower.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress; the result alone.")
@spending_options
@output_option
@settings_options
@json_option
def resume(
    *,
    run: str,
    fail_under: float | None,
    quiet: bool,
    output: Path | None,
    profile: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Go on with RUN (its id, or as much of it as is unique) from the last finished attempt.

    What has a verdict is not run again. What was interrupted, or has no verdict through a fault of
    ours, is. Tasks, their order, seed, limits, and the models that the agent may call are those
    that the run was begun with; its image is made again if it is gone. Budgets of the run count
    what it has spent so far; it keeps those that it was begun with where no other is given.
    """
    from runner import bootstrap
    from runner.reporting import progress_for

    flags = {"storage.runs_dir": output} | gateway_flags(options)
    settings = load(profile, flags).settings

    def resumed() -> tuple[BenchmarkExecution, Path]:
        with progress_for(sys.stderr, quiet=quiet) as progress:
            return bootstrap.resume(settings, run, [progress.notify], progress.say)

    conclude(resumed, fail_under, as_json=as_json)
