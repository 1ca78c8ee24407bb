"""What `run` and `cost estimate` share: which agent, which tasks of which suite, how often."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from runner.cli.gateway import gateway_flags
from runner.cli.target import interface_of

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from runner.bootstrap import RunRequest
    from runner.cli.invocation import Command
    from runner.config import Settings


def _complete_categories(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem | str]:
    from runner.domain import BenchmarkCategory

    return [str(one) for one in BenchmarkCategory if one.startswith(incomplete)]


_CHOICE = (
    click.option("--suite", metavar="NAME|DIR", help="Suite to run.  [setting run.suite]"),
    click.option(
        "-c",
        "--category",
        "categories",
        multiple=True,
        metavar="NAME",
        shell_complete=_complete_categories,
        help="Only tasks of this category; may be repeated.",
    ),
    click.option(
        "-t",
        "--task",
        "tasks",
        multiple=True,
        metavar="GLOB",
        help="Only tasks whose id matches; may be repeated.",
    ),
    click.option("-l", "--limit", type=click.IntRange(min=1), help="At most this many tasks."),
    click.option(
        "-n",
        "--concurrency",
        type=click.IntRange(min=1),
        help="Tasks at once, if the host has room.",
    ),
    click.option("-k", "--repeats", type=click.IntRange(min=1), help="Run each task this often."),
    click.option("--seed", type=int, help="Of the order of tasks.  [default: from the submission]"),
)


def choice_options(command: Command) -> Command:
    """Adds those that choose tasks, and say how often and how many at once."""
    for option in reversed(_CHOICE):
        command = option(command)
    return command


def run_flags(options: dict[str, Any]) -> dict[str, object]:
    """Those options that are settings, so that the record says a flag set them."""
    return {
        "run.suite": options["suite"],
        "run.parallelism": options["concurrency"],
        "run.repeats": options["repeats"],
        "storage.runs_dir": options["output"],
    } | gateway_flags(options)


def run_request(settings: Settings, options: dict[str, Any], **more: Any) -> RunRequest:
    """What is asked for, with `more` fields; `settings` hold `run_flags`. Raises RunnerError."""
    from runner.bootstrap import RunRequest, catalog
    from runner.cli.selection import check_selection, parse_categories

    categories = parse_categories(options["categories"])
    check_selection(catalog(settings).load(settings.run.suite), categories, options["tasks"])
    return RunRequest(
        target=options["submission"],
        image=options["image"],
        interface=interface_of(options),
        command=options["command"],
        port=options["port"],
        suite=settings.run.suite,
        categories=categories,
        tasks=options["tasks"],
        limit=options["limit"],
        parallelism=settings.run.parallelism,
        repeats=settings.run.repeats,
        seed=options["seed"],
        **more,
    )
