"""`agenttrace cost`."""

from __future__ import annotations

import sys
from datetime import date, datetime
from pathlib import Path
from typing import Any

import click

from runner.cli.choice import choice_options, run_flags, run_request
from runner.cli.gateway import pilot_options
from runner.cli.invocation import (
    Command,
    json_option,
    load,
    print_json,
    settings_options,
    stdout_console,
)
from runner.cli.target import check_target, image_details

GROUPS = ("model", "submitter", "run", "day")


def _runs_option(command: Command) -> Command:
    return click.option(
        "-o",
        "--output",
        "--runs-dir",
        "output",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Where the runs' directories are.  [setting storage.runs_dir]",
    )(command)


@click.group(short_help="Forecast what a run will use, or report what was spent.")
def cost() -> None:
    """Forecast what a run will use, or report what all runs have spent on models."""


# -- report --------------------------------------------------------------------------------------


@cost.command(
    short_help="Report what was spent on models.",
    epilog="""\b
Examples:
  agenttrace cost report
  agenttrace cost report --by submitter --since 2026-03-01
  agenttrace cost report --by day --csv > spending.csv
  agenttrace cost report --json | jq .total.cost_usd
""",
)
@click.option(
    "--by",
    type=click.Choice(GROUPS),
    default="model",
    show_default=True,
    help="What there is a line for.",
)
@click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DATE",
    help="Only calls from this day on (UTC): 2026-03-14.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print lines for a spreadsheet on stdout.")
@_runs_option
@settings_options
@json_option
def report(
    *,
    by: str,
    since: datetime | None,
    as_csv: bool,
    output: Path | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """Report what all runs have spent on models: by model, submitter, run or day.

    Every call counts, also of attempts that were made again or given up, of runs in progress, and
    of the queue's. What has no known price is counted as calls, not as money.
    """
    if as_csv and as_json:
        raise click.UsageError("either --csv or --json")
    from runner import bootstrap
    from runner.domain.cost import SpendingBy

    settings = load(profile, {"storage.runs_dir": output}).settings
    first: date | None = since.date() if since else None
    found = bootstrap.cost_report(settings, SpendingBy(by), first)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    from runner.reporting.cost import render_spending, spending_csv

    if as_csv:
        click.echo(spending_csv(found), nl=False)
    else:
        render_spending(found, stdout_console())


# -- estimate ------------------------------------------------------------------------------------


@cost.command(
    short_help="Forecast what a run will use.",
    epilog="""\b
Examples:
  agenttrace cost estimate my_agent/
  agenttrace cost estimate my_agent/ --suite starter -c reasoning -k 3
  agenttrace cost estimate my_agent/ --pilot 3 --max-cost 0.50
  agenttrace cost estimate my_agent/ --json | jq .cost_usd.high

\b
Exit codes: 0 done (also where nothing is known), 2 usage or invalid
submission, 3 infrastructure, 4 budget (of the pilot), 130 interrupted.
""",
)
@click.argument("submission", required=False)
@click.option("--image", metavar="REF", help="Forecast this image, in place of a directory.")
@image_details
@choice_options
@click.option(
    "--pilot",
    type=click.IntRange(min=1),
    metavar="N",
    help="Run N of the tasks first, and forecast from them alone.",
)
@click.option(
    "--interval",
    type=click.FloatRange(0.01, 0.99),
    default=0.8,
    show_default=True,
    help="The share of outcomes that the interval is to hold.",
)
@pilot_options
@_runs_option
@click.option("-q", "--quiet", is_flag=True, help="No progress of the pilot; the forecast alone.")
@settings_options
@json_option
def estimate(
    *,
    profile: str | None,
    pilot: int | None,
    interval: float,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Forecast tokens, money, time and disk of a run of SUBMISSION, with an interval.

    From earlier runs: this agent's on the same tasks, else on others, else other agents' on the
    same tasks. Nothing is run, unless --pilot asks for it; a pilot is an ordinary run, which is
    recorded and costs what it costs. What is not known is said, or null.
    """
    check_target(options["submission"], "SUBMISSION", options)
    if pilot is None and (options["models"] or options["max_tokens"] or options["max_cost"]):
        raise click.UsageError("--model, --max-tokens and --max-cost belong to --pilot")
    settings = load(profile, run_flags(options)).settings
    request = run_request(settings, options)
    from runner import bootstrap
    from runner.reporting import progress_for

    with progress_for(sys.stderr, quiet=quiet or pilot is None) as progress:
        found = bootstrap.estimate_cost(
            settings,
            request,
            interval=interval,
            pilot=pilot,
            observers=[progress.notify],
            say=progress.say,
        )
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    from runner.reporting.cost import render_forecast

    render_forecast(found, stdout_console())
