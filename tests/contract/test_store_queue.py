"""What ports.JobQueue promises of jobs and leases, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runner.domain import (
    Claim,
    EventKind,
    Job,
    JobOptions,
    JobOutcome,
    JobState,
    QuotaState,
    RefundReason,
    SubmissionQuota,
    WorkerIdentity,
    WorkerStatus,
)
from runner.errors import LeaseLost, UsageError
from runner.ports import JobQueue
from runner.store import Store
from tests.unit.store.nouns import (
    ALICE,
    BOB,
    NOW,
    SECOND,
    UNLIMITED,
    benchmark_execution,
    new_job,
    numbered,
    submission,
    task_execution,
)

FINISHED = JobOutcome(state=JobState.FINISHED)


@pytest.fixture
def queue(store: Store) -> JobQueue:
    return store.queue


def submit(queue: JobQueue, *run_ids: str) -> None:
    for run_id in run_ids:
        queue.submit(new_job(run_id), UNLIMITED)


def claim(queue: JobQueue, claim_id: str = "c", worker: WorkerIdentity = ALICE) -> Claim:
    claimed = queue.claim(worker, claim_id, NOW)
    assert claimed is not None
    return claimed


def finish(queue: JobQueue, claimed: Claim, outcome: JobOutcome = FINISHED) -> None:
    queue.finish(claimed.lease, outcome, None, None, NOW + SECOND)


# -- submitting -----------------------------------------------------------------------------------


def test_a_submitted_job_comes_back_as_it_was_put_in(queue: JobQueue) -> None:
    options = JobOptions(suite="s", tasks=("a*", "b"), limit=3, repeats=2, seed=2**70)
    job = new_job("run", options=options, priority=7, not_before=NOW + SECOND)
    assert queue.submit(job, UNLIMITED) == queue.job("run")
    stored = queue.job("run")
    assert stored.options == options
    assert stored.submission == job.submission
    assert (stored.priority, stored.not_before) == (7, NOW + SECOND)
    assert (stored.state, stored.submitted_at) == (JobState.QUEUED, NOW)


def test_submitting_again_changes_nothing(store: Store) -> None:
    queue = store.queue
    first = queue.submit(new_job("run"), SubmissionQuota(per_day=1))
    assert queue.submit(new_job("run", priority=9), SubmissionQuota(per_day=1)) == first
    assert len(queue.quota_entries()) == 1
    assert len(store.ledger.events("run")) == 1


def test_no_credential_is_in_the_stored_submission(queue: JobQueue) -> None:
    secret = submission(
        endpoint_type="http",
        url="https://user:hunter2@host:8443/a?b=c",
        auth_type="bearer",
        auth_credentials={"token": "hunter2"},
        headers={"X-Key": "hunter2"},
    )
    queue.submit(new_job("run", submission=secret, sealed=b"\0sealed"), UNLIMITED)
    stored = queue.job("run").submission.agent_endpoint
    assert stored.url == "https://host:8443/a?b=c"
    assert not stored.auth_credentials
    assert not stored.headers
    assert claim(queue).sealed == b"\0sealed"


def test_sealed_credentials_are_forgotten_when_the_job_ends(queue: JobQueue) -> None:
    queue.submit(new_job("run", sealed=b"sealed"), UNLIMITED)
    finish(queue, claim(queue))
    queue.requeue("run", NOW)
    assert claim(queue).sealed == b""


def test_a_job_that_failed_through_our_fault_keeps_its_credentials(queue: JobQueue) -> None:
    queue.submit(new_job("run", sealed=b"sealed"), UNLIMITED)
    finish(queue, claim(queue), JobOutcome(state=JobState.FAILED))
    queue.requeue("run", NOW)
    assert claim(queue).sealed == b"sealed"


def test_text_that_databases_do_not_like(queue: JobQueue) -> None:
    queue.submit(new_job("run", "a\0b"), UNLIMITED)
    assert queue.quota_use("a\0b", UNLIMITED, NOW).day == 1
    assert queue.quota_use("ab", UNLIMITED, NOW).day == 0
    lease = claim(queue).lease
    queue.postpone(lease, NOW, "\ud800\0\n", NOW)
    assert queue.job("run").note == "\\ud800\\x00\\n"


# -- claiming -------------------------------------------------------------------------------------


def test_an_empty_queue_has_no_job(queue: JobQueue) -> None:
    assert queue.claim(ALICE, "c", NOW) is None


def test_a_claim_is_a_lease_and_a_running_job(store: Store) -> None:
    queue = store.queue
    submit(queue, "run")
    claimed = claim(queue)
    assert claimed.lease.token == 1
    assert claimed.job == queue.job("run")
    assert claimed.job.state is JobState.RUNNING
    assert (claimed.job.claims, claimed.job.worker) == (1, "alice")
    assert claimed.job.first_claimed_at == NOW
    assert queue.leases() == [claimed.lease]
    assert queue.claim(BOB, "d", NOW) is None
    assert [e.event.kind for e in store.ledger.events("run")] == [
        EventKind.SUBMITTED,
        EventKind.CLAIMED,
    ]


def test_the_same_claim_gets_the_same_job(store: Store) -> None:
    submit(store.queue, "a", "b")
    assert claim(store.queue, "c") == claim(store.queue, "c")
    assert claim(store.queue, "d").job.run_id == "b"
    assert len(store.ledger.events("a")) == 2


def test_nothing_is_claimed_before_its_time(queue: JobQueue) -> None:
    queue.submit(new_job("later", not_before=NOW + SECOND), UNLIMITED)
    submit(queue, "now")
    assert claim(queue, "c").job.run_id == "now"
    assert queue.claim(ALICE, "d", NOW) is None
    due = queue.claim(ALICE, "e", NOW + SECOND)
    assert due is not None
    assert due.job.run_id == "later"


def test_jobs_are_listed_as_they_run_wait_and_ended(queue: JobQueue) -> None:
    submit(queue, "a", "b", "c", "d")
    queue.submit(new_job("urgent", priority=1), UNLIMITED)
    for number in range(3):
        claimed = claim(queue, f"c{number}")
        if claimed.job.run_id != "a":
            queue.finish(claimed.lease, FINISHED, None, None, NOW + number * SECOND)
    assert [job.run_id for job in queue.jobs()] == ["a", "c", "d", "b", "urgent"]
    assert [job.run_id for job in queue.jobs(limit=2)] == ["a", "c"]
    assert [job.run_id for job in queue.jobs([JobState.QUEUED])] == ["c", "d"]
    assert queue.jobs(limit=0) == []
    assert queue.counts() == {
        JobState.QUEUED: 2,
        JobState.RUNNING: 1,
        JobState.FINISHED: 2,
        JobState.FAILED: 0,
        JobState.CANCELLED: 0,
    }


# -- leases ---------------------------------------------------------------------------------------


def test_each_renewal_is_a_beat(queue: JobQueue) -> None:
    submit(queue, "run")
    lease = claim(queue).lease
    renewed, cancel = queue.renew(lease)
    assert (renewed.beat, renewed.token, cancel) == (1, lease.token, False)
    assert queue.renew(lease)[0].beat == 2
    queue.cancel("run", NOW)
    assert queue.renew(lease)[1] is True


def test_a_lease_that_stands_still_is_taken_over(queue: JobQueue) -> None:
    submit(queue, "run")
    lease = claim(queue).lease
    taken = queue.take_over(lease, BOB, "d", NOW)
    assert taken is not None
    assert (taken.lease.token, taken.lease.worker, taken.lease.beat) == (2, "bob", 0)
    assert (taken.job.claims, taken.job.losses) == (2, 1)
    assert queue.take_over(lease, BOB, "d", NOW) == taken
    assert queue.take_over(lease, ALICE, "e", NOW) is None
    assert queue.job("run").losses == 1


def test_a_lease_that_beats_is_not_taken_over(queue: JobQueue) -> None:
    submit(queue, "run")
    seen = claim(queue).lease
    renewed, _ = queue.renew(seen)
    assert queue.take_over(seen, BOB, "d", NOW) is None
    finish(queue, claim(queue))
    assert queue.take_over(renewed, BOB, "d", NOW) is None


def test_a_stale_lease_changes_nothing(store: Store) -> None:
    queue, ledger = store.queue, store.ledger
    submit(queue, "run")
    stale = claim(queue).lease
    ledger.begin_attempt(stale, "t", 1, NOW)
    taken = queue.take_over(stale, BOB, "d", NOW)
    assert taken is not None
    before = (queue.job("run"), queue.leases(), ledger.events("run"))
    calls: list[Callable[[], object]] = [
        lambda: queue.renew(stale),
        lambda: queue.postpone(stale, NOW, "", NOW),
        lambda: queue.finish(stale, FINISHED, benchmark_execution(), Path("/x"), NOW),
        lambda: ledger.begin_attempt(stale, "t", 1, NOW),
        lambda: ledger.keep_attempt(stale, task_execution(), Path("/x")),
        lambda: ledger.adopt_attempt(stale, task_execution(), Path("/x")),
        lambda: ledger.append_events(stale, numbered(1)),
    ]
    for call in calls:
        with pytest.raises(LeaseLost):
            call()
    assert (queue.job("run"), queue.leases(), ledger.events("run")) == before
    assert ledger.kept("run") == {}
    assert ledger.result("run") is None
    assert ledger.begin_attempt(taken.lease, "t", 1, NOW) == 2


def test_a_lease_of_another_worker_with_the_same_token_is_no_lease(queue: JobQueue) -> None:
    submit(queue, "run")
    lease = claim(queue).lease
    with pytest.raises(LeaseLost, match="bob"):
        queue.renew(lease.model_copy(update={"worker": "bob"}))


def test_a_lease_of_an_ended_job_is_lost(queue: JobQueue) -> None:
    submit(queue, "run")
    claimed = claim(queue)
    finish(queue, claimed)
    with pytest.raises(LeaseLost):
        queue.renew(claimed.lease)
    with pytest.raises(LeaseLost):
        queue.finish(claimed.lease, JobOutcome(state=JobState.FAILED), None, None, NOW)


# -- endings --------------------------------------------------------------------------------------


def test_a_postponed_job_keeps_its_place(queue: JobQueue) -> None:
    submit(queue, "a", "b")
    lease = claim(queue).lease
    for _ in range(2):  # the reply may be lost
        queue.postpone(lease, NOW + SECOND, "the engine is down", NOW)
    job = queue.job("a")
    assert (job.state, job.not_before) == (JobState.QUEUED, NOW + SECOND)
    assert job.note == "the engine is down"
    again = queue.claim(ALICE, "d", NOW + SECOND)
    assert again is not None
    assert (again.job.run_id, again.lease.token) == ("a", 2)
    assert again.job.note == ""
    assert again.job.losses == 0
    with pytest.raises(LeaseLost):
        queue.postpone(lease, NOW, "", NOW)


def test_a_job_that_was_to_be_cancelled_is_when_it_is_postponed(queue: JobQueue) -> None:
    submit(queue, "run")
    lease = claim(queue).lease
    queue.cancel("run", NOW)
    for _ in range(2):
        queue.postpone(lease, NOW, "", NOW)
    assert queue.job("run").state is JobState.CANCELLED
    assert queue.quota_entries()[0].refund_reason is RefundReason.CANCELLED_BY_OPERATOR


def test_a_result_is_indexed_with_the_end_of_its_job(store: Store) -> None:
    submit(store.queue, "run")
    claimed = claim(store.queue)
    result = benchmark_execution("run", task_execution())
    for _ in range(2):  # the reply may be lost
        store.queue.finish(claimed.lease, FINISHED, result, Path("/runs/run"), NOW + SECOND)
    assert store.ledger.result("run") == result
    assert store.ledger.indexed() == {"run": Path("/runs/run")}
    job = store.queue.job("run")
    assert (job.state, job.finished_at, job.worker) == (JobState.FINISHED, NOW + SECOND, "alice")
    assert store.queue.leases() == []


@pytest.mark.parametrize(
    ("state", "settled", "reason"),
    [
        (JobState.FINISHED, QuotaState.COMMITTED, None),
        (JobState.FAILED, QuotaState.REFUNDED, RefundReason.INFRASTRUCTURE_FAILED),
        (JobState.CANCELLED, QuotaState.REFUNDED, RefundReason.CANCELLED_BY_OPERATOR),
    ],
)
def test_every_end_settles_the_quota(
    queue: JobQueue, state: JobState, settled: QuotaState, reason: RefundReason | None
) -> None:
    submit(queue, "run")
    finish(queue, claim(queue), JobOutcome(state=state, note="so\nit was"))
    (entry,) = queue.quota_entries("team")
    assert (entry.state, entry.refund_reason) == (settled, reason)
    assert entry.settled_at == NOW + SECOND
    assert queue.job("run").note == "so\\nit was"


def test_a_job_does_not_end_running(queue: JobQueue) -> None:
    submit(queue, "run")
    with pytest.raises(ValueError, match="running"):
        finish(queue, claim(queue), JobOutcome(state=JobState.RUNNING))


def test_a_waiting_job_is_cancelled_at_once(queue: JobQueue) -> None:
    submit(queue, "run")
    job = queue.cancel("run", NOW, "no longer wanted")
    assert (job.state, job.note) == (JobState.CANCELLED, "no longer wanted")
    assert queue.cancel("run", NOW, "no longer wanted") == job  # the reply may be lost
    (entry,) = queue.quota_entries()
    assert entry.refund_reason is RefundReason.CANCELLED_BEFORE_START
    with pytest.raises(UsageError, match="has ended"):
        queue.cancel("run", NOW + SECOND)


def test_a_running_job_is_asked_to_stop(queue: JobQueue) -> None:
    submit(queue, "run")
    lease = claim(queue).lease
    job = queue.cancel("run", NOW)
    assert (job.state, job.cancel_requested) == (JobState.RUNNING, True)
    queue.finish(lease, JobOutcome(state=JobState.CANCELLED), None, None, NOW)
    assert queue.job("run").state is JobState.CANCELLED


def test_an_ended_job_can_wait_again_and_counts_again(queue: JobQueue) -> None:
    submit(queue, "run", "other")
    finish(queue, claim(queue), JobOutcome(state=JobState.FAILED))
    assert queue.quota_use("team", UNLIMITED, NOW).day == 1
    job = queue.requeue("run", NOW)
    assert queue.requeue("run", NOW) == job  # the reply may be lost
    assert (job.state, job.finished_at, job.claims) == (JobState.QUEUED, None, 1)
    assert queue.quota_use("team", SubmissionQuota(per_day=0), NOW).day == 2
    with pytest.raises(UsageError, match="has not ended"):
        queue.requeue("run", NOW + SECOND)
    again = claim(queue, "d")
    assert (again.job.run_id, again.lease.token) == ("run", 2)
    assert again.job.first_claimed_at == NOW


def test_jobs_that_there_are_not(queue: JobQueue) -> None:
    calls: list[Callable[[], Job]] = [
        lambda: queue.job("x"),
        lambda: queue.cancel("x", NOW),
        lambda: queue.requeue("x", NOW),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="no job x"):
            call()


# -- workers --------------------------------------------------------------------------------------


def test_workers_report_until_they_have_no_slots(queue: JobQueue) -> None:
    status = WorkerStatus(
        worker="alice", host="one", started_at=NOW, seen_at=NOW, slots=3, running=("run",)
    )
    later = status.model_copy(update={"seen_at": NOW + SECOND, "draining": True})
    other = status.model_copy(update={"worker": "bob"})
    for report in (status, other, later):
        queue.report(report)
    assert queue.workers() == [later, other]
    queue.report(later.model_copy(update={"slots": 0}))
    assert queue.workers() == [other]


def test_the_place_of_a_job(queue: JobQueue) -> None:
    for number, priority in enumerate((0, 0, 5)):
        queue.submit(new_job(f"run-{number}", priority=priority), UNLIMITED)
    assert [queue.place(f"run-{number}") for number in (2, 0, 1)] == [1, 2, 3]
    assert claim(queue).job.run_id == "run-2"
    assert (queue.place("run-2"), queue.place("run-1"), queue.place("no")) == (None, 2, None)


def test_jobs_by_the_beginning_of_their_id(queue: JobQueue) -> None:
    for run_id in ("a_1", "a_2", "ab1"):
        queue.submit(new_job(run_id), UNLIMITED)
    assert queue.starting_with("a_", 9) == ["a_1", "a_2"]
    assert queue.starting_with("a", 2) == ["a_1", "a_2"]
    assert queue.starting_with("%", 9) == []
