"""A queue, its store and its workers, as a user's commands; and what has to hold after any fault.

Each test has a `Service` of its own: a directory with a suite of four tasks and a few agents, a
state directory and a database. Commands are run as a user runs them; what they leave is looked at
through the store and in the run directories.
"""

from __future__ import annotations

import os
import secrets
import signal
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, select, text

from runner.domain import (
    BenchmarkExecution,
    BenchmarkSubmission,
    EventKind,
    Job,
    JobOptions,
    JobState,
    NewJob,
    QuotaEntry,
    QuotaState,
    RefundReason,
    RunEvent,
    Schedule,
    SubmissionQuota,
    TaskExecution,
    WorkerStatus,
)
from runner.engine import EngineClient
from runner.errors import EngineFailed
from runner.images.setup import SetUp
from runner.records.layout import new_run_id
from runner.store import Store, open_store, sqlite_url
from runner.store.address import parse_address
from runner.store.schema import attempts as attempts_table
from runner.store.schema import executions as executions_table
from tests.end_to_end.shell import STATE, SUITE, Outcome, Running, Shell, release, wait_until
from tests.postgres import PostgresServer, database, postgres_server

from .whole import assert_nothing_left, assert_whole, attempts_of, tags

CHECKOUT = Path(__file__).parents[2]
TASKS = ("alpha", "beta", "gamma", "delta")
SEED = "7"
"""Of the tasks' order, so that a test knows it."""
SUITE_TOML = """
format = 1
name = "four"
version = "1.0.0"
"""
TASK = """
[[task]]
task_id = "{id}"
name = "{id}"
prompt = "Say {id}."
[[task.criteria]]
scorer = "exact"
expected = "{id}"
"""
SESSION = secrets.token_hex(8)
AGENT = f"""# {SESSION}: its image is nobody else's
import os, subprocess, time

def right(prompt, config):
    return prompt.removeprefix("Say ").rstrip(".")

def patient(prompt, config):
    mark = subprocess.Popen(["sleep", "600"])  # by which a test sees it wait
    while not os.path.exists("/tmp/go"):
        time.sleep(0.05)
    mark.kill()
    return right(prompt, config)

def once_patient(prompt, config):
    return patient(prompt, config) if "gamma" in prompt else right(prompt, config)

def slow(prompt, config):
    time.sleep(0.3)
    return right(prompt, config)
"""
ONCE = Schedule()
QUICK = {
    "AGENTTRACE_QUEUE__POLL_SECONDS": "0.1",
    "AGENTTRACE_SUBMISSIONS__QUOTA_PER_DAY": "100",
    "AGENTTRACE_SUBMISSIONS__QUOTA_PER_WEEK": "100",
    "AGENTTRACE_RUN__PARALLELISM": "1",
    "AGENTTRACE_LOG__FORMAT": "text",
    "AGENTTRACE_LOG__LEVEL": "info",
    "PYTHONPATH": str(CHECKOUT),
}


class Service:
    """What a host has that evaluates submissions; `url` is empty for a SQLite file."""

    def __init__(self, directory: Path, client: EngineClient, url: str = "") -> None:
        given = {"AGENTTRACE_STORAGE__DATABASE_URL": url} if url else {}
        self.shell = Shell(directory, client, environment={**QUICK, **given})
        self.url = url or sqlite_url(self.state / "agenttrace.db")
        self.names: set[str] = set()
        """Of all containers that were ever seen in a journal."""
        self.shell.write(f"{SUITE}/suite.toml", SUITE_TOML)
        self.shell.write(f"{SUITE}/reasoning.toml", "".join(TASK.format(id=one) for one in TASKS))
        self.shell.write("agent.py", AGENT)

    @property
    def state(self) -> Path:
        """Its state directory."""
        return self.shell.directory / STATE / "agenttrace"

    @property
    def database(self) -> Path:
        """The SQLite file."""
        file = parse_address(self.url).file
        assert file
        return file

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Its store, opened."""
        with open_store(self.url, patience_seconds=20) as store:
            yield store

    # -- what a user does -----------------------------------------------------------------------

    def submit(self, agent: str = "right", *options: str, by: str = "team") -> str:
        """The id of the run, which is queued."""
        named = ("--as", by, "--email", "a@example.org", "--accept-terms", "--suite", SUITE)
        target = agent if "/" in agent or ":" in agent else f"agent.py:{agent}"
        done = self.shell("submit", target, *named, "--seed", SEED, "-q", *options)
        assert done.code == 0, done.err
        return done.out.strip()

    def enqueue(
        self, like: str | BenchmarkSubmission, by: str = "team", schedule: Schedule = ONCE
    ) -> str:
        """One more job, without the checks: a run that was submitted before, or a submission."""
        run_id = new_run_id(datetime.now(UTC), secrets.token_bytes(3))
        options = JobOptions(suite=str(self.shell.directory / SUITE), seed=int(SEED))
        submission = self.job(like).submission if isinstance(like, str) else like
        job = NewJob(
            run_id=run_id,
            submission=submission.model_copy(update={"submitted_by": by}),
            options=options,
            schedule=schedule,
            submitted_at=datetime.now(UTC),
        )
        with self.store() as store:
            store.queue.submit(job, SubmissionQuota(per_day=100, per_week=100))
        return run_id

    def worker(self, *arguments: str, **variables: str) -> Running:
        """A worker process, begun."""
        return self.shell.start("worker", *arguments, **variables)

    def doomed_worker(
        self, point: str, *arguments: str, how: str = "KILL", **variables: str
    ) -> Running:
        """One that kills itself, or stops, at `point` (see `tests.faults.halting`)."""
        command, self.shell.command = (
            self.shell.command,
            (sys.executable, "-m", "tests.faults.halting", how, point, "--"),
        )
        try:
            return self.worker(*arguments, **variables)
        finally:
            self.shell.command = command

    def work_off(self, **variables: str) -> Outcome:
        """Everything that is due, by one worker."""
        done = self.shell("worker", "--until-empty", **variables)
        assert done.code == 0, done.err
        return done

    # -- what there is --------------------------------------------------------------------------

    def run(self, run_id: str) -> Path:
        """Its directory."""
        return self.shell.directory / "runs" / run_id

    def job(self, run_id: str) -> Job:
        """As the queue has it."""
        with self.store() as store:
            return store.queue.job(run_id)

    def jobs(self) -> list[Job]:
        """All of them."""
        with self.store() as store:
            return store.queue.jobs()

    def quota(self) -> list[QuotaEntry]:
        """The ledger."""
        with self.store() as store:
            return store.queue.quota_entries()

    def kinds(self, run_id: str) -> list[EventKind]:
        """What happened in a run, in order."""
        return [event.kind for event in self.events(run_id)]

    def events(self, run_id: str) -> list[RunEvent]:
        """What happened in a run, with its particulars."""
        with self.store() as store:
            return [each.event for each in store.ledger.events(run_id)]

    def kept(self, run_id: str) -> list[TaskExecution]:
        """The attempts on disk."""
        paths = sorted(self.run(run_id).glob("tasks/*/*/execution.json"))
        return [TaskExecution.model_validate_json(path.read_bytes()) for path in paths]

    def note_names(self) -> None:
        """Remembers which containers there may be, for `settled` to look for."""
        self.names |= set(self.shell.names())

    # -- waiting --------------------------------------------------------------------------------

    def wait_for(self, run_id: str, *states: JobState) -> Job:
        """The job, as soon as it is in one of these states."""

        def look() -> Job | None:
            job = self.job(run_id)
            return job if job.state in states else None

        job = wait_until(look)
        assert job
        return job

    def wait_for_attempts(self, run_id: str, count: int) -> None:
        """Until so many attempts are on disk."""
        wait_until(lambda: len(attempts_of(self.run(run_id))) >= count)

    def waiting(self) -> set[str]:
        """Names of containers whose patient agent waits."""
        return {name for name in self.shell.asking() if "sleep" in self._commands(name)}

    def _commands(self, name: str) -> str:
        try:
            return str(self.shell.client.call_blocking("top", lambda api: api.top(name)))
        except EngineFailed:  # it has ended
            return ""

    def wait_until_waiting(self, *known: str) -> str:
        """The name of a container whose patient agent waits, and which is none of `known`."""
        [name] = wait_until(lambda: self.waiting() - set(known))
        self.note_names()
        return name

    def release(self, name: str) -> None:
        """Lets a patient agent answer."""
        release(self.shell.client, name)

    def wait_for_workers(self, count: int) -> list[WorkerStatus]:
        """As soon as so many have reported."""

        def look() -> list[WorkerStatus]:
            with self.store() as store:
                found = store.queue.workers()
            return found if len(found) == count else []

        return wait_until(look)

    # -- at the database ------------------------------------------------------------------------

    @contextmanager
    def sql(self) -> Iterator[Connection]:
        """A transaction behind the store's back."""
        engine = create_engine(parse_address(self.url).url)
        try:
            with engine.begin() as connection:
                yield connection
        finally:
            engine.dispose()

    def count(self, query: str, **values: str) -> int:
        """The number that a query gives."""
        with self.sql() as connection:
            return int(connection.scalar(text(query), values) or 0)


def killed(running: Running) -> None:
    """Waits until a worker has died by SIGKILL."""
    assert running.end().code == -signal.SIGKILL, running.lines


def kill(running: Running) -> None:
    """Ends a worker as a crash would."""
    os.killpg(running.process.pid, signal.SIGKILL)
    killed(running)


def stop(service: Service, running: Running) -> None:
    """SIGSTOP, outside of a transaction: one on SQLite would lock everybody out, whoever we are."""
    while True:
        os.killpg(running.process.pid, signal.SIGSTOP)
        wait_until(lambda: is_stopped(running))
        if not is_locked_out(service):
            return
        os.killpg(running.process.pid, signal.SIGCONT)


def is_stopped(running: Running) -> bool:
    """Whether SIGSTOP has reached it."""
    status = Path(f"/proc/{running.process.pid}/stat").read_text().rpartition(")")[2]
    return status.split()[0] == "T"


def is_locked_out(service: Service) -> bool:
    """Whether somebody writes to the SQLite file for longer than a moment."""
    if parse_address(service.url).file is None:
        return False
    with closing(sqlite3.connect(service.database, timeout=1, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        return False


def drained(*workers: Running) -> None:
    """Ends them as an operator does."""
    for worker in workers:
        worker.wait_for("is ready")  # one that has only begun to begin is interrupted, not drained
        worker.interrupt(signal.SIGTERM)
    for worker in workers:
        ended(worker)


def ended(running: Running, code: int = 0) -> Outcome:
    """A worker that ended by itself."""
    outcome = running.end()
    assert outcome.code == code, (outcome.code, outcome.err)
    assert "Traceback" not in outcome.err, outcome.err
    return outcome


# -- what has to hold -----------------------------------------------------------------------------


def assert_settled(service: Service) -> None:
    """After the last fault, with all workers ended: nothing was lost, doubled or left behind."""
    with service.store() as store:
        jobs = store.queue.jobs()
        assert not store.queue.leases()
        assert not store.queue.workers()
        entries = {entry.run_id: entry for entry in store.queue.quota_entries()}
    assert set(entries) == {job.run_id for job in jobs}
    for job in jobs:
        assert job.state is JobState.QUEUED or job.state.final, job
        entry = entries[job.run_id]
        assert (entry.state, entry.refund_reason) == _owed(job), (job, entry)
        assert (entry.settled_at is not None) == job.state.final
        _assert_same_in_both(service, job)
    assert_nothing_left(service.shell.client, service.state, service.names, service.shell.temporary)


def assert_finished(
    service: Service,
    run_id: str,
    before: Mapping[tuple[str, int, int], str] | None = None,
    repeats: int = 1,
) -> BenchmarkExecution:
    """The job has its result, which is the same everywhere; `before`: see `assert_whole`."""
    job = service.job(run_id)
    assert job.state is JobState.FINISHED, job
    result = assert_whole(service.run(run_id), TASKS, repeats, before)
    assert result.overall_score == 100
    with service.sql() as connection:
        query = select(executions_table.c.document).where(executions_table.c.run_id == run_id)
        [document] = connection.scalars(query)
    assert BenchmarkExecution.model_validate_json(document) == result
    judged = [(one.task_id, one.repeat) for one in service.kept(run_id) if one.has_verdict]
    assert len(judged) == len(set(judged)), "a judged attempt was made again"
    return result


def _owed(job: Job) -> tuple[QuotaState, RefundReason | None]:
    match job.state:
        case JobState.FINISHED:
            return QuotaState.COMMITTED, None
        case JobState.FAILED:
            return QuotaState.REFUNDED, RefundReason.INFRASTRUCTURE_FAILED
        case JobState.CANCELLED if job.claims:
            return QuotaState.REFUNDED, RefundReason.CANCELLED_BY_OPERATOR
        case JobState.CANCELLED:
            return QuotaState.REFUNDED, RefundReason.CANCELLED_BEFORE_START
        case _:
            return QuotaState.RESERVED, None


def _assert_same_in_both(service: Service, job: Job) -> None:
    """The run directory and the database tell the same of one run."""
    run, query = service.run(job.run_id), select(attempts_table)
    with service.sql() as connection:
        rows = connection.execute(query.where(attempts_table.c.run_id == job.run_id)).all()
        results = connection.scalars(
            select(executions_table.c.document).where(executions_table.c.run_id == job.run_id)
        ).all()
    kept = {(row.task_id, row.repeat, row.attempt): row for row in rows if row.state == "kept"}
    on_disk = {(one.task_id, one.repeat, one.attempt): one for one in service.kept(job.run_id)}
    assert set(kept) == set(on_disk)
    assert {
        key: TaskExecution.model_validate_json(row.document) for key, row in kept.items()
    } == on_disk
    places = {key: (service.shell.directory / row.path).resolve() for key, row in kept.items()}
    assert places == {key: _place(run, *key).resolve() for key in kept}
    finals = sorted((row.task_id, row.repeat) for row in rows if row.is_final)
    assert finals == sorted({key[:2] for key in kept})
    last = {key[:2]: max(k for k in kept if k[:2] == key[:2]) for key in kept}
    assert all(kept[key].is_final for key in last.values())
    assert (run / "execution.json").exists() == bool(results)
    if results:
        result = BenchmarkExecution.model_validate_json(results[0])
        assert result == BenchmarkExecution.model_validate_json(
            (run / "execution.json").read_bytes()
        )
        assert {(o.task_id, o.repeat, o.attempt): o for o in result.task_executions} == {
            key: on_disk[key] for key in last.values()
        }


def _place(run: Path, task_id: str, repeat: int, attempt: int) -> Path:
    return run / "tasks" / task_id / f"{repeat}-{attempt}"


# -- fixtures -------------------------------------------------------------------------------------


@contextmanager
def serving(
    directory: Path, client: EngineClient, built: set[tuple[EngineClient, str]], url: str = ""
) -> Iterator[Service]:
    """One of its own for a test; what a failed one leaves is removed."""
    service = Service(directory, client, url)
    try:
        yield service
    finally:
        service.shell.kill()
        built |= {(client, tag) for tag in tags(service.state)}


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def service(
    client: EngineClient, made: SetUp, tmp_path: Path, built: set[tuple[EngineClient, str]]
) -> Iterator[Service]:
    """On SQLite."""
    with serving(tmp_path, client, built) as service:
        yield service


@pytest.fixture
def postgres_service(
    client: EngineClient,
    made: SetUp,
    tmp_path: Path,
    built: set[tuple[EngineClient, str]],
    postgres: PostgresServer,
) -> Iterator[Service]:
    """On PostgreSQL."""
    with database(postgres) as url, serving(tmp_path, client, built, url) as service:
        yield service


@pytest.fixture(
    params=["sqlite", pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.slow])]
)
def either(request: pytest.FixtureRequest) -> Service:
    """On one, then on the other."""
    name = "service" if request.param == "sqlite" else "postgres_service"
    found: Service = request.getfixturevalue(name)
    return found
