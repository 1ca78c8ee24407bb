"""`agenttrace suite`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runner.cli.invocation import (
    json_option,
    load,
    print_json,
    settings_options,
    stdout_console,
)

if TYPE_CHECKING:
    from runner.domain import Suite


@click.group(short_help="List suites, or show the tasks of one.")
def suite() -> None:
    """List the suites there are, or show the tasks of one."""


@suite.command(
    "list",
    epilog="""\b
Examples:
  agenttrace suite list
  agenttrace suite list --json
""",
)
@settings_options
@json_option
def list_(profile: str | None, as_json: bool) -> None:
    """List the suites that `run --suite` knows by name."""
    from runner import bootstrap

    catalog = bootstrap.catalog(load(profile).settings)
    suites = [catalog.load(name) for name in catalog.names()]
    if as_json:
        print_json([_heading(one) for one in suites])
        return
    from runner.reporting import render_suites

    render_suites(suites, stdout_console())


@suite.command(
    epilog="""\b
Examples:
  agenttrace suite show starter
  agenttrace suite show path/to/my_suite --json
"""
)
@click.argument("name", required=False)
@settings_options
@json_option
def show(name: str | None, profile: str | None, as_json: bool) -> None:
    """Show the tasks of suite NAME (or of a directory), without their answers."""
    from runner import bootstrap

    settings = load(profile).settings
    found = bootstrap.catalog(settings).load(name or settings.run.suite)
    if as_json:
        tasks = [task.model_dump(mode="json", exclude={"answer_key"}) for task in found.tasks]
        print_json(_heading(found) | {"tasks": tasks})
        return
    from runner.reporting import render_suite

    render_suite(found, stdout_console())


def _heading(suite: Suite) -> dict[str, object]:
    data: dict[str, object] = suite.model_dump(mode="json", exclude={"tasks"})
    return data | {"task_count": len(suite.tasks)}
