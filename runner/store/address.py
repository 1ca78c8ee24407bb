"""Where the database is: a URL from the settings, parsed, and fit to be shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from runner.domain.text import one_line
from runner.errors import InvalidConfiguration

_REMEDY = (
    'set storage.database_url to "sqlite:////path/to/file.db" or'
    ' "postgresql://user:password@host/database"'
)
_SQLITE = ("sqlite", "sqlite+pysqlite")
_POSTGRES = ("postgres", "postgresql", "postgresql+psycopg")


@dataclass(frozen=True, kw_only=True)
class Address:
    """One database; `file` is None for a server's."""

    url: URL
    """With the driver that we use."""
    shown: str
    """Without password, and without the options in which one may hide."""
    file: Path | None


def sqlite_url(path: Path) -> str:
    """The URL of an SQLite file."""
    return URL.create("sqlite", database=str(path.absolute())).render_as_string()


def parse_address(url: str) -> Address:
    """Raises InvalidConfiguration for what is no URL, or names a database that we do not speak."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # its text may quote a password
        raise InvalidConfiguration("the database URL is not a URL", remedy=_REMEDY) from None
    if parsed.drivername in _SQLITE:
        return _file(parsed)
    if parsed.drivername in _POSTGRES:
        return _server(parsed)
    raise InvalidConfiguration(
        f"databases of the kind {one_line(parsed.drivername)} are not supported", remedy=_REMEDY
    )


def _file(url: URL) -> Address:
    name = url.database or ":memory:"
    if name == ":memory:" or name.startswith("file:"):
        raise InvalidConfiguration(
            "an SQLite database needs a file: several processes share it", remedy=_REMEDY
        )
    path = Path(name).absolute()
    return Address(
        url=URL.create("sqlite+pysqlite", database=str(path)), shown=f"sqlite:///{path}", file=path
    )


def _server(url: URL) -> Address:
    shown = URL.create(
        "postgresql", username=url.username, host=url.host, port=url.port, database=url.database
    )
    return Address(
        url=url.set(drivername="postgresql+psycopg"), shown=shown.render_as_string(), file=None
    )
