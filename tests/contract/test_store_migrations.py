"""The schema goes up and down with its data, and is the one that the code was written for."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, make_url, text

import runner.store
from runner.domain import JobOutcome, JobState
from runner.errors import StorageFailed, StoreUnavailable, UsageError
from runner.store import open_store, sqlite_url
from runner.store.migrate import backup, current, downgrade, upgrade
from runner.store.schema import HEAD, metadata
from tests.unit.store.nouns import (
    ALICE,
    NOW,
    UNLIMITED,
    benchmark_execution,
    new_job,
    task_execution,
)

HERE = Path("/runs/run")


@pytest.fixture
def engine(store_url: str) -> Iterator[Engine]:
    url = make_url(store_url)
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    engine = create_engine(url)
    yield engine
    engine.dispose()


def fill(url: str) -> None:
    with open_store(url) as store:
        store.queue.submit(new_job("run"), UNLIMITED)
        claimed = store.queue.claim(ALICE, "c", NOW)
        assert claimed is not None
        store.ledger.keep_attempt(claimed.lease, task_execution(), HERE)
        finished = JobOutcome(state=JobState.FINISHED)
        store.queue.finish(claimed.lease, finished, benchmark_execution(), HERE, NOW)


def test_results_outlive_a_downgrade_of_the_queue(store_url: str) -> None:
    fill(store_url)
    downgrade(store_url, "0001")
    assert current(store_url) == "0001"
    upgrade(store_url)
    assert current(store_url) == HEAD
    with open_store(store_url) as store:
        assert store.queue.jobs() == []
        assert store.ledger.result("run") == benchmark_execution()
        assert store.ledger.kept("run") == {("t", 1, 1): HERE}
        assert store.ledger.judged("run") == {("t", 1)}
        assert len(store.ledger.events("run")) == 2
    fill_again = new_job("run-2")
    with open_store(store_url) as store:
        assert store.queue.submit(fill_again, UNLIMITED).state is JobState.QUEUED


def test_all_the_way_down_and_up(store_url: str, engine: Engine) -> None:
    fill(store_url)
    downgrade(store_url, "base")
    with engine.connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() is None
        assert not _differences(engine, ignoring_missing=True)
    upgrade(store_url)
    assert not _differences(engine)


def _differences(engine: Engine, *, ignoring_missing: bool = False) -> list[object]:
    with engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), metadata)
    if ignoring_missing:
        return [one for one in found if not str(one[0]).startswith("add_")]
    return list(found)


def test_the_migrations_make_what_the_code_expects(store_url: str, engine: Engine) -> None:
    upgrade(store_url)
    assert _differences(engine) == []


def test_one_head_and_the_code_knows_it() -> None:
    place = Path(runner.store.__file__).parent / "migrations"
    assert ScriptDirectory(str(place)).get_heads() == [HEAD]


def test_a_database_of_a_newer_version_is_refused(store_url: str, engine: Engine) -> None:
    upgrade(store_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with (
        pytest.raises(StoreUnavailable, match="made by a newer version") as error,
        open_store(store_url),
    ):
        pass
    assert "9999" in error.value.message
    assert "upgrade" in error.value.remedy
    assert current(store_url) == "9999"


def test_a_revision_that_there_is_not(store_url: str) -> None:
    with pytest.raises(UsageError, match="no revision 0099") as error:
        downgrade(store_url, "0099")
    assert "base, 0001, 0002" in error.value.remedy


def test_logging_stays_as_it_was(tmp_path: Path) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers), logging.getLogger("alembic").level)
    upgrade(sqlite_url(tmp_path / "x.db"))
    assert (root.level, list(root.handlers), logging.getLogger("alembic").level) == before


# -- copies ---------------------------------------------------------------------------------------


def test_a_copy_is_a_database(tmp_path: Path) -> None:
    url, target = sqlite_url(tmp_path / "x.db"), tmp_path / "copy.db"
    fill(url)
    with open_store(url) as store:
        store.queue.submit(new_job("waiting"), UNLIMITED)
        backup(url, target)
        store.queue.submit(new_job("after"), UNLIMITED)
    assert target.stat().st_mode & 0o777 == 0o600
    with open_store(sqlite_url(target)) as copy:
        assert {job.run_id for job in copy.queue.jobs()} == {"run", "waiting"}


def test_a_copy_replaces_nothing(tmp_path: Path) -> None:
    url, target = sqlite_url(tmp_path / "x.db"), tmp_path / "copy.db"
    upgrade(url)
    target.write_text("precious")
    with pytest.raises(UsageError, match="exists"):
        backup(url, target)
    assert target.read_text() == "precious"
    with pytest.raises(StorageFailed):
        backup(url, tmp_path / "nowhere" / "copy.db")
    with pytest.raises(UsageError, match="no database"):
        backup(sqlite_url(tmp_path / "y.db"), tmp_path / "z.db")


def test_what_is_no_database_is_not_copied(tmp_path: Path) -> None:
    source, target = tmp_path / "x.db", tmp_path / "copy.db"
    source.write_bytes(b"no database at all" * 100)
    with pytest.raises(StorageFailed, match="not a database"):
        backup(sqlite_url(source), target)
    assert not target.exists()


def test_a_server_has_its_own_tools(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        backup("postgresql://user:hunter2@host/db", tmp_path / "x")
    assert "pg_dump" in error.value.remedy
    assert "hunter2" not in str(error.value)


def test_a_copy_is_whole_while_somebody_writes(tmp_path: Path) -> None:
    url, target = sqlite_url(tmp_path / "x.db"), tmp_path / "copy.db"
    upgrade(url)
    with closing(sqlite3.connect(tmp_path / "x.db", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO submitters VALUES ('unfinished')")
        backup(url, target)
        writer.execute("ROLLBACK")
    with closing(sqlite3.connect(target)) as copy:
        assert copy.execute("SELECT count(*) FROM submitters").fetchone() == (0,)
