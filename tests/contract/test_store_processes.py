"""Several processes, several threads in each, at one database at once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import chain
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import TypeVar

import pytest

from runner.domain import (
    Breaker,
    JobOutcome,
    JobState,
    SubmissionQuota,
    WorkerIdentity,
)
from runner.errors import QuotaExceeded
from runner.store import Store, open_store, sqlite_url
from runner.store.migrate import current
from runner.store.schema import HEAD
from tests.postgres import PostgresServer, database
from tests.unit.store.nouns import NOW, UNLIMITED, new_job, numbered

T = TypeVar("T")

pytestmark = pytest.mark.slow

PROCESSES = 4
THREADS = 5
SPAWN = multiprocessing.get_context("spawn")
_all_there: Barrier | None = None


def in_processes(work: Callable[[str, int], T], url: str) -> list[T]:
    """What `work` returns in each of the processes, all begun together."""
    barrier = SPAWN.Barrier(PROCESSES)
    with ProcessPoolExecutor(
        PROCESSES, mp_context=SPAWN, initializer=_keep, initargs=(barrier,)
    ) as pool:
        return list(pool.map(work, [url] * PROCESSES, range(PROCESSES)))


def _keep(barrier: Barrier) -> None:
    global _all_there  # noqa: PLW0603 - how a pool hands a primitive to its processes
    _all_there = barrier


def submit_25(url: str, number: int) -> int:
    """How many were accepted."""
    with open_store(url) as store, ThreadPoolExecutor(THREADS) as threads:
        meet()
        return sum(threads.map(lambda i: submit_one(store, f"r{number}-{i}"), range(25)))


def submit_one(store: Store, run_id: str) -> bool:
    try:
        store.queue.submit(new_job(run_id), SubmissionQuota(per_day=5))
    except QuotaExceeded:
        return False
    return True


def claim_all(url: str, number: int) -> list[str]:
    """Every job that there is, each claimed, renewed, given an event, and finished."""
    with open_store(url) as store, ThreadPoolExecutor(THREADS) as threads:
        meet()
        return flat(threads.map(lambda i: work_off(store, f"w{number}-{i}"), range(THREADS)))


def work_off(store: Store, name: str) -> list[str]:
    worker, done = WorkerIdentity(worker=name, host="h"), list[str]()
    while claimed := store.queue.claim(worker, f"{name}-{len(done)}", NOW):
        lease, _ = store.queue.renew(claimed.lease)
        store.ledger.append_events(lease, numbered(1, 2, run_id=lease.run_id))
        store.queue.finish(lease, JobOutcome(state=JobState.FINISHED), None, None, NOW)
        done.append(lease.run_id)
    return done


def take_over_all(url: str, number: int) -> list[str]:
    """Those of the leases seen that this process got."""
    worker = WorkerIdentity(worker=f"w{number}", host="h")
    with open_store(url) as store:
        seen = store.queue.leases()
        meet()
        taken = [
            store.queue.take_over(lease, worker, f"{number}-{lease.run_id}", NOW) for lease in seen
        ]
        return [claimed.job.run_id for claimed in taken if claimed]


def count_25(url: str, number: int) -> list[int]:
    def more(breaker: Breaker) -> tuple[Breaker, int]:
        return breaker.model_copy(update={"failures": breaker.failures + 1}), breaker.failures

    with open_store(url) as store, ThreadPoolExecutor(THREADS) as threads:
        meet()
        return list(threads.map(lambda _: store.breakers.update("b", more), range(25)))


def events_of_one_run(url: str, number: int) -> None:
    with open_store(url) as store:
        meet()
        for i in range(25):
            store.ledger.append_events(None, numbered(number * 100 + i))


def open_empty(url: str, number: int) -> bool:
    meet()
    with open_store(url) as store:
        return store.queue.jobs() == []


def flat(lists: Iterable[list[T]]) -> list[T]:
    return list(chain.from_iterable(lists))


def meet() -> None:
    assert _all_there is not None
    _all_there.wait(60)


def test_a_quota_of_five_lets_five_in_of_a_hundred(store_url: str) -> None:
    assert sum(in_processes(submit_25, store_url)) == 5
    with open_store(store_url) as store:
        assert len(store.queue.jobs()) == len(store.queue.quota_entries()) == 5


def test_each_of_two_hundred_jobs_is_claimed_once(store_url: str) -> None:
    with open_store(store_url) as store:
        for number in range(200):
            store.queue.submit(new_job(f"r{number}", f"team-{number % 9}"), UNLIMITED)
    done = flat(in_processes(claim_all, store_url))
    assert sorted(done) == sorted(f"r{number}" for number in range(200))
    with open_store(store_url) as store:
        assert store.queue.counts()[JobState.FINISHED] == 200
        assert {job.claims for job in store.queue.jobs()} == {1}
        assert [one.number for one in store.ledger.events("r0")] == [1, 2, 3, 4]


def test_a_lost_job_is_taken_over_once(store_url: str) -> None:
    with open_store(store_url) as store:
        for number in range(30):
            store.queue.submit(new_job(f"r{number}"), UNLIMITED)
            store.queue.claim(WorkerIdentity(worker="lost", host="h"), f"c{number}", NOW)
    taken = flat(in_processes(take_over_all, store_url))
    assert sorted(taken) == sorted(f"r{number}" for number in range(30))
    with open_store(store_url) as store:
        assert {lease.token for lease in store.queue.leases()} == {2}


def test_no_step_of_a_breaker_is_lost(store_url: str) -> None:
    assert sorted(flat(in_processes(count_25, store_url))) == list(range(100))


def test_events_of_several_writers_leave_no_gap(store_url: str) -> None:
    in_processes(events_of_one_run, store_url)
    with open_store(store_url) as store:
        found = [one.number for one in store.ledger.events("run")]
    assert found == list(range(1, 101))


def test_all_may_be_the_first_to_open_a_file(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "new" / "x.db")
    assert all(in_processes(open_empty, url))
    assert current(url) == HEAD


@pytest.mark.postgres
def test_all_may_be_the_first_to_open_a_server(postgres: PostgresServer) -> None:
    with database(postgres) as url:
        assert all(in_processes(open_empty, url))
        assert current(url) == HEAD
