"""Going on with a run that has many attempts, finishing it, and listing many runs."""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from runner import bootstrap
from runner.bootstrap.planning import make_plan
from runner.domain import (
    EventKind,
    Lease,
    NewJob,
    RunEvent,
    RunPlan,
    SubmissionQuota,
    TaskExecution,
    WorkerIdentity,
)
from runner.intake import load_submission
from runner.records import RunDirectory, list_runs
from runner.records.durable import model_bytes
from runner.records.layout import EXECUTION, attempt_path
from runner.store import open_store
from runner.store.address import parse_address
from runner.store.attempts import keep
from runner.store.database import Database
from tests.bench.attempts import peak
from tests.bench.loopback import Place, agent, place
from tests.unit.records.nouns import benchmark, execution

TASKS = 50
LEFT = 3
"""Attempts that are yet to be made."""
TEXT = "x" * 500
ROUNDS = 3
RUNS = 200
UNLIMITED = SubmissionQuota(per_day=10**6, per_week=10**6)
DEAD = WorkerIdentity(worker="dead", host="bench")


def measure(attempts: int) -> dict[str, Any]:
    """Seconds and MiB of a run with `attempts` attempts, most of them made; and of many runs."""
    with agent() as url, place(url) as there:
        plan = asyncio.run(_begun(there, url, attempts))
        made = [_made(plan, *each) for each in _work(plan)[LEFT:]]
        for one in made:
            _write(there.runs / plan.run_id, one)
        reads = [_in_a_process(there, "read", plan.run_id) for _ in range(ROUNDS)]
        with _copied(there.runs / plan.run_id):
            alone = _in_a_process(there, "alone", plan.run_id)
        _queued(there, plan, made)
        worker = _in_a_process(there, "worker", plan.run_id)
    return {
        "attempts": attempts,
        "judged": {name: statistics.median(r[name] for r in reads) for name in reads[0]},
        "alone": alone,
        "worker": worker,
        "list": _listing(),
    }


# -- a run that somebody left ---------------------------------------------------------------------


async def _begun(there: Place, url: str, attempts: int) -> RunPlan:
    """As `agenttrace run` begins one."""
    submission = load_submission(str(there.directory))
    request = bootstrap.RunRequest(target=url, limit=TASKS, repeats=attempts // TASKS)
    plan = await make_plan(there.settings, None, request, submission, lambda _: None)
    with closing(RunDirectory(there.runs, plan.run_id)) as directory:
        directory.begin(plan)
    return plan


def _work(plan: RunPlan) -> list[tuple[int, int]]:
    """The number of a task, and a repeat."""
    return [(n, repeat) for repeat in range(1, plan.repeats + 1) for n in range(len(plan.tasks))]


def _made(plan: RunPlan, number: int, repeat: int) -> TaskExecution:
    task = plan.tasks[number]
    return execution(
        run_id=plan.run_id,
        task_id=task.task_id,
        category=task.category,
        repeat=repeat,
        input=TEXT,
        output=TEXT,
    )


def _write(run: Path, made: TaskExecution) -> None:
    path = attempt_path(run, made.task_id, made.repeat, made.attempt)
    path.mkdir(parents=True)
    (path / EXECUTION).write_bytes(model_bytes(made, indent=2))


class _copied:  # noqa: N801 - used like a function
    """Puts a directory back as it was at the end of the block."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._aside = directory, directory.parent.parent / "aside"

    def __enter__(self) -> None:
        shutil.copytree(self._directory, self._aside)

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._directory)
        self._aside.rename(self._directory)


def _queued(there: Place, plan: RunPlan, made: Sequence[TaskExecution]) -> None:
    """The same run in the queue, and its attempts in the database; a worker has put it back."""
    now = datetime.now(UTC)
    job = NewJob(run_id=plan.run_id, submission=plan.submission, submitted_at=now)
    with open_store(there.database) as store:
        store.queue.submit(job, UNLIMITED)
        claim = store.queue.claim(DEAD, "claim", now)
        assert claim
        _keep(there, claim.lease, made)
        store.queue.postpone(claim.lease, now, "", now)


def _keep(there: Place, lease: Lease, made: Sequence[TaskExecution]) -> None:
    run = there.runs / lease.run_id

    def work(connection: Connection) -> None:
        for one in made:
            path = attempt_path(run, one.task_id, one.repeat, one.attempt)
            keep(connection, lease, one, path)

    database = Database(parse_address(there.database), 60.0)
    try:
        database.write(work)
    finally:
        database.close()


# -- a process that goes on with it ---------------------------------------------------------------


def _in_a_process(there: Place, how: str, run_id: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.resume", how, str(there.directory), run_id],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=there.environ,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main(how: str, directory: Path, run_id: str) -> None:
    there = Place(directory)
    figures = {"read": _read, "alone": _alone, "worker": _worker}[how](there, run_id)
    json.dump(figures | {"peak_rss_mib": peak()}, sys.stdout)


def _read(there: Place, run_id: str) -> dict[str, float]:
    """What `resume` reads of the directory alone."""
    started, cpu = time.perf_counter(), time.process_time()
    with closing(RunDirectory(there.runs, run_id)) as directory:
        directory.resume()
        directory.judged()
    return {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}


def _alone(there: Place, run_id: str) -> dict[str, float]:
    events: list[RunEvent] = []
    began = datetime.now(UTC)
    bootstrap.resume(there.settings, run_id, [events.append])
    return _figures(events, began, datetime.now(UTC))


def _worker(there: Place, run_id: str) -> dict[str, float]:
    bootstrap.work(there.settings, until_empty=True)
    ended = datetime.now(UTC)
    with open_store(there.database) as store:
        events = [one.event for one in store.ledger.events(run_id)]
    claimed = [event.at for event in events if event.kind is EventKind.CLAIMED][-1]
    return _figures([event for event in events if event.at > claimed], claimed, ended)


def _figures(events: Sequence[RunEvent], began: datetime, ended: datetime) -> dict[str, float]:
    started = next(event.at for event in events if event.kind is EventKind.TASK_STARTED)
    finished = [event.at for event in events if event.kind is EventKind.TASK_FINISHED][-1]
    return {
        "to_first_attempt_seconds": (started - began).total_seconds(),
        "to_the_end_seconds": (ended - finished).total_seconds(),
    }


# -- many runs ------------------------------------------------------------------------------------


def _listing() -> dict[str, float]:
    """Seconds that it takes to list many runs with a result of 50 tasks each, and one such file."""
    with agent() as url, place(url) as there:
        plan = asyncio.run(_begun(there, url, TASKS))
        made = [_made(plan, *each) for each in _work(plan)]
        result = model_bytes(benchmark(*made, run_id=plan.run_id), indent=2)
        for number in range(RUNS):
            run = there.runs / f"{plan.run_id}-{number}"
            shutil.copytree(there.runs / plan.run_id, run)
            (run / EXECUTION).write_bytes(result.replace(plan.run_id.encode(), run.name.encode()))
        shutil.rmtree(there.runs / plan.run_id)
        started, cpu = time.perf_counter(), time.process_time()
        listed = list_runs(there.runs)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    assert len(listed) == RUNS
    return {
        "runs": RUNS,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "result_bytes": len(result),
    }


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
