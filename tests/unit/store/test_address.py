"""URLs of databases: parsed, mapped, and shown without secrets."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import InvalidConfiguration
from runner.store.address import parse_address, sqlite_url

file_names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=20
).filter(lambda name: name not in (".", ".."))


@given(file_names)
def test_any_path_survives_its_url(name: str) -> None:
    path = Path("/srv/state") / name
    assert parse_address(sqlite_url(path)).file == path


def test_a_relative_path_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_address("sqlite:///x.db").file == tmp_path / "x.db"
    assert sqlite_url(Path("x.db")) == sqlite_url(tmp_path / "x.db")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_servers_are_spoken_to_by_one_driver(scheme: str) -> None:
    address = parse_address(f"{scheme}://me:hunter2@host:5433/db?password=hunter2&sslmode=require")
    assert address.file is None
    assert address.url.drivername == "postgresql+psycopg"
    assert address.url.query["sslmode"] == "require"
    assert address.shown == "postgresql://me@host:5433/db"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "no url hunter2",
        "mysql://me:hunter2@host/db",
        "postgresql+asyncpg://me:hunter2@host/db",
        "postgresql://me:hunter2@host:port/db",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:hunter2?mode=memory&uri=true",
    ],
)
def test_what_we_do_not_speak_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(InvalidConfiguration) as error:
        parse_address(url)
    assert "hunter2" not in str(error.value)
    assert "storage.database_url" in error.value.remedy
