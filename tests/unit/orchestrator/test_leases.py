"""Leases: held by beating, and presumed abandoned by a clock that nobody can set."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain import Claim, Lease
from runner.errors import LeaseLost, StoreUnavailable
from runner.evaluation.stop import Stop, StopSignal
from runner.orchestrator.leases import BEATS_PER_LEASE, Holding, LeaseWatch
from runner.orchestrator.presence import Presence
from runner.ports import JobQueue
from runner.store import Store, open_store, sqlite_url
from tests.unit.store.nouns import ALICE, BOB, NOW, UNLIMITED, new_job

LEASE_SECONDS = 30.0
NOBODY: frozenset[str] = frozenset()


class Clock:
    """A monotonic clock that goes as it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def presence(tmp_path: Path) -> Iterator[Presence]:
    with Presence(tmp_path / "workers") as present:
        yield present


@pytest.fixture
def watch(presence: Presence, clock: Clock) -> LeaseWatch:
    return LeaseWatch(presence, LEASE_SECONDS, clock)


def lease(run_id: str = "run", **fields: Any) -> Lease:
    """Of a worker of another host."""
    return Lease(**{"run_id": run_id, "worker": "w", "host": "far", "token": 1} | fields)


# -- seeing that nobody holds one ---------------------------------------------------------------


def test_a_lease_that_beats_is_held(watch: LeaseWatch, clock: Clock) -> None:
    for beat in range(20):
        assert watch.abandoned([lease(beat=beat)], NOBODY) == []
        clock.now += LEASE_SECONDS - 0.1


def test_a_lease_that_stands_still_is_abandoned(watch: LeaseWatch, clock: Clock) -> None:
    assert watch.abandoned([lease()], NOBODY) == []
    clock.now += LEASE_SECONDS - 0.1
    assert watch.abandoned([lease()], NOBODY) == []
    clock.now += 0.1
    assert watch.abandoned([lease()], NOBODY) == [lease()]


def test_it_counts_from_when_this_observer_saw_it_first(watch: LeaseWatch, clock: Clock) -> None:
    """However old it is: an observer that has just begun has seen nothing stand still."""
    clock.now += 10**6
    assert watch.abandoned([lease(beat=7)], NOBODY) == []


@pytest.mark.parametrize("change", [{"beat": 5}, {"token": 2}, {"worker": "x"}, {"host": "y"}])
def test_whatever_moves_begins_anew(
    watch: LeaseWatch, clock: Clock, change: dict[str, Any]
) -> None:
    watch.abandoned([lease()], NOBODY)
    clock.now += LEASE_SECONDS
    moved = lease(**change)
    assert watch.abandoned([moved], NOBODY) == []
    clock.now += LEASE_SECONDS
    assert watch.abandoned([moved], NOBODY) == [moved]


def test_a_lease_that_was_away_begins_anew(watch: LeaseWatch, clock: Clock) -> None:
    """Finished and put back: what was seen of it before says nothing."""
    watch.abandoned([lease()], NOBODY)
    clock.now += LEASE_SECONDS
    watch.abandoned([], NOBODY)
    assert watch.abandoned([lease()], NOBODY) == []


def test_each_lease_has_its_own_time(watch: LeaseWatch, clock: Clock) -> None:
    watch.abandoned([lease("a")], NOBODY)
    clock.now += LEASE_SECONDS / 2
    watch.abandoned([lease("a"), lease("b")], NOBODY)
    clock.now += LEASE_SECONDS / 2
    assert watch.abandoned([lease("a"), lease("b")], NOBODY) == [lease("a")]


def test_the_clock_of_the_wall_is_not_looked_at(
    watch: LeaseWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 10.0**12)
    assert watch.abandoned([lease()], NOBODY) == []
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert watch.abandoned([lease()], NOBODY) == []


def test_a_worker_of_this_host_is_gone_at_once(watch: LeaseWatch, presence: Presence) -> None:
    host = presence.identity.host
    assert watch.abandoned([lease(worker="dead", host=host)], NOBODY) == [
        lease(worker="dead", host=host)
    ]
    assert watch.abandoned([lease(worker="dead", host="far")], NOBODY) == []


def test_a_living_worker_of_this_host_that_hangs_is_presumed_gone(
    watch: LeaseWatch, presence: Presence, clock: Clock, tmp_path: Path
) -> None:
    with Presence(tmp_path / "workers") as other:
        held = lease(worker=other.worker, host=presence.identity.host)
        assert watch.abandoned([held], NOBODY) == []
        clock.now += LEASE_SECONDS
        assert watch.abandoned([held], NOBODY) == [held]


def test_what_this_process_works_on_is_never_abandoned(watch: LeaseWatch, clock: Clock) -> None:
    for _ in range(3):
        assert watch.abandoned([lease()], frozenset({"run"})) == []
        clock.now += LEASE_SECONDS


def test_a_claim_of_ours_that_no_slot_knows_of_is_found_again(
    watch: LeaseWatch, presence: Presence, clock: Clock
) -> None:
    """The reply that told of it was lost. Not at once: another slot may just be told of it."""
    own = lease(worker=presence.worker, host=presence.identity.host)
    assert watch.abandoned([own], NOBODY) == []
    clock.now += LEASE_SECONDS
    assert watch.abandoned([own], NOBODY) == [own]


@given(
    steps=st.lists(
        st.tuples(
            st.floats(0, 2 * LEASE_SECONDS),
            st.dictionaries(st.sampled_from("abc"), st.integers(0, 2)),
            st.frozensets(st.sampled_from("abc")),
        ),
        max_size=30,
    )
)
def test_abandoned_is_what_stood_still_for_so_long(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[float, dict[str, int], frozenset[str]]],
) -> None:
    """Against a history of all that was ever seen: gaps, beats, own work and time in any order."""
    presence, clock = Presence(tmp_path_factory.getbasetemp() / "watched"), Clock()
    watch = LeaseWatch(presence, LEASE_SECONDS, clock)
    history: list[tuple[float, dict[str, int]]] = []
    for seconds, beats, mine in steps:
        clock.now += seconds
        history.append((clock.now, {k: beat for k, beat in beats.items() if k not in mine}))
        found = watch.abandoned([lease(k, beat=beat) for k, beat in beats.items()], mine)
        assert {one.run_id for one in found} == stood_still(history)


def stood_still(history: list[tuple[float, dict[str, int]]]) -> set[str]:
    now, last = history[-1]
    found = set()
    for run_id, beat in last.items():
        since = now
        for at, seen in reversed(history):
            if seen.get(run_id) != beat:
                break
            since = at
        if now - since >= LEASE_SECONDS:
            found.add(run_id)
    return found


# -- holding one ----------------------------------------------------------------------------------

QUICK = 0.03
"""Seconds of a lease whose beats come at once."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(sqlite_url(tmp_path / "agenttrace.db"), patience_seconds=5) as opened:
        opened.queue.submit(new_job("run"), UNLIMITED)
        yield opened


@pytest.fixture
def claim(store: Store) -> Claim:
    claimed = store.queue.claim(ALICE, "c1", NOW)
    assert claimed
    return claimed


async def came_true(stop: StopSignal) -> None:
    """Returns when everything was asked to stop."""
    working = asyncio.create_task(asyncio.Event().wait())
    stop.watch(working, Stop.NOW)
    await asyncio.wait({working})


class Counted:
    """A queue that tells when it has been beaten for so often; it may not answer at first."""

    def __init__(self, queue: JobQueue, beats: int, failures: int = 0) -> None:
        self._queue = queue
        self._beats = beats
        self._failures = failures
        self._beaten = threading.Event()

    def renew(self, given: Lease) -> tuple[Lease, bool]:
        if self._failures:
            self._failures -= 1
            raise StoreUnavailable("the database does not answer")
        renewed = self._queue.renew(given)
        self._beats -= 1
        if not self._beats:
            self._beaten.set()
        return renewed

    async def beaten(self) -> None:
        assert await asyncio.to_thread(self._beaten.wait, 60)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)


async def test_it_beats_while_it_is_held(store: Store, claim: Claim) -> None:
    stop = StopSignal()
    queue = Counted(store.queue, beats=3)
    holding = Holding(queue, claim.lease, QUICK, stop)
    async with holding.kept():
        await queue.beaten()
    assert holding.lease.beat >= 2  # the last one may have been cut off
    assert holding.lease.token == claim.lease.token
    assert (stop.level, holding.lost, holding.cancel_requested) == (Stop.NO, False, False)


async def test_beats_are_a_share_of_the_lease(
    store: Store, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused: list[float] = []
    asleep = asyncio.Event()

    async def sleep(seconds: float) -> None:
        paused.append(seconds)
        asleep.set()
        await asyncio.Event().wait()

    monkeypatch.setattr("runner.orchestrator.leases.asyncio.sleep", sleep)
    async with Holding(store.queue, claim.lease, 30.0, StopSignal()).kept():
        await asleep.wait()
    assert paused == [30.0 / BEATS_PER_LEASE]


async def test_a_lease_that_is_lost_stops_the_work_now(store: Store, claim: Claim) -> None:
    stop = StopSignal()
    holding = Holding(store.queue, claim.lease, QUICK, stop)
    assert store.queue.take_over(claim.lease, BOB, "c2", NOW)
    async with holding.kept():
        await came_true(stop)
    assert holding.lost
    with pytest.raises(LeaseLost):
        holding.check()


async def test_a_cancellation_that_is_asked_for_stops_the_work_now(
    store: Store, claim: Claim
) -> None:
    stop = StopSignal()
    holding = Holding(store.queue, claim.lease, QUICK, stop)
    async with holding.kept():
        store.queue.cancel("run", NOW)
        await came_true(stop)
    assert holding.cancel_requested
    assert not holding.lost


async def test_it_stops_what_was_draining(store: Store, claim: Claim) -> None:
    stop = StopSignal()
    stop.ask()
    store.queue.cancel("run", NOW)
    async with Holding(store.queue, claim.lease, QUICK, stop).kept():
        await came_true(stop)


def test_a_check_renews_at_once(store: Store, claim: Claim) -> None:
    holding = Holding(store.queue, claim.lease, LEASE_SECONDS, StopSignal())
    holding.check()
    assert store.queue.leases() == [holding.lease]
    assert holding.lease.beat == claim.lease.beat + 1
    store.queue.cancel("run", NOW)
    holding.check()
    assert holding.cancel_requested


async def test_a_store_that_is_away_for_a_while_costs_nothing(store: Store, claim: Claim) -> None:
    queue = Counted(store.queue, beats=1, failures=3)
    stop = StopSignal()
    holding = Holding(queue, claim.lease, QUICK, stop)
    async with holding.kept():
        await queue.beaten()
    assert (stop.level, holding.lost) == (Stop.NO, False)


def test_a_check_says_when_the_store_is_away(store: Store, claim: Claim) -> None:
    holding = Holding(Counted(store.queue, 1, failures=1), claim.lease, 30.0, StopSignal())
    with pytest.raises(StoreUnavailable):
        holding.check()
    assert not holding.lost


async def test_nothing_beats_once_it_is_let_go(store: Store, claim: Claim) -> None:
    before = asyncio.all_tasks()
    with pytest.raises(ZeroDivisionError):
        async with Holding(store.queue, claim.lease, LEASE_SECONDS, StopSignal()).kept():
            raise ZeroDivisionError
    assert asyncio.all_tasks() == before
