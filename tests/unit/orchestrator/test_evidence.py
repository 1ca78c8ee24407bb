"""Evidence of a leased run: a real directory and a real database, and what each may lack."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from runner.domain import (
    Claim,
    EventKind,
    FailureReason,
    Lease,
    NumberedEvent,
    RunEvent,
    TaskExecution,
    WorkerIdentity,
)
from runner.errors import LeaseLost, StorageFailed, StoreUnavailable
from runner.evaluation.stop import StopSignal
from runner.orchestrator import evidence as evidence_module
from runner.orchestrator.evidence import LeasedEvidence
from runner.orchestrator.leases import Holding
from runner.ports import Evidence, RunLedger
from runner.records import RunDirectory, layout
from runner.store import Store, open_store, sqlite_url
from tests.unit.records.nouns import RUN_ID, benchmark, execution, plan, reply
from tests.unit.records.nouns import event as event_of
from tests.unit.store.nouns import ALICE, BOB, NOW, UNLIMITED, new_job

TASK = "reasoning-1"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(sqlite_url(tmp_path / "agenttrace.db"), patience_seconds=20) as opened:
        opened.queue.submit(new_job(RUN_ID), UNLIMITED)
        yield opened


@pytest.fixture
def claim(store: Store) -> Claim:
    claimed = store.queue.claim(ALICE, "c1", NOW)
    assert claimed
    return claimed


Make = Callable[..., LeasedEvidence]


@pytest.fixture
def made(tmp_path: Path, store: Store, claim: Claim) -> Iterator[Make]:
    """Makes the evidence of a lease, in the one directory of the run."""
    directories: list[RunDirectory] = []

    def make(lease: Lease | None = None, ledger: RunLedger | None = None) -> LeasedEvidence:
        directory = RunDirectory(tmp_path / "runs", RUN_ID)
        directories.append(directory)
        holding = Holding(store.queue, lease or claim.lease, 30.0, StopSignal())
        return LeasedEvidence(directory, ledger or store.ledger, holding)

    yield make
    for directory in directories:
        directory.close()


@pytest.fixture
def evidence(made: Make) -> LeasedEvidence:
    begun = made()
    begun.begin(plan())
    return begun


def keep(evidence: Evidence, **fields: Any) -> Path:
    """One attempt, numbered by the evidence."""
    given: TaskExecution = execution(**fields)
    number = evidence.begin_attempt(given.task_id, given.repeat)
    numbered = given.model_copy(update={"attempt": number})
    return evidence.keep(numbered, reply(), evidence.staging())


def taken_over(store: Store, by: WorkerIdentity = BOB) -> Lease:
    [lease] = store.queue.leases()
    claim = store.queue.take_over(lease, by, f"taken-{lease.token}", NOW)
    assert claim
    return claim.lease


def kept_on_disk(path: Path) -> list[str]:
    return sorted(one.parent.name for one in path.glob(f"{layout.TASKS}/*/*/{layout.EXECUTION}"))


class Faulty:
    """A ledger some of whose calls are answered otherwise."""

    def __init__(self, store: Store, **calls: Callable[..., Any]) -> None:
        self._ledger = store.ledger
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        return self._calls.get(name) or getattr(self._ledger, name)


def unavailable(*_: object) -> None:
    raise StoreUnavailable("the database does not answer")


# -- attempts -------------------------------------------------------------------------------------


def test_an_attempt_is_on_disk_and_in_the_database(store: Store, evidence: LeasedEvidence) -> None:
    path = keep(evidence)
    assert store.ledger.kept(RUN_ID) == {(TASK, 1, 1): path}
    assert (path / layout.EXECUTION).exists()
    assert evidence.judged() == {(TASK, 1)}
    [final] = evidence.finals()
    assert (final.task_id, final.attempt) == (TASK, 1)


def test_numbers_are_the_databases_own(store: Store, evidence: LeasedEvidence, made: Make) -> None:
    """No two workers have the same, also for attempts that were never kept."""
    assert [evidence.begin_attempt(TASK, 1) for _ in range(2)] == [1, 2]
    next_one = made(taken_over(store))
    assert next_one.begin_attempt(TASK, 1) == 3
    assert next_one.begin_attempt(TASK, 2) == 1


def test_what_has_no_verdict_is_not_judged(evidence: LeasedEvidence) -> None:
    keep(evidence, failure_reason=FailureReason.INTERNAL_ERROR)
    assert evidence.judged() == frozenset()
    keep(evidence)
    assert evidence.judged() == {(TASK, 1)}
    assert [final.attempt for final in evidence.finals()] == [2]


def test_the_database_has_no_attempt_that_the_disk_has_not(
    store: Store, evidence: LeasedEvidence, tmp_path: Path
) -> None:
    """First the disk, then the database: what is written there can be adopted from here."""
    staging = evidence.staging()
    (evidence.path / layout.TASKS).rmdir()
    (evidence.path / layout.TASKS).write_text("in the way")
    with pytest.raises(StorageFailed):
        evidence.keep(execution(), reply(), staging)
    assert store.ledger.kept(RUN_ID) == {}


def test_a_database_that_is_away_keeps_nothing_from_the_disk(store: Store, made: Make) -> None:
    begun = made(ledger=Faulty(store, keep_attempt=unavailable))
    begun.begin(plan())
    with pytest.raises(StoreUnavailable):
        keep(begun)
    assert kept_on_disk(begun.path) == ["1-1"]


# -- a lease that is lost -------------------------------------------------------------------------


def test_whoever_has_lost_the_lease_enters_nothing(store: Store, evidence: LeasedEvidence) -> None:
    number = evidence.begin_attempt(TASK, 1)
    staging = evidence.staging()
    taken_over(store)
    with pytest.raises(LeaseLost):
        evidence.begin_attempt(TASK, 1)
    with pytest.raises(LeaseLost):
        evidence.keep(execution(attempt=number), reply(), staging)
    with pytest.raises(LeaseLost):
        evidence.heal()
    assert store.ledger.kept(RUN_ID) == {}


def test_whoever_has_lost_the_lease_finishes_nothing(
    store: Store, evidence: LeasedEvidence
) -> None:
    taken_over(store)
    with pytest.raises(LeaseLost):
        evidence.finish(benchmark())
    assert not (evidence.path / layout.EXECUTION).exists()


def test_a_result_is_written_under_the_lease(evidence: LeasedEvidence) -> None:
    evidence.finish(benchmark())
    assert (evidence.path / layout.EXECUTION).exists()


# -- healing --------------------------------------------------------------------------------------


def test_what_the_database_has_lost_is_adopted(store: Store, made: Make) -> None:
    """A worker died between the disk and the database."""
    dying = made(ledger=Faulty(store, keep_attempt=unavailable))
    dying.begin(plan())
    with pytest.raises(StoreUnavailable):
        keep(dying)
    healing = made(taken_over(store))
    assert healing.judged() == frozenset()
    healing.heal()
    assert healing.judged() == {(TASK, 1)}
    assert store.ledger.kept(RUN_ID) == {(TASK, 1, 1): healing.path / layout.TASKS / TASK / "1-1"}
    assert healing.begin_attempt(TASK, 1) == 2


def test_healing_again_changes_nothing(store: Store, evidence: LeasedEvidence) -> None:
    keep(evidence, output="first")
    keep(evidence, output="second")
    before = store.ledger.kept(RUN_ID)
    evidence.heal()
    evidence.heal()
    assert store.ledger.kept(RUN_ID) == before
    assert [final.output for final in evidence.finals()] == ["second"]


def test_an_older_attempt_that_is_adopted_is_not_the_final_one(store: Store, made: Make) -> None:
    calls = iter([unavailable, store.ledger.keep_attempt])

    def keep_attempt(*given: Any) -> None:
        next(calls)(*given)

    evidence = made(ledger=Faulty(store, keep_attempt=keep_attempt))
    evidence.begin(plan())
    with pytest.raises(StoreUnavailable):
        keep(evidence, output="first")
    keep(evidence, output="second")
    evidence.heal()
    assert sorted(store.ledger.kept(RUN_ID)) == [(TASK, 1, 1), (TASK, 1, 2)]
    assert [final.output for final in evidence.finals()] == ["second"]


def test_what_cannot_be_read_is_not_adopted(store: Store, made: Make) -> None:
    evidence = made(ledger=Faulty(store, keep_attempt=unavailable))
    evidence.begin(plan())
    with pytest.raises(StoreUnavailable):
        keep(evidence)
    [record] = evidence.path.glob(f"{layout.TASKS}/*/*/{layout.EXECUTION}")
    record.write_bytes(b"{")
    evidence.heal()
    assert store.ledger.kept(RUN_ID) == {}


# -- events ---------------------------------------------------------------------------------------


def events(number: int) -> list[RunEvent]:
    return [event_of(EventKind.TASK_STARTED, task_id=f"t{i}") for i in range(number)]


def told(store: Store) -> list[str | None]:
    """The tasks of the events that the database has, its own left out."""
    found = [one.event for one in store.ledger.events(RUN_ID)]
    return [each.task_id for each in found if each.kind is EventKind.TASK_STARTED]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence_module, "FLUSH_SECONDS", 0.001)


def logged(evidence: LeasedEvidence) -> list[str | None]:
    lines = (evidence.path / layout.EVENTS).read_text().splitlines()
    return [RunEvent.model_validate_json(line).task_id for line in lines]


async def test_all_that_were_told_are_there_at_the_end(
    store: Store, evidence: LeasedEvidence
) -> None:
    names = [each.task_id for each in events(50)]
    async with evidence.told():
        for each in events(50):
            evidence.event(each)
        assert logged(evidence) == names, "the log has them at once"
        assert told(store) == [], "and the database a moment later"
    assert told(store) == names


async def test_they_are_told_while_it_goes_on(store: Store, made: Make, quick: None) -> None:
    arrived = threading.Event()

    def append(lease: Lease, given: Sequence[NumberedEvent]) -> None:
        store.ledger.append_events(lease, given)
        if told(store) == [each.task_id for each in events(20)]:
            arrived.set()

    evidence = made(ledger=Faulty(store, append_events=append))
    evidence.begin(plan())
    async with evidence.told():
        for each in events(20):
            evidence.event(each)
            await asyncio.sleep(0)
        assert await asyncio.to_thread(arrived.wait, 60)


async def test_a_database_that_answers_now_and_then_has_each_once_and_in_order(
    store: Store, made: Make, quick: None
) -> None:
    """Also where it did what was asked, and only its answer was lost."""
    calls = 0
    enough = threading.Event()

    def append(lease: Lease, given: Sequence[NumberedEvent]) -> None:
        nonlocal calls
        calls += 1
        if calls % 3 == 1:
            raise StoreUnavailable("gone")
        store.ledger.append_events(lease, given)
        if calls > 9:
            enough.set()
        if calls % 3 == 2:
            raise StoreUnavailable("done, and gone")

    evidence = made(ledger=Faulty(store, append_events=append))
    evidence.begin(plan())
    number = 0
    async with evidence.told():
        while not enough.is_set():
            evidence.event(event_of(EventKind.TASK_STARTED, task_id=f"t{number}"))
            number += 1
            await asyncio.sleep(0.001)
        calls = 2  # it answers again
    assert told(store) == [f"t{i}" for i in range(number)]


async def test_events_of_the_next_worker_come_after(
    store: Store, evidence: LeasedEvidence, made: Make
) -> None:
    async with evidence.told():
        evidence.event(events(1)[0])
    next_one = made(taken_over(store))
    next_one._directory.take_over()
    async with next_one.told():
        for each in events(2):
            next_one.event(each)
    assert told(store) == ["t0", "t0", "t1"]
    assert [one.number for one in store.ledger.events(RUN_ID)] == list(
        range(1, 1 + len(store.ledger.events(RUN_ID)))
    )


async def test_whoever_has_lost_the_lease_tells_no_more(
    store: Store, evidence: LeasedEvidence, quick: None
) -> None:
    before = asyncio.all_tasks()
    async with evidence.told():
        taken_over(store)
        evidence.event(events(1)[0])
        [telling] = asyncio.all_tasks() - before
        await asyncio.wait({telling})
    assert told(store) == []


async def tell_and_raise(evidence: LeasedEvidence, error: Exception) -> None:
    async with evidence.told():
        evidence.event(events(1)[0])
        raise error


async def test_what_goes_wrong_within_is_not_hidden(store: Store, evidence: LeasedEvidence) -> None:
    """And what happened until then is told."""
    before = asyncio.all_tasks()
    with pytest.raises(ZeroDivisionError):
        await tell_and_raise(evidence, ZeroDivisionError())
    assert told(store) == ["t0"]
    assert asyncio.all_tasks() == before


async def test_a_database_that_stays_away_does_not_hide_what_went_wrong(
    store: Store, made: Make
) -> None:
    evidence = made(ledger=Faulty(store, append_events=unavailable))
    evidence.begin(plan())
    with pytest.raises(LeaseLost):
        await tell_and_raise(evidence, LeaseLost("x"))
    assert logged(evidence) == ["t0"]
