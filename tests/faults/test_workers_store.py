"""The store away, locked, or behind the run directory, while workers need it."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from runner.domain import JobState
from tests.end_to_end.shell import wait_until
from tests.postgres import PostgresServer, PrivateServer

from .queueing import Service, assert_finished, assert_settled, drained, ended, killed
from .whole import attempts_of

pytestmark = pytest.mark.docker

PATIENT = {"AGENTTRACE_STORAGE__DATABASE_PATIENCE_SECONDS": "60"}
HASTY = {
    "AGENTTRACE_STORAGE__DATABASE_PATIENCE_SECONDS": "0.5",
    "AGENTTRACE_QUEUE__LEASE_SECONDS": "2",
}
LEFT = "is left for another worker"


# -- SQLite, locked by another process -------------------------------------------------------------


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        yield


@pytest.mark.slow
def test_a_lock_shorter_than_our_patience(service: Service) -> None:
    run_id = service.submit("once_patient")
    worker = service.worker("--until-empty", **PATIENT)
    name = service.wait_until_waiting()
    count = len(attempts_of(service.run(run_id)))
    with locked(service.database):
        service.release(name)
        service.wait_for_attempts(run_id, count + 1)  # kept on disk, and not yet in the database
    said = ended(worker).err
    assert LEFT not in said
    assert service.job(run_id).claims == 1
    assert_finished(service, run_id)
    assert_settled(service)


@pytest.mark.slow
def test_a_lock_longer_than_our_patience(service: Service) -> None:
    """The worker lets go of the job, and takes it up again when it can; what is on disk counts."""
    run_id = service.submit("once_patient")
    worker = service.worker(**HASTY)
    name = service.wait_until_waiting()
    count = len(attempts_of(service.run(run_id)))
    with locked(service.database):
        service.release(name)
        service.wait_for_attempts(run_id, count + 1)
        worker.wait_for(LEFT)
        before = attempts_of(service.run(run_id))
    service.wait_for(run_id, JobState.FINISHED)
    drained(worker)
    assert_finished(service, run_id, before)
    assert service.job(run_id).claims == 2
    assert_settled(service)


# -- PostgreSQL, stopped and started ---------------------------------------------------------------


def crash(server: PostgresServer) -> None:
    """SIGKILL to the postmaster and all of its processes; a server that is not ours is stopped."""
    if not isinstance(server, PrivateServer):
        server.stop()
        return
    process = server._process
    assert process
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in [process.pid, *map(int, children)]:
        os.kill(pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not [pid for pid in children if Path(f"/proc/{pid}/fd").exists()])
    server._process = None


@contextmanager
def away(server: PostgresServer, how: str) -> Iterator[None]:
    """Within it nobody gets an answer."""
    if how == "crash":
        crash(server)
    else:
        server.stop()
    try:
        yield
    finally:
        server.start()


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.parametrize("how", ["stop", "crash"])
def test_outages_shorter_than_our_patience(
    postgres_service: Service, postgres: PostgresServer, how: str
) -> None:
    """Each attempt but the first is kept on disk while the server is away."""
    service = postgres_service
    run_id = service.submit("patient")
    worker = service.worker("--until-empty", **PATIENT)
    name = service.wait_until_waiting()
    for done in range(1, 5):
        with away(postgres, how):
            service.release(name)
            service.wait_for_attempts(run_id, done)
        if done < 4:
            name = service.wait_until_waiting(name)
    said = ended(worker).err
    assert LEFT not in said
    assert service.job(run_id).claims == 1
    assert_finished(service, run_id)
    assert_settled(service)


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.parametrize("how", ["stop", "crash"])
def test_an_outage_longer_than_our_patience(
    postgres_service: Service, postgres: PostgresServer, how: str
) -> None:
    service = postgres_service
    run_id = service.submit("once_patient")
    worker = service.worker(**HASTY)
    name = service.wait_until_waiting()
    count = len(attempts_of(service.run(run_id)))
    with away(postgres, how):
        service.release(name)
        service.wait_for_attempts(run_id, count + 1)
        worker.wait_for(LEFT)
        worker.wait_for("no work can be looked for")
        before = attempts_of(service.run(run_id))
    service.wait_for(run_id, JobState.FINISHED)
    drained(worker)
    assert_finished(service, run_id, before)
    assert_settled(service)


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.timeout(400)
def test_a_server_that_comes_and_goes(postgres_service: Service, postgres: PostgresServer) -> None:
    """Two workers and six jobs, whatever they do just then; some calls lose their reply."""
    service = postgres_service
    first = service.submit()
    runs = [first, *(service.enqueue(first) for _ in range(5))]
    workers = [service.worker("-w", "2", **PATIENT) for _ in range(2)]
    service.wait_for(first, JobState.RUNNING, JobState.FINISHED)
    outages = 0
    while not all(service.job(run_id).state.final for run_id in runs):
        done = kept_by(service, runs)
        with away(postgres, "crash" if outages % 2 else "stop"):
            pass
        outages += 1
        wait_until(lambda done=done: kept_by(service, runs) > done or all_over(service, runs))
    drained(*workers)
    assert outages > 2
    for run_id in runs:
        assert_finished(service, run_id)
    assert_settled(service)


def kept_by(service: Service, runs: list[str]) -> int:
    return sum(len(attempts_of(service.run(run_id))) for run_id in runs)


def all_over(service: Service, runs: list[str]) -> bool:
    return all(service.job(run_id).state.final for run_id in runs)


# -- the database behind the run directory ---------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "lost",
    [
        "DELETE FROM attempts WHERE run_id = :run",
        (
            "DELETE FROM attempts WHERE run_id = :run AND task_id IN"
            " (SELECT task_id FROM attempts ORDER BY begun_at DESC LIMIT 1)"
        ),
        (
            "UPDATE attempts SET state = 'begun', is_final = false, judged = false,"
            " document = NULL, path = NULL WHERE run_id = :run"
        ),
    ],
    ids=["all", "last", "begun"],
)
def test_attempts_that_the_database_lost(either: Service, lost: str) -> None:
    """They are on disk: the next worker enters them again, and makes none of them again."""
    run_id = either.submit()
    killed(either.doomed_worker("kept in both:3"))
    either.note_names()
    before = attempts_of(either.run(run_id))
    assert len(before) == 3
    with either.sql() as connection:
        assert connection.execute(text(lost), {"run": run_id}).rowcount
    either.work_off()
    assert_finished(either, run_id, before)
    assert len(attempts_of(either.run(run_id))) == 4
    assert_settled(either)


@pytest.mark.slow
def test_a_database_from_yesterday(service: Service, tmp_path: Path) -> None:
    """Restored from a copy that was made before the job was begun."""
    run_id = service.submit()
    copy = tmp_path / "copy.db"
    with (
        closing(sqlite3.connect(service.database)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
    killed(service.doomed_worker("kept in both:3"))
    service.note_names()
    before = attempts_of(service.run(run_id))
    for beside in ("-wal", "-shm"):
        Path(f"{service.database}{beside}").unlink(missing_ok=True)
    shutil.copy(copy, service.database)
    service.work_off()
    assert_finished(service, run_id, before)
    assert len(attempts_of(service.run(run_id))) == 4
    assert_settled(service)


@pytest.mark.slow
def test_a_finished_run_that_the_database_forgot(service: Service) -> None:
    """The job ended after the copy was made: its result is on disk, and is the result again."""
    run_id = service.submit()
    killed(service.doomed_worker("before the job's end"))
    service.note_names()
    before = attempts_of(service.run(run_id))
    with service.sql() as connection:
        connection.execute(text("DELETE FROM attempts"))
        connection.execute(text("DELETE FROM events"))
    service.work_off()
    assert_finished(service, run_id, before)
    assert len(attempts_of(service.run(run_id))) == 4
    assert_settled(service)
