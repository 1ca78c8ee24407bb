"""`agenttrace doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runner.cli.failure import INFRASTRUCTURE, inert
from runner.cli.invocation import (
    json_option,
    load,
    print_json,
    settings_options,
    stdout_console,
)

if TYPE_CHECKING:
    from runner.doctor.examination import Check, DoctorReport

FIELDS = ("name", "ok", "required", "promised", "found", "remedy")
"""Of each check, in JSON."""


@click.command(
    short_help="Probe what isolation this host really gives.",
    epilog="""\b
Examples:
  agenttrace doctor
  agenttrace doctor --profile competition    is this host fit for a competition?
  agenttrace doctor --json | jq '.checks[] | select(.ok == false)'
""",
)
@settings_options
@json_option
def doctor(profile: str | None, as_json: bool) -> None:
    """Probe, from inside a throwaway container, what each protection really does here.

    Versions and flags promise; this looks. Exits with 3 when something that the profile requires
    (setting sandbox.require) is missing, and says for each how to get it.
    """
    from runner import bootstrap

    report = bootstrap.doctor(load(profile).settings)
    if as_json:
        print_json(
            {"healthy": report.healthy, "checks": [_as_data(check) for check in report.checks]}
        )
    else:
        _print_table(report)
    if not report.healthy:
        raise click.exceptions.Exit(INFRASTRUCTURE)


def _as_data(check: Check) -> dict[str, object]:
    return {name: getattr(check, name) for name in FIELDS}


def _verdict(check: Check) -> tuple[str, str]:
    """A word and its colour; `ok` is None where it could not be found out."""
    if check.ok:
        return "ok", "green"
    if check.required:
        return "missing" if check.ok is False else "unknown", "bold red"
    return "no" if check.ok is False else "unknown", "yellow"


def _print_table(report: DoctorReport) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("CHECK", "", "PROMISED", "FOUND"):
        table.add_column(heading, overflow="fold")
    for check in report.checks:
        word, colour = _verdict(check)
        table.add_row(
            check.name, Text(word, style=colour), inert(check.promised), Text(inert(check.found))
        )
    stdout_console().print(table)
    for check in report.checks:
        if not check.ok and check.remedy:
            click.echo(f"{check.name}: {inert(check.remedy)}")
    click.echo(
        "This host keeps what its profile promises."
        if report.healthy
        else "This host does not keep what its profile promises."
    )
