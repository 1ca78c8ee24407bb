"""`agenttrace submit`."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from runner.cli.failure import USAGE, inert
from runner.cli.invocation import (
    json_option,
    load,
    print_json,
    settings_options,
    stderr_console,
    stdout_console,
)
from runner.cli.steps import steps
from runner.cli.target import check_target, image_details, interface_of

if TYPE_CHECKING:
    from runner.bootstrap.submitting import SubmitRequest
    from runner.domain import Job, ValidationResult
    from runner.ports import Say


def _instant(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> datetime | None:
    """A time in UTC, from ISO 8601 (without a zone: the local one) or `+2h`."""
    if text is None:
        return None
    try:
        return _parsed(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(
            f"{text!r}: write 2026-03-14T09:26, 2026-03-14T09:26:00Z or +2h."
        ) from error


def _parsed(text: str) -> datetime:
    from runner.config import parse_duration

    if text.startswith("+"):
        return datetime.now(UTC) + timedelta(seconds=parse_duration(text[1:]))
    return datetime.fromisoformat(text)


@click.command(
    short_help="Check a submission and put it into the queue.",
    epilog="""\b
Examples:
  agenttrace submit my_agent/ --check
  agenttrace submit my_agent.tar.gz --priority 5
  agenttrace submit my_agent.py:answer --as team-a --email a@example.org --accept-terms
  agenttrace submit --image repo/agent:1 --as team-a --email a@example.org --accept-terms
  agenttrace submit my_agent/ -t 'plan-*' -k 3 --not-before +2h
  run=$(agenttrace submit my_agent/ -q) && agenttrace queue show "$run"

\b
Exit codes: 0 queued (or, with --check, valid), 2 usage or invalid submission,
3 infrastructure, 4 quota, 130 interrupted.
""",
)
@click.argument("target", required=False)
@click.option("--image", metavar="REF", help="Submit this image, in place of a directory.")
@image_details
@click.option("--as", "submitter", metavar="NAME", help="Who submits; replaces submitted_by.")
@click.option("--email", metavar="ADDRESS", help="Whom to write to; replaces contact_email.")
@click.option("--accept-terms", is_flag=True, help="As terms_accepted = true.")
@click.option("--suite", metavar="NAME|DIR", help="Suite to run.  [setting run.suite]")
@click.option(
    "-t",
    "--task",
    "tasks",
    multiple=True,
    metavar="PATTERN",
    help="Only tasks whose id matches, as a shell pattern; may be repeated.",
)
@click.option("-l", "--limit", type=click.IntRange(min=1), help="At most so many tasks.")
@click.option(
    "-k",
    "--repeats",
    type=click.IntRange(min=1),
    help="How often each task is run.  [setting run.repeats]",
)
@click.option("--seed", type=int, help="Of the tasks' order.  [default: from the submission]")
@click.option(
    "--priority",
    type=click.IntRange(-100, 100),
    default=0,
    show_default=True,
    help="Higher ones are run first.",
)
@click.option(
    "--not-before", metavar="TIME", callback=_instant, help="ISO 8601, or +2h: run it no earlier."
)
@click.option("--check", is_flag=True, help="Show what each check finds, and queue nothing.")
@click.option("-q", "--quiet", is_flag=True, help="No progress; the run's id alone.")
@settings_options
@json_option
def submit(*, profile: str | None, check: bool, quiet: bool, as_json: bool, **options: Any) -> None:
    """Check TARGET and put it into the queue; workers evaluate it (`agenttrace worker`).

    TARGET is a directory with a submission.toml, an archive of one (.tar, .tar.gz, .tar.xz,
    .tar.bz2, .zip), FILE.py:FUNCTION, or a URL. Every check is made and reported; what is valid is
    copied, so that it may change afterwards. Prints the id of the run.
    """
    from runner import bootstrap

    check_target(options["target"], "TARGET", options)
    request = _request(options, check_only=check)
    settings = load(profile).settings
    with _saying(quiet=quiet) as say:
        result, job = bootstrap.submit(settings, request, say)
    if as_json:
        print_json(_as_data(result, job))
    elif check:
        _show_checks(result)
    elif job:
        click.echo(job.run_id)
    if not as_json and not check:
        _explain(result, refused=job is None)
    if not result.is_valid:
        raise click.exceptions.Exit(USAGE)


def _request(options: dict[str, Any], *, check_only: bool) -> SubmitRequest:
    from runner.bootstrap import SubmitRequest
    from runner.domain import JobOptions, Schedule

    return SubmitRequest(
        target=options["target"],
        image=options["image"],
        interface=interface_of(options),
        command=options["command"],
        port=options["port"],
        submitted_by=options["submitter"],
        contact_email=options["email"],
        terms=options["accept_terms"] or None,
        options=JobOptions(
            suite=options["suite"],
            tasks=options["tasks"],
            limit=options["limit"],
            repeats=options["repeats"],
            seed=options["seed"],
        ),
        schedule=Schedule(priority=options["priority"], not_before=options["not_before"]),
        check_only=check_only,
    )


def _saying(*, quiet: bool) -> AbstractContextManager[Say]:
    return nullcontext(lambda _: None) if quiet else steps()


def _as_data(result: ValidationResult, job: Job | None) -> dict[str, object]:
    return {
        "run_id": job.run_id if job else None,
        "is_valid": result.is_valid,
        "errors": result.errors,
        "warnings": result.warnings,
        "checks": [outcome.model_dump(mode="json") for outcome in result.outcomes],
        "job": job.model_dump(mode="json") if job else None,
    }


def _show_checks(result: ValidationResult) -> None:
    from runner.reporting import render_checks

    render_checks(result, stdout_console())


def _explain(result: ValidationResult, *, refused: bool) -> None:
    """On stderr: why nothing was queued, or what the submitter may want to mend."""
    if refused:
        from runner.reporting import render_checks

        render_checks(result, stderr_console())
        return
    for warning in result.warnings:
        click.echo(f"warning: {inert(warning)}", err=True)
