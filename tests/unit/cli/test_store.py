"""`agenttrace store`: a real SQLite database, looked at, copied, taken down and up again."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from runner.store.schema import HEAD

from .conftest import Outcome

Agenttrace = Callable[..., Outcome]


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, agenttrace: Agenttrace) -> Path:
    """Where the database of these tests is, or will be."""
    monkeypatch.setenv("AGENTTRACE_STORAGE__STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state/agenttrace.db"


def made(agenttrace: Agenttrace) -> None:
    assert agenttrace("store", "upgrade").code == 0


def tables(file: Path) -> set[str]:
    with closing(sqlite3.connect(file)) as connection:
        query = "SELECT name FROM sqlite_master WHERE type = 'table'"
        return {name for (name,) in connection.execute(query)}


@pytest.mark.parametrize(
    "line", ["store status", "store backup copy.db", "store downgrade 0001 --yes"]
)
def test_no_database_is_made_by_looking_for_one(
    agenttrace: Agenttrace, database: Path, line: str
) -> None:
    shown = agenttrace(*line.split())
    assert shown.code == 2
    assert "there is no database" in shown.err
    assert not database.exists()
    assert not Path("copy.db").exists()


def test_upgrade_makes_it_and_status_shows_it(agenttrace: Agenttrace, database: Path) -> None:
    made(agenttrace)
    assert {"jobs", "quota_entries", "executions", "attempts"} <= tables(database)
    shown = agenttrace("store", "status")
    assert f"database  sqlite:///{database}\n" in shown.out
    assert f"schema    {HEAD}\n" in shown.out
    assert "size      " in shown.out
    assert shown.err == ""


def test_status_as_data(agenttrace: Agenttrace, database: Path) -> None:
    made(agenttrace)
    data = json.loads(agenttrace("store", "status", "--json").out)
    assert data["address"] == f"sqlite:///{database}"
    assert data["revision"] == data["newest"] == HEAD
    assert data["bytes"] >= database.stat().st_size


def test_a_backup_is_a_database_for_this_user_alone(agenttrace: Agenttrace, database: Path) -> None:
    made(agenttrace)
    shown = agenttrace("store", "backup", "copy.db")
    assert (shown.code, shown.out) == (0, "copied to copy.db\n")
    copy = Path("copy.db")
    assert tables(copy) == tables(database)
    assert copy.stat().st_mode & 0o777 == 0o600


def test_a_backup_replaces_nothing(agenttrace: Agenttrace, database: Path) -> None:
    made(agenttrace)
    Path("copy.db").write_text("precious")
    shown = agenttrace("store", "backup", "copy.db", "--json")
    assert shown.code == 2
    assert "copy.db exists" in shown.err
    assert Path("copy.db").read_text() == "precious"


def test_a_server_is_not_copied(agenttrace: Agenttrace, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql://me:secret-word@nowhere.invalid/agenttrace"
    monkeypatch.setenv("AGENTTRACE_STORAGE__DATABASE_URL", url)
    shown = agenttrace("store", "backup", "copy.db")
    assert shown.code == 2
    assert "pg_dump" in shown.err
    assert "secret-word" not in shown.err


def test_a_downgrade_has_to_be_meant(agenttrace: Agenttrace, database: Path) -> None:
    made(agenttrace)
    before = tables(database)
    shown = agenttrace("store", "downgrade", "0001")
    assert shown.code == 2
    assert "--yes" in shown.err
    assert tables(database) == before


def test_down_and_up_again(agenttrace: Agenttrace, database: Path) -> None:
    made(agenttrace)
    shown = agenttrace("store", "downgrade", "0001", "--yes")
    assert shown.code == 0
    assert "schema    0001\n" in shown.out
    assert shown.err == f"this version works with schema {HEAD}\n"
    assert "jobs" not in tables(database)
    assert "executions" in tables(database)
    assert "schema    0001\n" in agenttrace("store", "status").out
    made(agenttrace)
    assert "jobs" in tables(database)


def test_a_revision_that_there_is_not(agenttrace: Agenttrace, database: Path) -> None:
    made(agenttrace)
    shown = agenttrace("store", "downgrade", "9999", "--yes")
    assert shown.code == 2
    assert "no revision 9999" in shown.err
