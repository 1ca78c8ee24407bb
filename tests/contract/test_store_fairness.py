"""The order of claiming: a simple model, what it means for submitters, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import create_engine, text
from sqlalchemy.dialects import sqlite

from runner.domain import Claim, JobState
from runner.store import Store, open_store, sqlite_url
from runner.store.claims import next_due
from tests.unit.store.nouns import ALICE, NOW, SECOND, UNLIMITED, new_job


def claims(store: Store) -> Iterator[Claim]:
    for number in count():
        claimed = store.queue.claim(ALICE, f"claim-{number}", NOW)
        if claimed is None:
            return
        yield claimed


def order(store: Store) -> list[str]:
    return [claimed.job.run_id for claimed in claims(store)]


def test_submitters_take_turns(store: Store) -> None:
    for number in range(3):
        store.queue.submit(new_job(f"a{number}", "a"), UNLIMITED)
    for submitter in "bc":
        store.queue.submit(new_job(f"{submitter}0", submitter), UNLIMITED)
    store.queue.submit(new_job("b1", "b"), UNLIMITED)
    assert order(store) == ["a0", "b0", "c0", "a1", "b1", "a2"]


def test_a_newcomer_waits_for_one_job_of_each_other_at_most(store: Store) -> None:
    """And nobody saves up turns: one who comes late does not go before all others."""
    for number in range(20):
        store.queue.submit(new_job(f"a{number:02}", "a"), UNLIMITED)
    for number in range(10):
        assert store.queue.claim(ALICE, f"early-{number}", NOW)
    for number in range(3):
        store.queue.submit(new_job(f"b{number}", "b"), UNLIMITED)
    assert order(store)[:6] == ["a10", "b0", "a11", "b1", "a12", "b2"]


def test_priority_goes_first_and_has_turns_of_its_own(store: Store) -> None:
    for number in range(2):
        store.queue.submit(new_job(f"low{number}", "a", priority=-1), UNLIMITED)
        store.queue.submit(new_job(f"a{number}", "a"), UNLIMITED)
    store.queue.submit(new_job("b0", "b"), UNLIMITED)
    store.queue.submit(new_job("high", "a", priority=100), UNLIMITED)
    assert order(store) == ["high", "a0", "b0", "a1", "low0", "low1"]


# -- against a model ------------------------------------------------------------------------------


class Queue(RuleBasedStateMachine):
    """The store beside a list that is searched from end to end."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = TemporaryDirectory()
        self.numbers = count()
        self.jobs: dict[str, dict[str, Any]] = {}
        self.running: dict[str, Claim] = {}
        self.opened = open_store(sqlite_url(Path(self.directory.name) / "x.db"))
        self.store = self.opened.__enter__()

    def teardown(self) -> None:
        self.opened.__exit__(None, None, None)
        self.directory.cleanup()

    def waiting(self) -> list[str]:
        waiting = [r for r, job in self.jobs.items() if job["state"] is JobState.QUEUED]
        return sorted(waiting, key=lambda r: self.jobs[r]["place"])

    @rule(submitter=st.sampled_from("abc"), priority=st.sampled_from([0, 0, 1]))
    def submit(self, submitter: str, priority: int) -> None:
        number = next(self.numbers)
        peers = [job for job in self.jobs.values() if job["priority"] == priority]
        served = max((job["turn"] for job in peers if job["claimed"]), default=0)
        own = max((job["turn"] for job in peers if job["submitter"] == submitter), default=0)
        turn = max(served, own) + 1
        self.jobs[f"r{number}"] = {
            "submitter": submitter,
            "priority": priority,
            "turn": turn,
            "claimed": False,
            "place": (-priority, turn, number),
            "state": JobState.QUEUED,
        }
        self.store.queue.submit(new_job(f"r{number}", submitter, priority=priority), UNLIMITED)

    @rule()
    def claim(self) -> None:
        claimed = self.store.queue.claim(ALICE, f"c{next(self.numbers)}", NOW)
        expected = next(iter(self.waiting()), None)
        assert (claimed.job.run_id if claimed else None) == expected
        if claimed and expected:
            self.running[expected] = claimed
            self.jobs[expected] |= {"claimed": True, "state": JobState.RUNNING}

    @precondition(lambda self: self.running)
    @rule(pick=st.randoms(use_true_random=False))
    def postpone(self, pick: Any) -> None:
        run_id = pick.choice(sorted(self.running))
        self.store.queue.postpone(self.running.pop(run_id).lease, NOW, "", NOW)
        self.jobs[run_id]["state"] = JobState.QUEUED

    @precondition(lambda self: self.waiting())
    @rule(pick=st.randoms(use_true_random=False))
    def cancel_and_requeue(self, pick: Any) -> None:
        run_id = pick.choice(self.waiting())
        self.store.queue.cancel(run_id, NOW)
        self.store.queue.requeue(run_id, NOW + next(self.numbers) * SECOND)

    @invariant()
    def waits_in_the_same_order(self) -> None:
        listed = self.store.queue.jobs([JobState.QUEUED])
        assert [job.run_id for job in listed] == self.waiting()


def test_the_order_is_that_of_a_simple_model() -> None:
    run_state_machine_as_test(
        Queue,
        settings=settings(max_examples=12, stateful_step_count=20, deadline=None),
    )


# -- what a claim costs ---------------------------------------------------------------------------


def test_the_next_job_is_found_without_sorting_on_sqlite(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "x.db")
    with open_store(url) as store:
        fill(store, 300)
    query = next_due(NOW).compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
    engine = create_engine(url)
    with engine.connect() as connection:
        plan = " ".join(
            row.detail for row in connection.execute(text(f"EXPLAIN QUERY PLAN {query}"))
        )
    engine.dispose()
    assert "USING INDEX jobs_in_turn" in plan
    assert "TEMP B-TREE" not in plan
    assert "SCAN" not in plan


@pytest.mark.postgres
def test_the_next_job_is_found_without_sorting_on_postgres(postgres_url: str) -> None:
    with open_store(postgres_url) as store:
        fill(store, 300)
    engine = create_engine(postgres_url.replace("postgresql://", "postgresql+psycopg://"))
    query = next_due(NOW).compile(dialect=engine.dialect, compile_kwargs={"literal_binds": True})
    with engine.begin() as connection:
        connection.execute(text("ANALYZE jobs"))
        plan = " ".join(connection.scalars(text(f"EXPLAIN {query}")))
    engine.dispose()
    assert "Index Scan using jobs_in_turn" in plan
    assert "Sort" not in plan


def fill(store: Store, size: int) -> None:
    for number in range(size):
        store.queue.submit(new_job(f"r{number:05}", f"team-{number % 7}"), UNLIMITED)
