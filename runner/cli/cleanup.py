"""`agenttrace cleanup`."""

from __future__ import annotations

import click

from runner.cli.failure import inert
from runner.cli.invocation import json_option, load, print_json, settings_options


@click.command(
    short_help="Remove what killed runners left in the engine.",
    epilog="""\b
Examples:
  agenttrace cleanup --dry-run               what would go?
  agenttrace cleanup                         what no living runner needs
  agenttrace cleanup --all                   also the images and the shim volume
""",
)
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Also what `setup` made and the images of submissions; `setup` makes them again.",
)
@settings_options
@json_option
def cleanup(dry_run: bool, everything: bool, profile: str | None, as_json: bool) -> None:
    """Remove containers that a killed runner left behind, and shims of other versions.

    What belongs to a runner that is still alive is kept, and so is everything that this program
    did not make. Run directories are never touched.
    """
    from runner import bootstrap

    report = bootstrap.cleanup(load(profile).settings, dry_run=dry_run, everything=everything)
    if as_json:
        print_json({"dry_run": dry_run, "removed": list(report.removed), "kept": list(report.kept)})
        return
    verb = "would remove" if dry_run else "removed"
    for name in report.removed:
        click.echo(f"{verb} {inert(name)}")
    if not report.removed:
        click.echo("nothing to remove")
    for name in report.kept:
        click.echo(f"kept {inert(name)}", err=True)
