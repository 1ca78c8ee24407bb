"""`agenttrace run`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.cli.choice import choice_options, run_flags, run_request
from runner.cli.failure import BELOW_THRESHOLD, INFRASTRUCTURE, inert
from runner.cli.gateway import model_options
from runner.cli.invocation import (
    json_option,
    load,
    print_json,
    settings_options,
    stdout_console,
)
from runner.cli.quantities import duration, size
from runner.cli.target import check_target, image_details

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.bootstrap import RunRequest
    from runner.config import Settings
    from runner.domain import BenchmarkExecution, RunPlan
    from runner.errors import BuildFailed, Interrupted


@click.command(
    short_help="Evaluate a submission on a suite.",
    epilog="""\b
Examples:
  agenttrace run examples/rule_based
  agenttrace run my_agent.py:answer -c reasoning -l 5
  agenttrace run --image repo/agent:1 --interface http --port 8000 --memory 2GiB
  agenttrace run my_agent/ -t 'plan-*' -k 3 --fail-under 60
  agenttrace run my_agent/ --json -q > result.json
  agenttrace run my_agent/ --model openai/gpt-4o-mini --max-cost 2

\b
Exit codes: 0 done (whatever the score), 1 below --fail-under, 2 usage or
invalid submission, 3 infrastructure, 4 budget or quota, 130 interrupted.
""",
)
@click.argument("submission", required=False)
@click.option("--image", metavar="REF", help="Evaluate this image, in place of a directory.")
@image_details
@choice_options
@click.option(
    "--time-limit",
    metavar="TIME",
    callback=duration,
    help="Of each task, in place of its own: 90s, 5m.",
)
@click.option(
    "--memory",
    metavar="SIZE",
    callback=size,
    help="Of each task, in place of its own: 512MiB, 2G.",
)
@click.option("--cpus", type=click.FloatRange(min=0, min_open=True), help="The same for cores.")
@click.option("--pids", type=click.IntRange(min=2), help="The same for processes and threads.")
@click.option("--token-budget", type=click.IntRange(min=1), help="The same for model tokens.")
@click.option(
    "--cost-budget",
    type=click.FloatRange(min=0, min_open=True),
    metavar="USD",
    help="The same for the cost of model calls.",
)
@model_options
@click.option("--dry-run", is_flag=True, help="Build the image, say what would run, run nothing.")
@click.option(
    "--fail-under",
    type=click.FloatRange(0, 100),
    metavar="SCORE",
    help="Exit with 1 when the overall score (0-100) is lower.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Put the run's directory into DIR.  [setting storage.runs_dir]",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress; the result alone.")
@settings_options
@json_option
def run(
    *,
    profile: str | None,
    dry_run: bool,
    fail_under: float | None,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Evaluate SUBMISSION: a directory with a submission.toml, or FILE.py:FUNCTION.

    Builds it into an image, gives each task a fresh container without a network, measures from
    outside, scores on the host, and keeps the evidence in a run directory. The limits given here
    replace those of every task, and the result says so.

    Ctrl-C once lets the tasks in progress finish; twice stops them.
    """
    check_target(options["submission"], "SUBMISSION", options)
    settings = load(profile, run_flags(options)).settings
    request = _request(settings, options)
    if dry_run:
        _show_plan(settings, request, as_json=as_json)
        return
    from runner import bootstrap
    from runner.reporting import progress_for

    def evaluated() -> tuple[BenchmarkExecution, Path]:
        with progress_for(sys.stderr, quiet=quiet) as progress:
            return bootstrap.run(settings, request, [progress.notify], progress.say)

    conclude(evaluated, fail_under, as_json=as_json)


def conclude(
    evaluate: Callable[[], tuple[BenchmarkExecution, Path]],
    fail_under: float | None,
    *,
    as_json: bool,
) -> None:
    """Shows what `evaluate` gives, whole or interrupted, and ends with the exit code for it."""
    execution, directory = _evaluated(evaluate, as_json=as_json)
    _show_result(execution, directory, as_json=as_json)
    if code := _exit_code(execution, fail_under):
        raise click.exceptions.Exit(code)


def _request(settings: Settings, options: dict[str, Any]) -> RunRequest:
    from runner.domain import LimitOverrides

    return run_request(
        settings,
        options,
        overrides=LimitOverrides(
            time_seconds=options["time_limit"],
            memory_bytes=options["memory"],
            cpus=options["cpus"],
            pids=options["pids"],
        ),
        token_budget=options["token_budget"],
        cost_budget_usd=options["cost_budget"],
        output=options["output"],
    )


def _evaluated(
    evaluate: Callable[[], tuple[BenchmarkExecution, Path]], *, as_json: bool
) -> tuple[BenchmarkExecution, Path]:
    from runner.errors import BuildFailed, Interrupted

    try:
        return evaluate()
    except Interrupted as error:
        _show_partial(error, as_json=as_json)
        raise
    except BuildFailed as error:
        if as_json:
            print_json(_build_failed(error))
        raise


def _build_failed(error: BuildFailed) -> dict[str, object]:
    """In place of a result, which needs an image: the fields that it would have had."""
    return {
        "status": "failed",
        "failure_reason": error.failure_reason,
        "failure_detail": error.message,
    }


def _show_partial(error: Interrupted, *, as_json: bool) -> None:
    """What had finished when the run was stopped, where anything had."""
    from runner.domain import BenchmarkExecution

    if isinstance(error.execution, BenchmarkExecution):
        _show_result(error.execution, error.path, as_json=as_json)


def _show_result(execution: BenchmarkExecution, directory: Path | None, *, as_json: bool) -> None:
    evidence = Path(os.path.relpath(directory)) if directory else None
    if as_json:
        print_json(execution.model_dump(mode="json"))
        click.echo(f"evidence: {inert(str(evidence))}", err=True)
        return
    from runner.reporting import render_result

    render_result(execution, stdout_console(), evidence=evidence)


def _exit_code(execution: BenchmarkExecution, fail_under: float | None) -> int:
    """A score that is too low is the agent's; one that we could not find out is ours."""
    from runner.domain import FailureReason

    ours = [
        one
        for one in execution.task_executions
        if one.failure_reason is FailureReason.INTERNAL_ERROR
    ]
    if ours:
        click.echo(
            f"error: {len(ours)} of {len(execution.task_executions)} tasks have no verdict:"
            f" {inert(ours[0].failure_detail)}\nnext: `agenttrace doctor`, then run them again",
            err=True,
        )
        return INFRASTRUCTURE
    if fail_under is not None and execution.overall_score < fail_under:
        click.echo(
            f"score {execution.overall_score:.1f} is below --fail-under {fail_under:g}", err=True
        )
        return BELOW_THRESHOLD
    return 0


# -- dry run ------------------------------------------------------------------------------------


def _show_plan(settings: Settings, request: RunRequest, *, as_json: bool) -> None:
    from runner import bootstrap

    plan = bootstrap.prepare_run(settings, request)
    data = _plan_as_data(plan, request, settings)
    if as_json:
        print_json(data)
        return
    for name, value in data.items():
        click.echo(f"{name}: {_plan_line(value)}")


def _plan_line(value: object) -> str:
    match value:
        case dict():
            return ", ".join(f"{key} {one}" for key, one in value.items()) or "none"
        case list():
            return "".join(f"\n  {inert(str(one))}" for one in value) or "none"
        case _:
            return inert(str(value))


def _budgets_given(request: RunRequest) -> dict[str, object]:
    """Of each attempt, in place of its task's own."""
    budgets = {"token_budget": request.token_budget, "cost_budget_usd": request.cost_budget_usd}
    return {name: value for name, value in budgets.items() if value is not None}


def _budget_of_run(settings: Settings) -> dict[str, object]:
    budget = {"max_tokens": settings.run.max_tokens, "max_cost_usd": settings.run.max_cost_usd}
    return {name: value for name, value in budget.items() if value}


def _plan_as_data(plan: RunPlan, request: RunRequest, settings: Settings) -> dict[str, object]:
    """What would run. No answer key is in it."""
    return {
        "agent": f"{plan.submission.agent_name} {plan.submission.agent_version}",
        "image": plan.image.image_id if plan.image else None,
        "suite": f"{plan.suite.name} {plan.suite.version}",
        "suite_digest": plan.suite.digest,
        "seed": plan.seed,
        "parallelism": plan.parallelism,
        "repeats": plan.repeats,
        "limits": plan.limits.model_dump(),
        "overrides": request.overrides.given() | _budgets_given(request),
        "budget": _budget_of_run(settings),
        "models": list(settings.gateway.models) if settings.gateway.enabled else [],
        "tasks": [task.task_id for task in plan.tasks],
    }
