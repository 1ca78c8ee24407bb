"""A worker: its memory over many jobs, how soon it begins one, what it adds to each attempt."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner import bootstrap
from runner.bootstrap.orchestration import opened_worker
from runner.config import Settings
from runner.domain import (
    BenchmarkExecution,
    BenchmarkSubmission,
    Claim,
    EventKind,
    JobOptions,
    NewJob,
    RunEvent,
    SubmissionQuota,
)
from runner.evaluation import StopSignal
from runner.intake import load_submission
from runner.orchestrator.leases import Holding
from runner.orchestrator.presence import Presence
from runner.orchestrator.worker import Worker, WorkerObserver, WorkerPolicy
from runner.ports import Notify
from runner.store import open_store
from tests.bench.attempts import in_use
from tests.bench.loopback import Place, agent, place
from tests.unit.store.nouns import benchmark_execution, task_execution

LOOKED_AT = (0.01, 0.1, 0.5, 1.0)
SLOTS = 3
STARTED_WITHIN_SECONDS = 60
LOOK_SECONDS = 0.02
UNLIMITED = SubmissionQuota(per_day=10**6, per_week=10**6)
AGENT = "def answer(prompt, config):\n    return 'none'\n"


# -- memory ---------------------------------------------------------------------------------------


def memory(jobs: int, runs: int) -> dict[str, Any]:
    """Resident MiB of a worker after some of its jobs.

    `queue`: jobs that end at once with a small result, which is the worker and its store alone.
    `whole`: runs of one task by an agent behind a URL, each with its run directory.
    """
    from tests.bench.queue import fill  # and with it what no worker process holds

    with agent() as url, place(url) as there:
        fill(there.database, jobs)
        queue = _in_a_process(there, "queue", jobs)
    with agent() as url, place(url) as there:
        fill(there.database, runs, endpoint_type="http", url=url)
        whole = _in_a_process(there, "whole", runs)
    return {"queue": queue, "whole": whole}


def _in_a_process(there: Place, how: str, jobs: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.worker", how, str(there.directory), str(jobs)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=there.environ,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class _Watch:
    """Notes this process's memory after some of its jobs."""

    def __init__(self, jobs: int) -> None:
        self._wanted = {max(int(share * jobs), 1) for share in LOOKED_AT}
        self._started = time.perf_counter()
        self.ended = 0
        self.rss_mib: dict[int, float] = {}

    def job_ended(self) -> None:
        self.ended += 1
        if self.ended in self._wanted:
            self.rss_mib[self.ended] = in_use() / 2**20

    def event(self, event: RunEvent) -> None:
        if event.kind is EventKind.RUN_FINISHED:
            self.job_ended()

    def told(self) -> dict[str, Any]:
        seconds = time.perf_counter() - self._started
        return {"jobs": self.ended, "seconds": seconds, "rss_mib": self.rss_mib}


async def _queue(there: Place, watch: _Watch) -> None:
    async def execute(
        claim: Claim, holding: Holding, stop: StopSignal
    ) -> tuple[BenchmarkExecution, Path]:
        run_id = claim.lease.run_id
        watch.job_ended()
        return benchmark_execution(run_id, task_execution(run_id=run_id)), there.runs / run_id

    with open_store(there.database) as store, Presence(there.directory / "workers") as presence:
        worker = Worker(
            queue=store.queue,
            execute=execute,
            presence=presence,
            policy=WorkerPolicy(slots=SLOTS),
        )
        await worker.work(until_empty=True)


async def _whole(there: Place, watch: _Watch) -> None:
    run = there.settings.run.model_copy(update={"suite": str(_suite(there))})
    settings = there.settings.model_copy(update={"run": run})
    await _worked_off(there, settings, watch.event)


def _suite(there: Place) -> Path:
    suite = there.directory / "suite"
    suite.mkdir()
    (suite / "suite.toml").write_text('format = 1\nname = "one"\nversion = "1.0.0"\n')
    (suite / "reasoning.toml").write_text(
        '[[task]]\ntask_id = "one"\nname = "one"\nprompt = "Say one."\n'
        '[[task.criteria]]\nscorer = "exact"\nexpected = "one"\n'
    )
    return suite


def main(how: str, directory: Path, jobs: int) -> None:
    watch = _Watch(jobs)
    work = {"queue": _queue, "whole": _whole}[how]
    asyncio.run(work(Place(directory), watch))
    json.dump(watch.told(), sys.stdout)


# -- how soon -------------------------------------------------------------------------------------


def start(rounds: int) -> dict[str, Any]:
    """Milliseconds from a submission that is accepted to its first task, with an idle worker."""
    with agent() as url, place(url) as there, _idle_worker(there):
        found = [_first_task(there) for _ in range(rounds)]
        poll = there.settings.queue.poll_seconds
    return {
        "rounds": rounds,
        "poll_ms": 1000 * poll,
        **{name: statistics.median(one[name] for one in found) for name in found[0]},
        "longest_ms": max(one["first_task_ms"] for one in found),
    }


@contextmanager
def _idle_worker(there: Place) -> Iterator[None]:
    command = [sys.executable, "-m", "runner", "worker"]
    log = there.directory / "worker.log"
    with log.open("wb") as said, subprocess.Popen(command, env=there.environ, stderr=said) as one:
        try:
            with open_store(there.database) as store:
                _wait(lambda: bool(store.queue.workers()))
            yield
        finally:
            one.send_signal(signal.SIGTERM)


def _first_task(there: Place) -> dict[str, float]:
    """Submitted at any moment between two looks of the worker."""
    time.sleep(secrets.randbelow(1000) / 1000 * there.settings.queue.poll_seconds)
    request = bootstrap.SubmitRequest(target=str(there.directory), options=JobOptions(limit=1))
    _, job = bootstrap.submit(there.settings, request, lambda _: None)
    assert job
    with open_store(there.database) as store:

        def events() -> dict[EventKind, datetime]:
            return {one.event.kind: one.event.at for one in store.ledger.events(job.run_id)}

        _wait(lambda: EventKind.RUN_FINISHED in events())
        at = events()
    claimed, started = at[EventKind.CLAIMED], at[EventKind.TASK_STARTED]
    return {
        "claimed_ms": 1000 * (claimed - job.submitted_at).total_seconds(),
        "planned_ms": 1000 * (started - claimed).total_seconds(),
        "first_task_ms": 1000 * (started - job.submitted_at).total_seconds(),
    }


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + STARTED_WITHIN_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("the benchmark's worker does nothing")
        time.sleep(LOOK_SECONDS)


# -- what it adds ---------------------------------------------------------------------------------


def overhead(attempts: int, remote_attempts: int, rounds: int) -> dict[str, Any]:
    """Each attempt by a worker, beside one by `agenttrace run`: the same agent, in turns."""
    with agent() as url, place(url) as there:
        remote = _both(there, url, load_submission(str(there.directory)), remote_attempts, rounds)
    with place("") as there:
        (there.directory / "agent.py").write_text(AGENT)
        target = f"{there.directory}/agent.py:answer"
        container = _both(there, target, load_submission(target), attempts, rounds)
    return {"container": container, "remote": remote}


def _both(
    there: Place, target: str, submission: BenchmarkSubmission, attempts: int, rounds: int
) -> dict[str, float]:
    run, worker = [], []
    for _ in range(rounds):
        run.append(_by_run(there, target, attempts))
        worker.append(_by_worker(there, submission, attempts))
    figures = {
        f"{side}_{name}": statistics.median(one[name] for one in each)
        for side, each in (("run", run), ("worker", worker))
        for name in ("ms", "cpu_ms")
    }
    return {
        "attempts": attempts,
        **figures,
        "ratio": figures["worker_ms"] / figures["run_ms"],
        "cpu_ratio": figures["worker_cpu_ms"] / figures["run_cpu_ms"],
    }


class _Spent:
    """Notes when an attempt ended, and the CPU time of this process by then."""

    def __init__(self) -> None:
        self._seen: list[tuple[datetime, float]] = []

    def __call__(self, event: RunEvent) -> None:
        if event.kind in (EventKind.RUN_STARTED, EventKind.TASK_FINISHED):
            self._seen.append((event.at, time.process_time()))

    def each(self) -> dict[str, float]:
        """Milliseconds of an attempt, those of several at once shared between them."""
        (began, cpu_before), *ended = self._seen
        last, cpu = ended[-1]
        return {
            "ms": 1000 * (last - began).total_seconds() / len(ended),
            "cpu_ms": 1000 * (cpu - cpu_before) / len(ended),
        }


def _by_run(there: Place, target: str, attempts: int) -> dict[str, float]:
    spent = _Spent()
    request = bootstrap.RunRequest(target=target, limit=1, repeats=attempts)
    bootstrap.run(there.settings, request, [spent])
    return spent.each()


def _by_worker(there: Place, submission: BenchmarkSubmission, attempts: int) -> dict[str, float]:
    spent = _Spent()
    job = NewJob(
        run_id=secrets.token_hex(8),
        submission=submission,
        options=JobOptions(limit=1, repeats=attempts),
        submitted_at=datetime.now(UTC),
    )
    with open_store(there.database) as store:
        store.queue.submit(job, UNLIMITED)
    asyncio.run(_worked_off(there, there.settings, spent))
    return spent.each()


async def _worked_off(there: Place, settings: Settings, observer: Notify) -> None:
    """Like `bootstrap.work`, looked at."""
    with open_store(there.database) as store, Presence(there.directory / "workers") as presence:
        opened = opened_worker(settings, store, presence, [observer], WorkerObserver())
        async with opened as worker:
            await worker.work(until_empty=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
