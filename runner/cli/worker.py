"""`agenttrace worker`."""

from __future__ import annotations

import click

from runner.cli.failure import say
from runner.cli.invocation import load, settings_options


@click.command(
    short_help="Work off the queue of submissions.",
    epilog="""\b
Examples:
  agenttrace worker
  agenttrace worker -w 2 --metrics-port 9464
  agenttrace worker --until-empty
  agenttrace worker --drain        (before an upgrade of this host)

\b
SIGTERM and Ctrl-C drain: tasks in progress end, everything else goes back into
the queue, and the next worker goes on with it. A second signal stops now.
""",
)
@click.option(
    "-w",
    "--workers",
    type=click.IntRange(min=1),
    help="Submissions at once in this process.  [setting queue.workers]",
)
@click.option("--until-empty", is_flag=True, help="End when nothing that is due waits any more.")
@click.option(
    "--drain",
    is_flag=True,
    help="Start nothing: ask the workers of this host to drain, and wait until they have ended.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Serve Prometheus metrics at http://ADDRESS:PORT/metrics; 0: any free port.",
)
@click.option(
    "--metrics-address",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="Where to serve them.",
)
@settings_options
def worker(
    *,
    workers: int | None,
    until_empty: bool,
    drain: bool,
    metrics_port: int | None,
    metrics_address: str,
    profile: str | None,
) -> None:
    """Take submissions from the queue, evaluate them, keep their results; until it is stopped.

    Any number of workers may share a queue. What a worker that dies was working on is taken over
    by another one, which goes on from the last finished attempt.
    """
    from runner import bootstrap

    settings = load(profile, {"queue.workers": workers}, service=True).settings
    if drain:
        asked = bootstrap.drain(settings, say)
        say(f"{asked} workers have ended" if asked else "no worker runs on this host")
        return
    bootstrap.work(
        settings,
        until_empty=until_empty,
        metrics_at=None if metrics_port is None else (metrics_address, metrics_port),
        say=say,
    )
