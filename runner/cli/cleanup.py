"""`agenttrace cleanup`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from runner.cli.failure import inert
from runner.cli.invocation import json_option, load, print_json, settings_options
from runner.cli.quantities import size

if TYPE_CHECKING:
    from runner.bootstrap import CleanupReport


@click.command(
    short_help="Remove what killed runners left, old runs, unused images.",
    epilog="""\b
Examples:
  agenttrace cleanup --dry-run               what would go, how large, and why?
  agenttrace cleanup                         what no living runner needs
  agenttrace cleanup --runs-older-than 30    also runs that ended a month ago
  agenttrace cleanup --images-over 5GiB      leave at most that much of images
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
@click.option(
    "--runs-older-than",
    metavar="DAYS",
    type=click.FloatRange(min=0, min_open=True),
    help="Remove runs that ended longer ago (retention.runs_days, else none).",
)
@click.option(
    "--images-over",
    metavar="SIZE",
    callback=size,
    help="Remove submissions' images beyond it, least recently used first: 20GiB.",
)
@settings_options
@json_option
def cleanup(
    *,
    dry_run: bool,
    everything: bool,
    runs_older_than: float | None,
    images_over: int | None,
    profile: str | None,
    as_json: bool,
) -> None:
    """Remove what nobody needs any more, in the engine and among the runs.

    Containers, staged files and unfinished images that killed runners left; shims of other
    versions; images of submissions beyond retention.image_bytes, those not used for longest first;
    runs older than retention.runs_days, if that is set.

    What belongs to a run in progress is kept, and so is everything that this program did not make.
    """
    from runner import bootstrap

    flags = {"retention.runs_days": runs_older_than, "retention.image_bytes": images_over}
    report = bootstrap.cleanup(
        load(profile, flags).settings, dry_run=dry_run, everything=everything
    )
    if as_json:
        print_json(_as_data(report, dry_run))
        return
    for line in _lines(report, dry_run):
        click.echo(inert(line))
    for name in report.kept:
        click.echo(f"kept {inert(name)}", err=True)


def _as_data(report: CleanupReport, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "removed": list(report.removed),
        "kept": list(report.kept),
        "bytes_freed": report.bytes_freed,
        "removals": [removal.model_dump(mode="json") for removal in report.removals],
        "spared": [kept.model_dump(mode="json") for kept in report.spared],
    }


def _lines(report: CleanupReport, dry_run: bool) -> Iterator[str]:
    """One for each thing, under the reason for which it goes; then the sum."""
    from runner.domain.removal import size_text

    if not report.removals:
        yield "nothing to remove"
        return
    verb = "would remove" if dry_run else "removed"
    for why, removals in groupby(report.removals, key=lambda removal: removal.why):
        yield f"{why}:"
        for removal in removals:
            freed = removal.bytes_freed
            amount = "" if freed is None else f" ({size_text(freed)})"
            yield f"{verb} {removal.name}{amount}"
    total = size_text(report.bytes_freed)
    yield f"{total} would be freed" if dry_run else f"{total} freed"
