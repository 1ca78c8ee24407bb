"""What an operator does to the database itself: looks at its schema, copies it, changes it."""

from __future__ import annotations

from pathlib import Path

from runner.bootstrap.storing import database_url, has_store
from runner.config import Settings
from runner.domain.base import Noun
from runner.errors import UsageError
from runner.store import migrate
from runner.store.address import parse_address
from runner.store.schema import HEAD


class StoreStatus(Noun):
    """A database, and how far its schema is."""

    address: str
    """Without its password."""
    revision: str | None
    """None: there are no tables yet."""
    newest: str = HEAD
    """The revision that this version of the program works with."""
    bytes: int | None = None
    """Of an SQLite file and its log; None for a server's database."""


def status(settings: Settings) -> StoreStatus:
    """Where the database is and how far its schema is; changes nothing.

    Raises InvalidConfiguration, StoreUnavailable, UsageError where there is none yet.
    """
    url = _existing(settings)
    address = parse_address(url)
    return StoreStatus(
        address=address.shown,
        revision=migrate.current(url, settings.storage.database_patience_seconds),
        bytes=_size(address.file) if address.file else None,
    )


def backup(settings: Settings, target: Path) -> None:
    """A copy of an SQLite database in the new file `target`, while others go on working.

    Raises UsageError, StorageFailed.
    """
    migrate.backup(database_url(settings), target)


def upgrade(settings: Settings) -> StoreStatus:
    """Brings the schema to the newest revision; makes the database if there is none."""
    migrate.upgrade(database_url(settings), settings.storage.database_patience_seconds)
    return status(settings)


def downgrade(settings: Settings, revision: str) -> StoreStatus:
    """Back to an older revision, for an older version of the program; newer tables are lost.

    Raises UsageError for a revision that there is not.
    """
    url, patience = _existing(settings), settings.storage.database_patience_seconds
    migrate.downgrade(url, revision, patience)
    return status(settings)


def _existing(settings: Settings) -> str:
    """Its URL; looking at an SQLite database must not make one."""
    url = database_url(settings)
    file = parse_address(url).file
    if not has_store(settings) or (file and not file.is_file()):
        raise UsageError(
            f"there is no database {parse_address(url).shown} yet",
            remedy="`agenttrace submit` makes it; or check storage.database_url",
        )
    return url


def _size(file: Path) -> int:
    parts = (file, file.with_name(f"{file.name}-wal"))
    return sum(part.stat().st_size for part in parts if part.exists())
