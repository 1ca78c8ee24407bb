"""Databases that are locked, away, or not what they should be."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, make_url
from sqlalchemy.exc import OperationalError

from runner.domain import Breaker, JobOutcome, JobState
from runner.errors import StoreUnavailable
from runner.store import Store, open_store, sqlite_url
from tests.postgres import PostgresServer
from tests.unit.store.nouns import ALICE, NOW, UNLIMITED, new_job, numbered, task_execution


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        yield


# -- SQLite ---------------------------------------------------------------------------------------


def test_the_file_is_this_users_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "x.db"
    with open_store(sqlite_url(path)) as store:
        store.queue.submit(new_job("run"), UNLIMITED)
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert modes == dict.fromkeys(["x.db", "x.db-wal", "x.db-shm"], 0o600)


def test_a_lock_that_stays_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with open_store(sqlite_url(path), patience_seconds=0.2) as store:
        with locked(path), pytest.raises(StoreUnavailable) as error:
            store.queue.submit(new_job("run"), UNLIMITED)
        assert str(path) in error.value.message
        assert "is locked, for 0.2 s" in error.value.message
        assert "storage.database_patience_seconds" in error.value.remedy
        assert store.queue.submit(new_job("run"), UNLIMITED)


def test_readers_do_not_wait_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with open_store(sqlite_url(path), patience_seconds=0.2) as store, locked(path):
        assert store.queue.jobs() == []


def test_a_lock_that_goes_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with open_store(sqlite_url(path)) as store, ThreadPoolExecutor(1) as pool:
        with locked(path):
            submitted = pool.submit(store.queue.submit, new_job("run"), UNLIMITED)
            with pytest.raises(TimeoutError):
                submitted.result(0.3)
        assert submitted.result(30).run_id == "run"


def test_what_is_no_database_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"no database at all" * 100)
    with (
        pytest.raises(StoreUnavailable, match="not a database") as error,
        open_store(sqlite_url(path)),
    ):
        pass
    assert str(path) in str(error.value)


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StoreUnavailable, match=r"file/x\.db"),
        open_store(sqlite_url(tmp_path / "file" / "x.db")),
    ):
        pass


# -- PostgreSQL -----------------------------------------------------------------------------------


@pytest.mark.postgres
def test_a_server_that_comes_back_is_waited_for(
    postgres: PostgresServer, postgres_url: str
) -> None:
    with open_store(postgres_url, patience_seconds=60) as store, ThreadPoolExecutor(1) as pool:
        store.queue.submit(new_job("before"), UNLIMITED)
        try:
            postgres.stop()
            submitted = pool.submit(store.queue.submit, new_job("run"), UNLIMITED)
            with pytest.raises(TimeoutError):
                submitted.result(0.5)
        finally:
            postgres.start()
        assert submitted.result(60).run_id == "run"
        assert len(store.queue.jobs()) == 2


@pytest.mark.postgres
def test_a_server_that_stays_away_is_told(postgres: PostgresServer, postgres_url: str) -> None:
    with open_store(postgres_url, patience_seconds=0.3) as store:
        try:
            postgres.stop()
            with pytest.raises(StoreUnavailable, match="does not answer") as error:
                store.queue.jobs()
        finally:
            postgres.start()
        assert store.url_shown in error.value.message
        assert "storage.database_url" in error.value.remedy


@pytest.mark.postgres
def test_a_database_that_there_is_not_is_told_at_once(postgres: PostgresServer) -> None:
    url = make_url(postgres.url).set(database="nowhere", password="hunter2")
    shown = url.render_as_string(hide_password=False)
    with (
        pytest.raises(StoreUnavailable, match="refuses") as error,
        open_store(shown, patience_seconds=600),
    ):
        pass
    assert "hunter2" not in str(error.value)


# -- a reply that is lost: the transaction was done, and is tried again ----------------------------


@contextmanager
def losing_the_next_reply() -> Iterator[list[str]]:
    """The next commit is done, but whoever asked for it is told of a broken connection."""
    lost: list[str] = []

    def lose(connection: Connection) -> None:
        if lost:
            return
        lost.append("commit")
        connection.connection.driver_connection.commit()  # type: ignore[union-attr]
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN")
        cause: Any = sqlite3.OperationalError("lost")
        cause.sqlite_errorcode = sqlite3.SQLITE_BUSY
        raise OperationalError("COMMIT", None, cause)

    event.listen(Engine, "commit", lose)
    try:
        yield lost
    finally:
        event.remove(Engine, "commit", lose)


def test_every_call_may_lose_its_reply(store: Store) -> None:
    queue, ledger = store.queue, store.ledger
    with losing_the_next_reply() as lost:
        queue.submit(new_job("run"), UNLIMITED)
    assert lost
    with losing_the_next_reply():
        claimed = queue.claim(ALICE, "c", NOW)
    assert claimed is not None
    assert claimed.lease.token == 1
    with losing_the_next_reply():
        ledger.append_events(claimed.lease, numbered(1))
    with losing_the_next_reply():
        assert ledger.adopt_attempt(claimed.lease, task_execution(), Path("/x")) is True
    with losing_the_next_reply():
        queue.postpone(claimed.lease, NOW, "", NOW)
    again = queue.claim(ALICE, "d", NOW)
    assert again is not None
    with losing_the_next_reply():
        taken = queue.take_over(again.lease, ALICE, "e", NOW)
    assert taken is not None
    assert (taken.lease.token, taken.job.losses) == (3, 1)
    with losing_the_next_reply():
        queue.finish(taken.lease, JobOutcome(state=JobState.FAILED), None, None, NOW)
    with losing_the_next_reply():
        queue.requeue("run", NOW)
    with losing_the_next_reply():
        queue.cancel("run", NOW)
    kinds = [one.event.kind for one in ledger.events("run")]
    assert kinds == ["submitted", "claimed", "task_started", "claimed", "claimed"]
    assert len(queue.quota_entries()) == 1


def test_a_breaker_does_not_count_twice_what_lost_its_reply(store: Store) -> None:
    def more(breaker: Breaker) -> tuple[Breaker, int]:
        return breaker.model_copy(update={"failures": breaker.failures + 1}), breaker.failures

    with losing_the_next_reply() as lost:
        assert store.breakers.update("a", more) == 0
    assert lost
    assert store.breakers.all()["a"].failures == 1
