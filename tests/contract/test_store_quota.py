"""Sliding windows of the quota, on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest

from runner.domain import JobOutcome, JobState, QuotaState, SubmissionQuota
from runner.errors import QuotaExceeded
from runner.store import Store
from tests.unit.store.nouns import ALICE, NOW, new_job

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MICROSECOND = timedelta(microseconds=1)
TWO_A_DAY = SubmissionQuota(per_day=2, per_week=3)


def test_a_submission_too_many_changes_nothing(store: Store) -> None:
    for hour in range(2):
        store.queue.submit(new_job(f"r{hour}", submitted_at=NOW + hour * HOUR), TWO_A_DAY)
    with pytest.raises(QuotaExceeded) as error:
        store.queue.submit(new_job("r2", submitted_at=NOW + 2 * HOUR), TWO_A_DAY)
    assert "used 2 of 2 submissions in 24 hours and 2 of 3 in 7 days" in error.value.message
    assert "2026-01-02 12:00:00 UTC" in error.value.remedy
    assert len(store.queue.jobs()) == len(store.queue.quota_entries()) == 2
    assert store.ledger.events("r2") == []


def test_others_are_not_counted(store: Store) -> None:
    one = SubmissionQuota(per_day=1)
    store.queue.submit(new_job("a", "alice"), one)
    store.queue.submit(new_job("b", "bob"), one)
    assert [entry.run_id for entry in store.queue.quota_entries("bob")] == ["b"]
    assert len(store.queue.quota_entries()) == 2


def test_the_window_slides(store: Store) -> None:
    for run_id, at in (("a", NOW), ("b", NOW + HOUR)):
        store.queue.submit(new_job(run_id, submitted_at=at), TWO_A_DAY)
    just_before = store.queue.quota_use("team", TWO_A_DAY, NOW + DAY - MICROSECOND)
    assert (just_before.day, just_before.next_free_at) == (2, NOW + DAY)
    on_time = store.queue.quota_use("team", TWO_A_DAY, NOW + DAY)
    assert (on_time.day, on_time.week, on_time.next_free_at) == (1, 2, None)
    store.queue.submit(new_job("c", submitted_at=NOW + DAY), TWO_A_DAY)
    full_week = store.queue.quota_use("team", TWO_A_DAY, NOW + 3 * DAY)
    assert (full_week.day, full_week.week) == (0, 3)
    assert full_week.next_free_at == NOW + 7 * DAY
    assert store.queue.quota_use("team", TWO_A_DAY, NOW + 7 * DAY - MICROSECOND).week == 3
    assert store.queue.quota_use("team", TWO_A_DAY, NOW + 7 * DAY).week == 2


def test_more_used_than_is_allowed_now(store: Store) -> None:
    """The quota was lowered: two have to leave the window before one more fits."""
    for hour in range(3):
        job = new_job(f"r{hour}", submitted_at=NOW + hour * HOUR)
        store.queue.submit(job, SubmissionQuota())
    use = store.queue.quota_use("team", TWO_A_DAY, NOW + 3 * HOUR)
    # A day after the second there is room in the day, but in the week only after the first.
    assert use.next_free_at == NOW + 7 * DAY
    use = store.queue.quota_use("team", SubmissionQuota(per_day=2), NOW + 3 * HOUR)
    assert use.next_free_at == NOW + HOUR + DAY


@pytest.mark.parametrize("quota", [SubmissionQuota(per_day=0), SubmissionQuota(per_week=0)])
def test_no_quota_at_all(store: Store, quota: SubmissionQuota) -> None:
    assert store.queue.quota_use("team", quota, NOW).next_free_at is None
    with pytest.raises(QuotaExceeded, match="operator"):
        store.queue.submit(new_job("r"), quota)


def test_what_was_refunded_does_not_count(store: Store) -> None:
    one = SubmissionQuota(per_day=1)
    store.queue.submit(new_job("a"), one)
    store.queue.cancel("a", NOW)
    store.queue.submit(new_job("b"), one)
    claimed = store.queue.claim(ALICE, "c", NOW)
    assert claimed is not None
    store.queue.finish(claimed.lease, JobOutcome(state=JobState.FAILED), None, None, NOW)
    store.queue.submit(new_job("c"), one)
    states = [entry.state for entry in store.queue.quota_entries()]
    assert states == [QuotaState.REFUNDED, QuotaState.REFUNDED, QuotaState.RESERVED]


def test_a_submission_that_does_not_build_counts(store: Store) -> None:
    one = SubmissionQuota(per_day=1)
    store.queue.submit(new_job("a"), one)
    claimed = store.queue.claim(ALICE, "c", NOW)
    assert claimed is not None
    outcome = JobOutcome(state=JobState.FINISHED, failure_reason="build_failed")
    store.queue.finish(claimed.lease, outcome, None, None, NOW)
    with pytest.raises(QuotaExceeded):
        store.queue.submit(new_job("b"), one)
