"""The questions that a person asks of the queue, put to a real database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runner.bootstrap import queueing
from runner.bootstrap.storing import store_of
from runner.config import Settings, load_settings
from runner.domain import (
    BreakerState,
    EventKind,
    JobState,
    NumberedEvent,
    QuotaState,
    RefundReason,
    RunEvent,
)
from runner.errors import UsageError
from runner.store import Store
from tests.unit.store.nouns import ALICE, UNLIMITED, new_job

IDS = ("20260314-092600-aaaaaa", "20260314-092700-bbbbbb", "20260315-000000-cccccc")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    flags = {"storage.state_dir": str(tmp_path / "state"), "breaker.open_seconds": 60}
    return load_settings(flags, cwd=tmp_path, environ={}, profile=None).settings


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    """Three jobs; the first is running, and one of its two tasks has ended."""
    with store_of(settings) as store:
        for number, run_id in enumerate(IDS):
            now = datetime.now(UTC) - timedelta(minutes=10 - number)
            new = new_job(run_id, submitted_at=now, submitter=f"team-{number}")
            store.queue.submit(new, UNLIMITED)
        claim = store.queue.claim(ALICE, "c1", datetime.now(UTC))
        assert claim
        run_started = event(EventKind.RUN_STARTED, data={"total": 2})
        finished = event(EventKind.TASK_FINISHED, task_id="t1", data={"status": "completed"})
        numbered = [NumberedEvent(number=n, event=e) for n, e in ((1, run_started), (2, finished))]
        store.ledger.append_events(claim.lease, numbered)
        yield store


def event(kind: EventKind, **fields: object) -> RunEvent:
    return RunEvent(kind=kind, at=datetime.now(UTC), run_id=IDS[0], **fields)


def test_the_queue_at_a_glance(settings: Settings, store: Store) -> None:
    status = queueing.queue_status(settings)
    assert (status.queue_size, status.active_executions) == (2, 1)
    assert [job.run_id for job in status.jobs] == list(IDS)
    [(run_id, progress)] = status.progress.items()
    assert run_id == IDS[0]
    assert progress.progress_percentage() == 50.0
    assert queueing.queue_status(settings, 1).jobs == status.jobs[:1]
    assert queueing.status_of(settings, store) == status


def test_an_empty_queue(settings: Settings) -> None:
    status = queueing.queue_status(settings)
    assert (status.queue_size, status.jobs, status.workers) == (0, (), ())


def test_one_job(settings: Settings, store: Store) -> None:
    running, last = queueing.job(settings, IDS[0]), queueing.job(settings, IDS[2][:9])
    assert (running.job.state, running.place) == (JobState.RUNNING, None)
    assert running.progress.completed_tasks == 1
    assert (last.job.run_id, last.place) == (IDS[2], 2)
    assert last.quota_entry
    assert last.quota_entry.state is QuotaState.RESERVED
    kinds = [each.event.kind for each in queueing.job_events(settings, IDS[0][:15])]
    assert kinds == [
        EventKind.SUBMITTED,
        EventKind.CLAIMED,
        EventKind.RUN_STARTED,
        EventKind.TASK_FINISHED,
    ]


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [("x", "no job 'x'"), ("", "no job ''"), ("20260314", "several jobs start with '20260314'")],
)
def test_ids_that_fit_none_or_several(
    settings: Settings, store: Store, wanted: str, complaint: str
) -> None:
    for ask in (queueing.job, queueing.job_events):
        with pytest.raises(UsageError, match=complaint):
            ask(settings, wanted)


def test_cancel_and_retry(settings: Settings, store: Store) -> None:
    running, waiting = queueing.cancel(settings, [IDS[0], IDS[2][:9], IDS[2]])
    assert (running.state, running.cancel_requested) == (JobState.RUNNING, True)
    assert waiting.state is JobState.CANCELLED
    assert waiting.note == "cancelled by an operator"
    entry = queueing.job(settings, IDS[2]).quota_entry
    assert entry
    assert entry.refund_reason is RefundReason.CANCELLED_BEFORE_START
    [again] = queueing.retry(settings, [IDS[2]])
    assert again.state is JobState.QUEUED


def test_one_wrong_id_cancels_nothing(settings: Settings, store: Store) -> None:
    with pytest.raises(UsageError):
        queueing.cancel(settings, [IDS[1], "no-such"])
    assert store.queue.job(IDS[1]).state is JobState.QUEUED


def test_quota(settings: Settings, store: Store) -> None:
    report = queueing.quota(settings)
    assert [(use.submitter, use.day) for use in report.uses] == [
        ("team-0", 1),
        ("team-1", 1),
        ("team-2", 1),
    ]
    assert (report.quota.per_day, report.quota.per_week) == (5, 20)
    one = queueing.quota(settings, "team-1")
    assert [entry.run_id for entry in one.entries] == [IDS[1]]
    nobody = queueing.quota(settings, "nobody")
    assert [(use.day, use.week) for use in nobody.uses] == [(0, 0)]


def test_breakers(settings: Settings, store: Store) -> None:
    assert queueing.breakers(settings) == ()
    opened = datetime(2026, 3, 14, 9, 26, tzinfo=UTC)
    changes = {"state": BreakerState.OPEN, "opened_at": opened, "failures": 5}
    store.breakers.update("engine x", lambda b: (b.model_copy(update=changes), None))
    [status] = queueing.breakers(settings)
    assert (status.name, status.retry_at) == ("engine x", opened + timedelta(seconds=60))
    assert queueing.queue_status(settings).circuit_breakers == (status,)


def test_no_database_is_made_to_find_out_that_a_run_was_not_queued(
    settings: Settings, tmp_path: Path
) -> None:
    assert queueing.job_if_any(settings, "r1") is None
    assert not (tmp_path / "state").exists()


def test_a_run_that_was_not_queued(settings: Settings, store: Store) -> None:
    assert queueing.job_if_any(settings, "r1") is None
    found = queueing.job_if_any(settings, IDS[1])
    assert found
    assert found.job.run_id == IDS[1]
    with pytest.raises(UsageError, match="several jobs start with"):
        queueing.job_if_any(settings, IDS[0][:8])
