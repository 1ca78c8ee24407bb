"""`agenttrace queue`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
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
    from rich.console import Console

    from runner.config import Settings
    from runner.domain import Job, QueueStatus

REFRESH_SECONDS = 2.0


def status_options(command: Command) -> Command:
    """The options of `queue` alone, and of `queue status`."""
    watch = click.option("-w", "--watch", is_flag=True, help="Keep showing it, until Ctrl-C.")
    limit = click.option(
        "-l",
        "--limit",
        type=click.IntRange(min=0),
        default=20,
        show_default=True,
        help="At most so many jobs.",
    )
    return watch(limit(settings_options(json_option(command))))


@click.group(
    short_help="Show what waits and runs; cancel, retry.",
    invoke_without_command=True,
    epilog="""\b
Examples:
  agenttrace queue                           what runs, what waits, who works
  agenttrace queue --watch
  agenttrace queue show 20260314-0926
  agenttrace queue cancel 20260314-0926
""",
)
@status_options
@click.pass_context
def queue(
    ctx: click.Context, *, watch: bool, limit: int, profile: str | None, as_json: bool
) -> None:
    """Show the queue: the jobs that run and wait, the workers, what is out of order.

    Waiting jobs are in the order in which they will be claimed. Commands below look closer, cancel
    jobs or put ended ones back.
    """
    if ctx.invoked_subcommand is None:
        _status(watch=watch, limit=limit, profile=profile, as_json=as_json)
    elif watch or profile or as_json:
        raise click.UsageError(f"options of {ctx.invoked_subcommand!r} go after its name")


@queue.command(
    epilog="""\b
Examples:
  agenttrace queue status --watch
  agenttrace queue status --json | jq .queue_size
"""
)
@status_options
def status(*, watch: bool, limit: int, profile: str | None, as_json: bool) -> None:
    """Show the queue; the same as `agenttrace queue` alone."""
    _status(watch=watch, limit=limit, profile=profile, as_json=as_json)


def _status(*, watch: bool, limit: int, profile: str | None, as_json: bool) -> None:
    if watch and as_json:
        raise click.UsageError("either --watch or --json")
    from runner.bootstrap import queueing

    settings = load(profile).settings
    if watch:
        _watch(settings, limit)
        return
    found = queueing.queue_status(settings, limit)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    from runner.reporting import render_queue

    render_queue(found, stdout_console(), _now())


def _watch(settings: Settings, limit: int) -> None:
    """Refreshed in place on a terminal; elsewhere printed again whenever it has changed."""
    console = stdout_console()
    if console.is_terminal and not console.is_dumb_terminal:
        _watch_live(settings, limit, console)
    else:
        _watch_plain(settings, limit, console)


def _watch_live(settings: Settings, limit: int, console: Console) -> None:
    from rich.live import Live

    from runner.bootstrap import queueing
    from runner.reporting import queue_view

    with Live(console=console, auto_refresh=False, redirect_stdout=False) as live:
        while True:
            view = queue_view(queueing.queue_status(settings, limit), _now())
            live.update(view, refresh=True)
            time.sleep(REFRESH_SECONDS)


def _watch_plain(settings: Settings, limit: int, console: Console) -> None:
    from runner.bootstrap import queueing
    from runner.reporting import render_queue

    before = None
    while True:
        found = queueing.queue_status(settings, limit)
        if _without_moments(found) != before:
            render_queue(found, console, _now())
            console.print()
        before = _without_moments(found)
        time.sleep(REFRESH_SECONDS)


def _without_moments(status: QueueStatus) -> QueueStatus:
    """Equal for two looks at the queue between which nothing has happened."""
    workers = [each.model_copy(update={"seen_at": each.started_at}) for each in status.workers]
    progress = {
        run_id: each.model_copy(update={"estimated_completion": None})
        for run_id, each in status.progress.items()
    }
    return status.model_copy(update={"workers": tuple(workers), "progress": progress})


@queue.command(
    short_help="Show one job: its place, quota and events.",
    epilog="""\b
Examples:
  agenttrace queue show 20260314-0926
  agenttrace queue show 20260314-0926 --json | jq '.events[-1]'
""",
)
@click.argument("run")
@settings_options
@json_option
def show(run: str, profile: str | None, as_json: bool) -> None:
    """Show the job RUN (its id, or as much of it as is unique): its place, quota and events."""
    from runner.bootstrap import queueing

    settings = load(profile).settings
    standing = queueing.job(settings, run)
    events = queueing.job_events(settings, standing.job.run_id)
    if as_json:
        data = standing.model_dump(mode="json")
        print_json(data | {"events": [each.model_dump(mode="json") for each in events]})
        return
    from runner.reporting import render_job

    render_job(
        standing.job,
        stdout_console(),
        _now(),
        place=standing.place,
        entry=standing.quota_entry,
        progress=standing.progress,
        events=events,
    )


@queue.command(
    short_help="Cancel jobs.",
    epilog="""\b
Examples:
  agenttrace queue cancel 20260314-0926
  agenttrace queue cancel 20260314-0926 20260314-0931
""",
)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@settings_options
@json_option
def cancel(runs: tuple[str, ...], profile: str | None, as_json: bool) -> None:
    """Cancel each job RUN. One that runs is asked to stop, and what had finished is kept.

    A job that had not begun does not count against its submitter's quota.
    """
    from runner.bootstrap import queueing

    _print_changed(queueing.cancel(load(profile).settings, runs), as_json=as_json)


@queue.command(
    short_help="Put ended jobs back into the queue.",
    epilog="""\b
Examples:
  agenttrace queue retry 20260314-0926
""",
)
@click.argument("runs", metavar="RUN...", nargs=-1, required=True)
@settings_options
@json_option
def retry(runs: tuple[str, ...], profile: str | None, as_json: bool) -> None:
    """Put each ended job RUN back into the queue: it goes on where it stopped.

    Tasks that have a verdict keep it, and are not run again.
    """
    from runner.bootstrap import queueing

    _print_changed(queueing.retry(load(profile).settings, runs), as_json=as_json)


def _print_changed(jobs: Sequence[Job], *, as_json: bool) -> None:
    if as_json:
        print_json([job.model_dump(mode="json") for job in jobs])
        return
    from runner.reporting import render_changed

    render_changed(jobs, stdout_console())


@queue.command(
    short_help="Show what submitters have used of their quota.",
    epilog="""\b
Examples:
  agenttrace queue quota                     everybody's
  agenttrace queue quota team-echo
""",
)
@click.argument("submitter", required=False)
@settings_options
@json_option
def quota(submitter: str | None, profile: str | None, as_json: bool) -> None:
    """Show how many submissions each submitter, or SUBMITTER, has made and may still make."""
    from runner.bootstrap import queueing

    report = queueing.quota(load(profile).settings, submitter)
    if as_json:
        print_json(report.model_dump(mode="json"))
        return
    from runner.reporting import render_quota

    render_quota(report.quota, report.uses, report.entries, stdout_console(), _now())


@queue.command(
    short_help="Show what failed often, and when it is tried again.",
    epilog="""\b
Examples:
  agenttrace queue breakers
  agenttrace queue breakers --json | jq '.[] | select(.breaker.state == "open")'
""",
)
@settings_options
@json_option
def breakers(profile: str | None, as_json: bool) -> None:
    """Show the circuit breakers: what failed often, and when it is tried again."""
    from runner.bootstrap import queueing

    found = queueing.breakers(load(profile).settings)
    if as_json:
        print_json([each.model_dump(mode="json") for each in found])
        return
    from runner.reporting import render_breakers

    render_breakers(found, stdout_console(), _now())


def _now() -> datetime:
    return datetime.now(UTC)
