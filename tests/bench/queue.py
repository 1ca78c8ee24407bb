"""Submit, claim and finish by several processes, beside an INSERT and COMMIT by the driver alone.

Both work on the same database, in turns: the ratio says what our layer costs.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Connection, Table, insert, make_url

from runner.domain import (
    JobOutcome,
    JobState,
    NewJob,
    QuotaState,
    SubmissionQuota,
    WorkerIdentity,
)
from runner.store import Store, open_store, sqlite_url
from runner.store.address import parse_address
from runner.store.database import Database
from runner.store.schema import jobs, quota_entries, submitters
from runner.store.submitting import _row
from tests.postgres import database, postgres_server
from tests.unit.store.nouns import benchmark_execution, submission, task_execution

PROCESSES = (1, 2, 4, 8)
SUBMITTERS = 100
BATCHES = 3
TIMED = ("submit", "claim", "finish")
UNLIMITED = SubmissionQuota(per_day=10**6, per_week=10**6)
PATIENCE_SECONDS = 60.0
ROW = b"x" * 1000
"""About as much as a job holds."""


def measure(waiting: int, rounds: int, processes: Sequence[int] = PROCESSES) -> dict[str, Any]:
    """Milliseconds and rates on both databases with `waiting` jobs queued all the time; `rounds`
    of submit, claim and finish for each number of processes.
    """
    measured = {}
    for kind, opened in (("sqlite", _sqlite), ("postgresql", _postgres)):
        with opened() as url:
            fill(url, waiting)
            measured[kind] = [_with_processes(url, n, rounds) for n in processes]
    return {"waiting": waiting, "rounds": rounds, **measured}


def fill(database_url: str, waiting: int, **endpoint: Any) -> None:
    """Queues so many jobs of 100 submitters: the rows that `submit` leaves, in one transaction."""
    with open_store(database_url, PATIENCE_SECONDS):  # makes the tables
        pass
    opened = Database(parse_address(database_url), PATIENCE_SECONDS)
    new = [new_job(f"team-{n % SUBMITTERS}", **endpoint) for n in range(waiting)]
    rows: dict[Table, list[dict[str, Any]]] = {
        submitters: [{"submitter": f"team-{n}"} for n in range(SUBMITTERS)],
        jobs: [_row(job, 1 + number // SUBMITTERS) for number, job in enumerate(new)],
        quota_entries: [_entry(job) for job in new],
    }

    def work(connection: Connection) -> None:
        for table, values in rows.items():
            connection.execute(insert(table), values)

    try:
        opened.write(work)
    finally:
        opened.close()


def _entry(job: NewJob) -> dict[str, Any]:
    return {
        "run_id": job.run_id,
        "submitter": job.submission.submitted_by,
        "state": QuotaState.RESERVED,
        "reserved_at": job.submitted_at,
    }


def new_job(submitter: str, **endpoint: Any) -> NewJob:
    """One that nobody has handed in before."""
    return NewJob(
        run_id=secrets.token_hex(8),
        submission=submission(submitter, **endpoint),
        submitted_at=datetime.now(UTC),
    )


@contextmanager
def _sqlite() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="agenttrace-bench-") as directory:
        yield sqlite_url(Path(directory, "queue.db"))


@contextmanager
def _postgres() -> Iterator[str]:
    with postgres_server() as server, database(server) as url:
        yield url


# -- the processes ------------------------------------------------------------------------------


def _with_processes(url: str, count: int, rounds: int) -> dict[str, Any]:
    """Batches of ours and of the driver's, alternating, so that noise meets both."""
    each = max(rounds // count // BATCHES, 2)
    samples: dict[str, list[float]] = {
        "submit": [],
        "claim": [],
        "finish": [],
        "insert": [],
        "cpu": [],
    }
    rates: dict[str, list[float]] = {"ours": [], "insert": []}
    with ExitStack() as stack:
        processes = [stack.enter_context(_process(url)) for _ in range(count)]
        for side in ("insert", "ours"):
            _batch(processes, side, 2)  # connections are opened, statements compiled
        for side in ("insert", "ours") * BATCHES:
            found, seconds = _batch(processes, side, each)
            operations = sum(len(values) for name, values in found.items() if name != "cpu")
            rates[side].append(operations / seconds)
            for name, values in found.items():
                samples[name] += values
    ours, insert = statistics.median(rates["ours"]), statistics.median(rates["insert"])
    medians = {name: statistics.median(values) for name, values in samples.items()}
    return {
        "processes": count,
        **{f"{name}_ms": _milliseconds(values) for name, values in samples.items()},
        **{f"{name}_ratio": medians[name] / medians["insert"] for name in TIMED},
        "operations_per_second": ours,
        "inserts_per_second": insert,
        "ratio": ours / insert,
    }


@contextmanager
def _process(url: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.bench.queue", url]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            assert process.stdin
            process.stdin.close()


def _batch(
    processes: list[subprocess.Popen[str]], side: str, rounds: int
) -> tuple[dict[str, list[float]], float]:
    """All begin at once: the seconds of each operation, and of all together."""
    started = time.perf_counter()
    for process in processes:
        assert process.stdin
        process.stdin.write(f"{side} {rounds}\n")
        process.stdin.flush()
    told = [_told(process) for process in processes]
    seconds = time.perf_counter() - started
    return {name: [s for one in told for s in one[name]] for name in told[0]}, seconds


def _told(process: subprocess.Popen[str]) -> dict[str, list[float]]:
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"a process of the benchmark ended with {process.wait()}")
    told: dict[str, list[float]] = json.loads(line)
    return told


def _milliseconds(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "median": 1000 * statistics.median(ordered),
        "p99": 1000 * ordered[int(0.99 * (len(ordered) - 1))],
    }


# -- one process --------------------------------------------------------------------------------


def main(url: str) -> None:
    """Does what it is told, a line for each batch, and answers with the seconds each step took."""
    with open_store(url, PATIENCE_SECONDS) as store, _driver(url) as insert:
        sides: Mapping[str, Callable[[], Mapping[str, float]]] = {
            "ours": lambda: _ours(store),
            "insert": lambda: {"insert": _timed(insert)[0]},
        }
        for line in sys.stdin:
            side, rounds = line.split()
            done = [sides[side]() for _ in range(int(rounds))]
            print(json.dumps({name: [one[name] for one in done] for name in done[0]}), flush=True)


def _ours(store: Store) -> dict[str, float]:
    """One job comes, one is taken, and that one ends with a result."""
    queue, now = store.queue, datetime.now(UTC)
    worker = WorkerIdentity(worker="bench", host="bench")
    job = new_job(f"team-{secrets.randbelow(SUBMITTERS)}")
    before = time.process_time()
    submitted, _ = _timed(lambda: queue.submit(job, UNLIMITED))
    claimed, claim = _timed(lambda: queue.claim(worker, secrets.token_hex(8), now))
    assert claim
    run_id = claim.lease.run_id
    result = benchmark_execution(run_id, *(task_execution(f"t{n}", run_id=run_id) for n in "123"))
    outcome = JobOutcome(state=JobState.FINISHED, note="score 0.0")
    finished, _ = _timed(lambda: queue.finish(claim.lease, outcome, result, Path("/x"), now))
    cpu = (time.process_time() - before) / len(TIMED)
    return {"submit": submitted, "claim": claimed, "finish": finished, "cpu": cpu}


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


@contextmanager
def _driver(url: str) -> Iterator[Callable[[], None]]:
    """Inserts a row and commits it; on SQLite with the pragmas of ours."""
    file = parse_address(url).file
    if file:
        with _sqlite_driver(file) as insert:
            yield insert
    else:
        with _postgres_driver(url) as insert:
            yield insert


@contextmanager
def _sqlite_driver(file: Path) -> Iterator[Callable[[], None]]:
    connection = sqlite3.connect(file, timeout=PATIENCE_SECONDS, isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = FULL"):
        connection.execute(f"PRAGMA {pragma}").close()
    connection.execute("CREATE TABLE IF NOT EXISTS bench (id INTEGER PRIMARY KEY, row BLOB)")

    def insert() -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO bench (row) VALUES (?)", (ROW,))
        connection.execute("COMMIT")

    try:
        yield insert
    finally:
        connection.close()


@contextmanager
def _postgres_driver(url: str) -> Iterator[Callable[[], None]]:
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(1)")  # made by one of several at once
        connection.execute("CREATE TABLE IF NOT EXISTS bench (id bigserial PRIMARY KEY, row bytea)")
        connection.commit()

        def insert() -> None:
            connection.execute("INSERT INTO bench (row) VALUES (%s)", (ROW,))
            connection.commit()

        yield insert


if __name__ == "__main__":
    main(sys.argv[1])
