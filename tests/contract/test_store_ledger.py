"""What ports.RunLedger promises, on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.domain import EventKind, FailureReason, Lease
from runner.store import Store
from tests.unit.store.nouns import (
    ALICE,
    BOB,
    NOW,
    UNLIMITED,
    benchmark_execution,
    new_job,
    numbered,
    task_execution,
)

HERE = Path("/runs/run/tasks/t/1-1")


@pytest.fixture
def lease(store: Store) -> Lease:
    store.queue.submit(new_job("run"), UNLIMITED)
    claimed = store.queue.claim(ALICE, "c", NOW)
    assert claimed is not None
    return claimed.lease


# -- attempts -------------------------------------------------------------------------------------


def test_attempts_are_numbered_by_task_and_repeat(store: Store, lease: Lease) -> None:
    begin = store.ledger.begin_attempt
    assert [begin(lease, "t", 1, NOW) for _ in range(3)] == [1, 2, 3]
    assert begin(lease, "t", 2, NOW) == 1
    assert begin(lease, "u", 1, NOW) == 1
    assert store.ledger.kept("run") == {}
    assert store.ledger.judged("run") == frozenset()


def test_the_last_attempt_kept_is_the_final_one(store: Store, lease: Lease) -> None:
    ledger = store.ledger
    failed = task_execution(failure=FailureReason.INTERNAL_ERROR)
    ledger.begin_attempt(lease, "t", 1, NOW)
    ledger.keep_attempt(lease, failed, HERE)
    assert ledger.judged("run") == frozenset()
    assert list(ledger.finals("run")) == [failed]
    assert ledger.begin_attempt(lease, "t", 1, NOW) == 2
    good = task_execution(attempt=2)
    for _ in range(2):  # the reply may be lost
        ledger.keep_attempt(lease, good, HERE.with_name("1-2"))
    assert ledger.judged("run") == {("t", 1)}
    assert list(ledger.finals("run")) == [good]
    assert ledger.kept("run") == {("t", 1, 1): HERE, ("t", 1, 2): HERE.with_name("1-2")}


@pytest.mark.parametrize(
    ("reason", "verdict"),
    [
        (FailureReason.AGENT_TIMEOUT, True),
        (FailureReason.INTERNAL_ERROR, False),
        (FailureReason.AGENT_UNREACHABLE, False),
    ],
)
def test_which_failures_are_verdicts(
    store: Store, lease: Lease, reason: FailureReason, verdict: bool
) -> None:
    store.ledger.keep_attempt(lease, task_execution(failure=reason), HERE)
    assert bool(store.ledger.judged("run")) is verdict


def test_attempts_on_disk_are_adopted_in_any_order(store: Store, lease: Lease) -> None:
    ledger = store.ledger
    second, first = task_execution(attempt=2), task_execution(attempt=1)
    assert ledger.adopt_attempt(lease, second, HERE) is True
    assert ledger.adopt_attempt(lease, first, HERE) is True
    assert ledger.adopt_attempt(lease, first, HERE) is False
    assert list(ledger.finals("run")) == [second]
    assert ledger.begin_attempt(lease, "t", 1, NOW) == 3


def test_an_attempt_of_a_lost_worker_is_adopted_or_stays_begun(store: Store, lease: Lease) -> None:
    """What the first worker began may be on disk whole, or not; its number is not used again."""
    ledger = store.ledger
    assert [ledger.begin_attempt(lease, "t", 1, NOW) for _ in range(2)] == [1, 2]
    taken = store.queue.take_over(lease, BOB, "d", NOW)
    assert taken is not None
    assert ledger.adopt_attempt(taken.lease, task_execution(attempt=1), HERE) is True
    assert ledger.begin_attempt(taken.lease, "t", 1, NOW) == 3
    assert set(ledger.kept("run")) == {("t", 1, 1)}


def test_hostile_output_is_kept(store: Store, lease: Lease) -> None:
    store.ledger.keep_attempt(lease, task_execution(output="\0\ud800\u202e"), HERE)
    (final,) = store.ledger.finals("run")
    assert final.output == "\0\ufffd\u202e"


def test_finals_of_many_tasks_come_once_each(store: Store, lease: Lease) -> None:
    wanted = {(f"t{number % 250}", 1 + number // 250) for number in range(450)}
    for task_id, repeat in wanted:
        store.ledger.keep_attempt(lease, task_execution(task_id, repeat), HERE)
    found = [(final.task_id, final.repeat) for final in store.ledger.finals("run")]
    assert len(found) == len(wanted)
    assert set(found) == wanted == store.ledger.judged("run")
    assert list(store.ledger.finals("other")) == []


# -- events ---------------------------------------------------------------------------------------


def test_events_are_numbered_without_gaps_whoever_wrote_them(store: Store, lease: Lease) -> None:
    ledger = store.ledger
    ledger.append_events(lease, numbered(1, 2))
    ledger.append_events(lease, numbered(2, 3))  # 2 was there; its reply had been lost
    taken = store.queue.take_over(lease, BOB, "d", NOW)
    assert taken is not None
    ledger.append_events(taken.lease, numbered(1, 2))
    found = ledger.events("run")
    assert [one.number for one in found] == list(range(1, 9))
    assert [one.event.kind for one in found] == [
        EventKind.SUBMITTED,
        EventKind.CLAIMED,
        *[EventKind.TASK_STARTED] * 3,
        EventKind.CLAIMED,
        *[EventKind.TASK_STARTED] * 2,
    ]
    assert found[5].event.data == {"worker": "bob", "token": 2}
    assert ledger.events("run", after=6) == found[6:]


def test_events_of_a_run_that_nobody_queued(store: Store) -> None:
    store.ledger.append_events(None, [])
    for _ in range(2):
        store.ledger.append_events(None, numbered(5, 6, run_id="mine"))
    assert store.ledger.events("mine") == [
        one.model_copy(update={"number": number})
        for number, one in enumerate(numbered(5, 6, run_id="mine"), start=1)
    ]


# -- results --------------------------------------------------------------------------------------


def test_results_are_indexed_and_replaced(store: Store) -> None:
    assert store.ledger.result("run") is None
    store.ledger.index(benchmark_execution("run"), Path("/a"))
    better = benchmark_execution("run", task_execution())
    store.ledger.index(better, Path("/b"))
    assert store.ledger.result("run") == better
    assert store.ledger.indexed() == {"run": Path("/b")}
