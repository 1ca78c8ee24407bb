"""The schema of a database, brought to a revision; and a copy of it for safekeeping.

Alembic is imported where it is used: a database at head, as nearly always, needs none of it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection, inspect, text

from runner.domain.text import one_line
from runner.errors import StorageFailed, StoreUnavailable, UsageError
from runner.store.address import Address, parse_address
from runner.store.database import Database, lock_by_name
from runner.store.schema import HEAD

if TYPE_CHECKING:
    from alembic.config import Config

T = TypeVar("T")

PATIENCE_SECONDS = 60.0
_SCRIPTS = Path(__file__).parent / "migrations"


def upgrade(url: str, patience_seconds: float = PATIENCE_SECONDS) -> None:
    """Brings the schema to the newest revision; raises InvalidConfiguration, StoreUnavailable.

    Any number of processes may do so at once: one does it, the others find it done.
    """
    _with_database(url, patience_seconds, bring_to_head)


def downgrade(url: str, revision: str, patience_seconds: float = PATIENCE_SECONDS) -> None:
    """Back to an older revision, `base` for none; what newer tables hold is lost.

    Raises UsageError for a revision that there is not, and as `upgrade`.
    """
    if revision not in ("base", *_known()):
        raise UsageError(
            f"there is no revision {revision} of the schema",
            remedy=f"one of: base, {', '.join(sorted(_known()))}",
        )
    _with_database(url, patience_seconds, lambda database: _downgrade(database, revision))


def current(url: str, patience_seconds: float = PATIENCE_SECONDS) -> str | None:
    """The revision of the schema; None for an empty database. Raises as `upgrade`."""
    return _with_database(url, patience_seconds, lambda database: database.read(_revision))


def backup(url: str, target: Path) -> None:
    """A copy as of now in the new file `target`, while others go on working.

    Raises UsageError for a server's database, which has its own tools, and where `target` is;
    StorageFailed.
    """
    address = parse_address(url)
    if address.file is None:
        raise UsageError(
            f"{address.shown} is a PostgreSQL database, which this program does not copy",
            remedy=f"use pg_dump --format=custom --file={target} {address.shown}",
        )
    if not address.file.is_file():
        raise UsageError(f"there is no database {address.file}", remedy="check the setting")
    _make_target(target)
    try:
        _copy(address.file, target)
    except sqlite3.Error as error:
        target.unlink(missing_ok=True)
        raise StorageFailed(
            f"cannot copy {address.file} to {target}: {error}",
            remedy="free some space, or choose another place",
        ) from error


def bring_to_head(database: Database) -> None:
    """As `upgrade`, for a database that is open."""
    if database.read(_revision) != HEAD:
        database.write(lambda connection: _upgrade(connection, database.address))


# -- Alembic --------------------------------------------------------------------------------------


def _with_database(url: str, patience_seconds: float, work: Callable[[Database], T]) -> T:
    database = Database(parse_address(url), patience_seconds)
    try:
        return work(database)
    finally:
        database.close()


def _upgrade(connection: Connection, address: Address) -> None:
    """In one transaction, DDL included, on either database; whoever comes second finds it done."""
    lock_by_name(connection, "agenttrace migrations")
    revision = _revision(connection)
    if revision is not None and revision not in _known():
        raise StoreUnavailable(
            f"the database {address.shown} was made by a newer version of agenttrace: its schema is"
            f" {one_line(revision)}, this version knows {HEAD}",
            remedy="upgrade this installation, or name another storage.database_url",
        )
    from alembic import command

    command.upgrade(_config(connection), HEAD)


def _downgrade(database: Database, revision: str) -> None:
    from alembic import command

    def work(connection: Connection) -> None:
        lock_by_name(connection, "agenttrace migrations")
        command.downgrade(_config(connection), revision)

    database.write(work)


def _config(connection: Connection | None = None) -> Config:
    """No file and so no logging: the scripts lie beside this one, also in an installed wheel."""
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    return config


def _known() -> frozenset[str]:
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(_config())
    return frozenset(script.revision for script in scripts.walk_revisions())


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


# -- copies ---------------------------------------------------------------------------------------


def _make_target(target: Path) -> None:
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError as error:
        raise UsageError(f"{target} exists", remedy="name a file that does not") from error
    except OSError as error:
        raise StorageFailed(
            f"cannot write {target}: {error.strerror}", remedy="choose another place"
        ) from error


def _copy(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as there, closing(sqlite3.connect(target)) as here:
        there.backup(here)
