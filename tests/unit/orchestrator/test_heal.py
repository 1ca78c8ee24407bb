"""What a crash kept out of the database is entered from the run's directory, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from runner.domain import Lease
from runner.evaluation import StopSignal
from runner.orchestrator.evidence import LeasedEvidence
from runner.orchestrator.leases import Holding
from runner.records import RunDirectory
from runner.store import Store, open_store, sqlite_url
from tests.unit.records.nouns import RUN_ID, execution, plan, reply, task
from tests.unit.store.nouns import ALICE, NOW, UNLIMITED, new_job


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(sqlite_url(tmp_path / "store.db"), patience_seconds=5) as store:
        yield store


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[RunDirectory]:
    with closing(RunDirectory(tmp_path / "runs", RUN_ID)) as directory:
        directory.begin(plan(RUN_ID, task("a")))
        yield directory


def claimed(store: Store) -> Lease:
    store.queue.submit(new_job(RUN_ID), UNLIMITED)
    claim = store.queue.claim(ALICE, "claim", NOW)
    assert claim
    return claim.lease


def kept(directory: RunDirectory, repeat: int) -> Path:
    return directory.keep(execution(task_id="a", repeat=repeat), reply(), directory.staging())


def test_what_is_known_is_not_read_and_what_is_damaged_not_entered(
    store: Store, directory: RunDirectory
) -> None:
    lease = claimed(store)
    holding = Holding(store.queue, lease, 30, StopSignal())
    evidence = LeasedEvidence(directory, store.ledger, holding)
    known = kept(directory, 1)
    store.ledger.keep_attempt(lease, execution(task_id="a", repeat=1), known)
    (known / "execution.json").unlink()
    lost = kept(directory, 2)
    (kept(directory, 3) / "execution.json").write_text("{")
    evidence.heal()
    assert store.ledger.kept(RUN_ID) == {("a", 1, 1): known, ("a", 2, 1): lost}
    assert evidence.judged() == {("a", 1), ("a", 2)}
    evidence.heal()  # again: nothing changes
    assert len(evidence.finals()) == 2
