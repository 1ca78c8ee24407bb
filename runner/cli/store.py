"""`agenttrace store`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from runner.cli.failure import inert, say
from runner.cli.invocation import json_option, load, print_json, settings_options

if TYPE_CHECKING:
    from runner.bootstrap.store_commands import StoreStatus


@click.group(short_help="Look at the database, copy it, change its schema.")
def store() -> None:
    """Look at the database of queue, quotas and results, copy it, change its schema."""


@store.command(
    epilog="""\b
Examples:
  agenttrace store status
  agenttrace store status --json | jq -r .revision
"""
)
@settings_options
@json_option
def status(profile: str | None, as_json: bool) -> None:
    """Show where the database is and how far its schema is; nothing is changed.

    Exits with 3 when it does not answer.
    """
    from runner.bootstrap import store_commands

    _show(store_commands.status(load(profile).settings), as_json=as_json)


@store.command(
    epilog="""\b
Examples:
  agenttrace store backup /srv/backup/agenttrace-monday.db
"""
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@settings_options
@json_option
def backup(file: Path, profile: str | None, as_json: bool) -> None:
    """Copy an SQLite database as it is now to FILE, which must not exist.

    Workers may go on meanwhile. For PostgreSQL use pg_dump.
    """
    from runner.bootstrap import store_commands

    store_commands.backup(load(profile).settings, file)
    if as_json:
        print_json({"file": str(file), "bytes": file.stat().st_size})
    else:
        click.echo(inert(f"copied to {file}"))


@store.command(
    epilog="""\b
Examples:
  agenttrace store upgrade
"""
)
@settings_options
@json_option
def upgrade(profile: str | None, as_json: bool) -> None:
    """Bring the schema to the newest revision; a database that there is not is made.

    Every command that opens the database does the same.
    """
    from runner.bootstrap import store_commands

    _show(store_commands.upgrade(load(profile).settings), as_json=as_json)


@store.command(
    epilog="""\b
Examples:
  agenttrace store downgrade 0001 --yes      results alone: queue and quotas are dropped
"""
)
@click.argument("revision")
@click.option("--yes", is_flag=True, help="What only newer tables hold is lost: do it.")
@settings_options
@json_option
def downgrade(revision: str, yes: bool, profile: str | None, as_json: bool) -> None:
    """Take the schema back to REVISION (`base`: no tables), for an older version of agenttrace.

    Stop all workers first: a command of this version brings it up again.
    """
    from runner.bootstrap import store_commands

    if not yes:
        raise click.UsageError(
            "what only newer tables hold is lost: make a backup, then give --yes."
        )
    _show(store_commands.downgrade(load(profile).settings, revision), as_json=as_json)


def _show(found: StoreStatus, *, as_json: bool) -> None:
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    from runner.domain.removal import size_text

    click.echo(inert(f"database  {found.address}"))
    click.echo(inert(f"schema    {found.revision or 'none'}"))
    if found.bytes is not None:
        click.echo(f"size      {size_text(found.bytes)}")
    if found.revision != found.newest:
        say(f"this version works with schema {found.newest}")
