"""One worker on a real queue, with jobs that do as each test says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.domain import (
    BenchmarkExecution,
    Claim,
    EventKind,
    ExecutionStatus,
    JobState,
    QuotaEntry,
    QuotaState,
    RefundReason,
    WorkerIdentity,
    WorkerStatus,
)
from runner.errors import (
    BuildFailed,
    EngineFailed,
    InvalidSubmission,
    InvalidSuite,
    LeaseLost,
    Postponed,
    SpendingLimitReached,
    StoreUnavailable,
    UsageError,
)
from runner.evaluation.stop import Stop, StopSignal
from runner.orchestrator.leases import Holding
from runner.orchestrator.presence import Presence
from runner.orchestrator.worker import Worker, WorkerObserver, WorkerPolicy
from runner.store import Store, open_store, sqlite_url
from tests.unit.store.nouns import BOB, NOW, UNLIMITED, benchmark_execution, new_job

Result = tuple[BenchmarkExecution, Path]
Act = Callable[[Claim, Holding, StopSignal], Awaitable[Result]]

POLICY = WorkerPolicy(slots=1, poll_seconds=0.01, lease_seconds=30.0, max_losses=5)
EVIDENCE = Path("/runs/run")
LATER = datetime.now(UTC) + timedelta(days=1)


class Script:
    """Implements JobExecution: each run does what it was told to, and else is completed."""

    def __init__(self) -> None:
        self.acts: dict[str, Act] = {}
        self.begun: list[str] = []
        self.claims: list[Claim] = []
        self._news: asyncio.Queue[str] = asyncio.Queue()

    async def __call__(self, claim: Claim, holding: Holding, stop: StopSignal) -> Result:
        run_id = claim.job.run_id
        self.begun.append(run_id)
        self.claims.append(claim)
        self._news.put_nowait(run_id)
        act = self.acts.get(run_id)
        return await act(claim, holding, stop) if act else completed(run_id)

    async def next(self) -> str:
        """The run that is begun next."""
        return await self._news.get()


def completed(run_id: str, **changes: Any) -> Result:
    return benchmark_execution(run_id).model_copy(update=changes), EVIDENCE


def raising(error: Exception) -> Act:
    async def act(_claim: Claim, _holding: Holding, _stop: StopSignal) -> Result:
        raise error

    return act


def ending(**changes: Any) -> Act:
    async def act(claim: Claim, _holding: Holding, _stop: StopSignal) -> Result:
        return completed(claim.job.run_id, **changes)

    return act


def once(go: asyncio.Event) -> Act:
    """Ends when it may."""

    async def act(claim: Claim, _holding: Holding, _stop: StopSignal) -> Result:
        await go.wait()
        return completed(claim.job.run_id)

    return act


def until(level: Stop, then: Act) -> Act:
    """Goes on until so much is asked of it, as an evaluation does."""

    async def act(claim: Claim, holding: Holding, stop: StopSignal) -> Result:
        working = asyncio.create_task(asyncio.Event().wait())
        stop.watch(working, level)
        await asyncio.wait({working})
        return await then(claim, holding, stop)

    return act


class Seen(WorkerObserver):
    """What it was told."""

    def __init__(self) -> None:
        self.takeovers = 0
        self.failures = 0
        self.released: list[str] = []

    def taken_over(self) -> None:
        self.takeovers += 1

    def let_go(self, run_id: str) -> None:
        self.released.append(run_id)

    def store_failed(self) -> None:
        self.failures += 1


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(sqlite_url(tmp_path / "agenttrace.db"), patience_seconds=20) as opened:
        yield opened


@pytest.fixture
def presence(tmp_path: Path) -> Iterator[Presence]:
    with Presence(tmp_path / "workers") as present:
        yield present


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def seen() -> Seen:
    return Seen()


MakeWorker = Callable[..., Worker]


@pytest.fixture
def worker_with(store: Store, presence: Presence, script: Script, seen: Seen) -> MakeWorker:
    def make(queue: Any = None, **policy: Any) -> Worker:
        chosen = WorkerPolicy(**{**vars(POLICY), **policy})
        given = queue or store.queue
        return Worker(given, execute=script, presence=presence, policy=chosen, observer=seen)

    return make


@pytest.fixture
def worker(worker_with: MakeWorker) -> Worker:
    return worker_with()


def submit(store: Store, *run_ids: str, **fields: Any) -> None:
    for run_id in run_ids:
        store.queue.submit(new_job(run_id, **fields), UNLIMITED)


def entry(store: Store, run_id: str = "run") -> QuotaEntry:
    [found] = [one for one in store.queue.quota_entries() if one.run_id == run_id]
    return found


class Faulty:
    """A queue some of whose calls are answered otherwise."""

    def __init__(self, store: Store, **calls: Callable[..., Any]) -> None:
        self._queue = store.queue
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        return self._calls.get(name) or getattr(self._queue, name)


# -- finding work ---------------------------------------------------------------------------------


async def test_jobs_are_worked_off_in_turn(store: Store, worker: Worker, script: Script) -> None:
    submit(store, "a", "b")
    submit(store, "urgent", priority=5)
    submit(store, "later", not_before=LATER)
    await worker.work(until_empty=True)
    assert script.begun == ["urgent", "a", "b"]
    counts = store.queue.counts()
    assert (counts[JobState.FINISHED], counts[JobState.QUEUED]) == (3, 1)


async def test_a_job_is_done_with_its_result(
    store: Store, worker: Worker, script: Script, seen: Seen
) -> None:
    submit(store, "run")
    await worker.work(until_empty=True)
    job = store.queue.job("run")
    assert (job.state, job.worker, job.claims) == (JobState.FINISHED, worker.presence.worker, 1)
    assert job.note.startswith("score ")
    assert store.ledger.result("run") == completed("run")[0]
    assert store.ledger.indexed() == {"run": EVIDENCE}
    assert entry(store).state is QuotaState.COMMITTED
    assert seen.released == ["run"]
    assert worker.running == ()


async def test_so_many_at_once_and_no_more(
    store: Store, worker_with: MakeWorker, script: Script
) -> None:
    submit(store, "a", "b", "c")
    go = asyncio.Event()
    script.acts = {run_id: once(go) for run_id in "abc"}
    worker = worker_with(slots=2)
    working = asyncio.create_task(worker.work(until_empty=True))
    assert {await script.next(), await script.next()} == {"a", "b"}
    assert set(worker.running) == {"a", "b"}
    assert store.queue.job("c").state is JobState.QUEUED
    go.set()
    await working
    assert script.begun[2:] == ["c"]


async def test_an_empty_queue_is_looked_at_again(
    store: Store, worker: Worker, script: Script
) -> None:
    working = asyncio.create_task(worker.work())
    submit(store, "run")
    assert await script.next() == "run"
    worker.stop()
    await working


async def test_a_store_that_is_away_is_asked_again(
    store: Store, worker_with: MakeWorker, script: Script, seen: Seen
) -> None:
    """Also with `until_empty`: a queue that cannot be seen is not empty."""
    submit(store, "run")
    failures = iter([StoreUnavailable("gone")] * 3)

    def claim(*given: Any) -> Claim | None:
        for failure in failures:
            raise failure
        return store.queue.claim(*given)

    await worker_with(Faulty(store, claim=claim)).work(until_empty=True)
    assert script.begun == ["run"]
    assert seen.failures == 3


async def test_a_fault_in_one_slot_ends_all_of_them(
    store: Store, worker_with: MakeWorker, script: Script
) -> None:
    """Nothing is left behind that nobody waits for."""
    submit(store, "run")
    script.acts["run"] = once(asyncio.Event())

    def claim(*given: Any) -> Claim | None:
        if script.begun:
            raise ZeroDivisionError
        return store.queue.claim(*given)

    before = asyncio.all_tasks()
    with pytest.raises(ZeroDivisionError):
        await worker_with(Faulty(store, claim=claim), slots=2).work()
    assert asyncio.all_tasks() == before
    assert store.queue.workers() == []


# -- what becomes of a job ------------------------------------------------------------------------


async def test_a_cancelled_run(store: Store, worker: Worker, script: Script) -> None:
    submit(store, "run")
    script.acts["run"] = ending(status=ExecutionStatus.CANCELLED)
    await worker.work(until_empty=True)
    assert store.queue.job("run").state is JobState.CANCELLED


async def test_a_run_that_failed_through_our_fault_costs_nothing(
    store: Store, worker: Worker, script: Script
) -> None:
    submit(store, "run")
    script.acts["run"] = ending(status=ExecutionStatus.FAILED)
    await worker.work(until_empty=True)
    assert store.queue.job("run").state is JobState.FAILED
    assert entry(store).refund_reason is RefundReason.INFRASTRUCTURE_FAILED
    assert store.ledger.result("run"), "what there is of it is kept all the same"


@pytest.mark.parametrize(
    "error",
    [
        BuildFailed("no such wheel \x1b[31m", remedy="name another"),
        InvalidSubmission("no such file \x1b[31m", remedy="name another"),
        SpendingLimitReached("the budget \x1b[31m is spent", remedy="raise it"),
    ],
)
async def test_what_the_submission_is_to_blame_for_or_has_spent_counts(
    store: Store, worker: Worker, script: Script, error: Exception
) -> None:
    submit(store, "run")
    script.acts["run"] = raising(error)
    await worker.work(until_empty=True)
    job = store.queue.job("run")
    assert job.state is JobState.FINISHED
    assert job.note == str(error).replace("\x1b", "\\x1b")
    assert entry(store).state is QuotaState.COMMITTED
    assert store.ledger.result("run") is None


@pytest.mark.parametrize(
    ("error", "note"),
    [
        (UsageError("no such task"), "no such task"),
        (InvalidSuite("it is \x1b malformed", remedy="mend it"), "it is \\x1b malformed (mend it)"),
        (EngineFailed("the engine broke"), "the engine broke"),
        (ZeroDivisionError("by\nzero"), "ZeroDivisionError: by\\nzero"),
    ],
)
async def test_what_we_are_to_blame_for_costs_nothing(
    store: Store, worker: Worker, script: Script, error: Exception, note: str
) -> None:
    submit(store, "run", "next")
    script.acts["run"] = raising(error)
    await worker.work(until_empty=True)
    job = store.queue.job("run")
    assert (job.state, job.note) == (JobState.FAILED, note)
    assert entry(store).state is QuotaState.REFUNDED
    assert entry(store).refund_reason is RefundReason.INFRASTRUCTURE_FAILED
    assert script.begun == ["run", "next"]


async def test_what_is_postponed_waits(
    store: Store, worker: Worker, script: Script, seen: Seen
) -> None:
    submit(store, "run", "next")
    script.acts["run"] = raising(Postponed("the breaker is open", until=LATER))
    await worker.work(until_empty=True)
    job = store.queue.job("run")
    assert (job.state, job.not_before) == (JobState.QUEUED, LATER)
    assert job.note == "the breaker is open"
    assert entry(store).state is QuotaState.RESERVED
    assert script.begun == ["run", "next"], "and is not looked at again before it is due"
    assert seen.released == ["run", "next"]


async def test_what_is_postponed_until_now_is_gone_on_with(
    store: Store, worker: Worker, script: Script
) -> None:
    submit(store, "run")
    errors = iter([Postponed("not yet", until=datetime.now(UTC))] * 2)

    async def act(claim: Claim, _holding: Holding, _stop: StopSignal) -> Result:
        for error in errors:
            raise error
        return completed(claim.job.run_id)

    script.acts["run"] = act
    await worker.work(until_empty=True)
    job = store.queue.job("run")
    assert (job.state, job.claims, job.losses) == (JobState.FINISHED, 3, 0)
    assert [claim.lease.token for claim in script.claims] == [1, 2, 3]


@pytest.mark.parametrize("answer", ["postponed", "broken", "result"])
async def test_a_job_that_is_to_be_cancelled_is(
    store: Store, worker_with: MakeWorker, script: Script, answer: str
) -> None:
    """However its execution ends: it is not put back, and it has not failed."""
    submit(store, "run")
    cancelled = ending(status=ExecutionStatus.CANCELLED)
    postponed = raising(Postponed("stopped", until=LATER))
    then = {"postponed": postponed, "broken": raising(EngineFailed("x")), "result": cancelled}
    script.acts["run"] = until(Stop.NOW, then[answer])
    working = asyncio.create_task(worker_with(lease_seconds=0.03).work(until_empty=True))
    await script.next()
    store.queue.cancel("run", NOW)
    await working
    assert store.queue.job("run").state is JobState.CANCELLED
    assert script.begun == ["run"]


# -- a lease that is lost, a store that is away ---------------------------------------------------


@pytest.mark.parametrize("answer", ["lease lost", "broken", "result"])
async def test_whoever_has_lost_the_lease_writes_nothing(
    store: Store, worker_with: MakeWorker, script: Script, seen: Seen, answer: str
) -> None:
    submit(store, "run")
    then = {
        "lease lost": raising(LeaseLost("x")),
        "broken": raising(EngineFailed("x")),
        "result": ending(),
    }
    script.acts["run"] = until(Stop.NOW, then[answer])
    working = asyncio.create_task(worker_with(lease_seconds=0.5).work(until_empty=True))
    await script.next()
    taken = None
    while taken is None:  # it may just have beaten
        [lease] = store.queue.leases()
        taken = store.queue.take_over(lease, BOB, "bob's", NOW)
    await working
    job = store.queue.job("run")
    assert (job.state, job.worker, job.losses) == (JobState.RUNNING, BOB.worker, 1)
    assert store.ledger.result("run") is None
    assert seen.released == ["run"]


async def test_a_lease_lost_at_the_very_end(store: Store, worker: Worker, script: Script) -> None:
    submit(store, "run")

    async def act(claim: Claim, _holding: Holding, _stop: StopSignal) -> Result:
        assert store.queue.take_over(claim.lease, BOB, "bob's", NOW)
        return completed("run")

    script.acts["run"] = act
    await worker.work(until_empty=True)
    assert store.queue.job("run").worker == BOB.worker
    assert store.ledger.result("run") is None


@pytest.mark.parametrize("where", ["execute", "finish"])
async def test_a_store_that_is_away_during_a_job(
    store: Store, worker_with: MakeWorker, script: Script, seen: Seen, where: str
) -> None:
    """The worker lets go without a word; when the lease has stood still, it goes on with the job,
    as any other would.
    """
    submit(store, "run")
    failures = iter([StoreUnavailable("gone")])

    async def act(claim: Claim, _holding: Holding, _stop: StopSignal) -> Result:
        for failure in failures if where == "execute" else ():
            raise failure
        return completed(claim.job.run_id)

    def finish(*given: Any) -> None:
        for failure in failures if where == "finish" else ():
            raise failure
        store.queue.finish(*given)

    script.acts["run"] = act
    worker = worker_with(Faulty(store, finish=finish), lease_seconds=0.3)
    working = asyncio.create_task(worker.work())
    assert [await script.next(), await script.next()] == ["run", "run"]
    worker.stop()
    await working
    job = store.queue.job("run")
    assert (job.state, job.losses) == (JobState.FINISHED, 1)
    assert (seen.failures, seen.takeovers) == (1, 1)


# -- work of others -------------------------------------------------------------------------------


def left_behind(store: Store, worker: str, host: str) -> Claim:
    """A job that is being worked on by somebody."""
    submit(store, "run")
    claim = store.queue.claim(WorkerIdentity(worker=worker, host=host), "its", NOW)
    assert claim
    return claim


async def test_work_of_a_dead_worker_of_this_host_is_gone_on_with_at_once(
    store: Store, worker: Worker, script: Script, seen: Seen
) -> None:
    left_behind(store, "dead", worker.presence.identity.host)
    submit(store, "next")
    await worker.work(until_empty=True)
    assert script.begun == ["run", "next"], "what was begun comes first"
    job = store.queue.job("run")
    assert (job.state, job.losses, job.claims) == (JobState.FINISHED, 1, 2)
    assert seen.takeovers == 1
    claims = [e.event for e in store.ledger.events("run") if e.event.kind is EventKind.CLAIMED]
    assert [event.data["worker"] for event in claims] == ["dead", worker.presence.worker]


@pytest.mark.parametrize("here", [True, False])
async def test_work_of_a_living_worker_is_left_to_it(
    store: Store, worker: Worker, script: Script, tmp_path: Path, here: bool
) -> None:
    with Presence(tmp_path / "workers") as other:
        host = other.identity.host if here else "far"
        claim = left_behind(store, other.worker, host)
        await worker.work(until_empty=True)
        assert script.begun == []
        assert store.queue.leases() == [claim.lease]


async def test_work_of_a_silent_worker_elsewhere_is_gone_on_with(
    store: Store, worker_with: MakeWorker, script: Script
) -> None:
    left_behind(store, "silent", "far")
    worker = worker_with(lease_seconds=0.05)
    working = asyncio.create_task(worker.work())
    assert await script.next() == "run"
    worker.stop()
    await working
    assert store.queue.job("run").losses == 1


async def test_of_two_that_see_a_dead_worker_one_goes_on(
    store: Store, worker_with: MakeWorker, script: Script, seen: Seen
) -> None:
    left_behind(store, "dead", worker_with().presence.identity.host)
    workers = [worker_with(), worker_with(), worker_with()]
    await asyncio.gather(*(worker.work(until_empty=True) for worker in workers))
    assert script.begun == ["run"]
    assert seen.takeovers == 1


@pytest.mark.parametrize(("losses", "begun"), [(2, ["run"]), (3, [])])
async def test_a_job_that_kills_its_workers_is_given_up(
    store: Store, worker_with: MakeWorker, script: Script, losses: int, begun: list[str]
) -> None:
    worker = worker_with(max_losses=2)
    host = worker.presence.identity.host
    claim = left_behind(store, "dead", host)
    for number in range(losses - 1):
        victim = WorkerIdentity(worker=f"victim-{number}", host=host)
        taken = store.queue.take_over(claim.lease, victim, f"c{number}", NOW)
        assert taken
        claim = taken
    await worker.work(until_empty=True)
    assert script.begun == begun
    job = store.queue.job("run")
    assert job.state is (JobState.FINISHED if begun else JobState.FAILED)
    if not begun:
        assert job.note == "given up: 3 workers were lost while they worked on it"
        assert entry(store).refund_reason is RefundReason.INFRASTRUCTURE_FAILED


# -- stopping -------------------------------------------------------------------------------------


async def test_draining_lets_what_runs_end_and_begins_nothing(
    store: Store, worker: Worker, script: Script
) -> None:
    submit(store, "run", "next")
    go = asyncio.Event()
    script.acts["run"] = until(Stop.DRAIN, once(go))
    working = asyncio.create_task(worker.work())
    await script.next()
    assert worker.stop() is Stop.DRAIN
    go.set()
    await working
    assert script.begun == ["run"]
    assert store.queue.job("run").state is JobState.FINISHED
    assert store.queue.job("next").state is JobState.QUEUED


async def test_stopping_now_puts_what_runs_back(
    store: Store, worker_with: MakeWorker, script: Script
) -> None:
    submit(store, "a", "b")
    for run_id in "ab":
        script.acts[run_id] = until(Stop.NOW, raising(Postponed("stopped", until=NOW)))
    worker = worker_with(slots=2)
    working = asyncio.create_task(worker.work())
    await script.next()
    await script.next()
    assert [worker.stop(), worker.stop(), worker.stop()] == [Stop.DRAIN, Stop.NOW, Stop.NOW]
    await working
    assert store.queue.counts()[JobState.QUEUED] == 2
    assert sorted(script.begun) == ["a", "b"]


async def test_a_job_claimed_while_a_stop_is_asked_for_is_told_at_once(
    store: Store, worker_with: MakeWorker, script: Script
) -> None:
    submit(store, "run")
    script.acts["run"] = until(Stop.NOW, raising(Postponed("stopped", until=NOW)))
    loop = asyncio.get_running_loop()

    def claim(*given: Any) -> Claim | None:
        found = store.queue.claim(*given)
        if found:
            asyncio.run_coroutine_threadsafe(stop_now(), loop).result()
        return found

    async def stop_now() -> None:
        worker.stop()
        worker.stop()

    worker = worker_with(Faulty(store, claim=claim))
    await worker.work()
    assert store.queue.job("run").state is JobState.QUEUED


async def test_one_that_was_stopped_before_it_began(
    store: Store, worker: Worker, script: Script
) -> None:
    submit(store, "run")
    worker.stop()
    await worker.work()
    assert script.begun == []


async def test_one_whose_task_is_cancelled_leaves_its_lease(
    store: Store, worker: Worker, script: Script
) -> None:
    """As a crash does: whoever comes next takes it over."""
    submit(store, "run")
    script.acts["run"] = once(asyncio.Event())
    before = asyncio.all_tasks()
    working = asyncio.create_task(worker.work())
    await script.next()
    working.cancel()
    with suppress(asyncio.CancelledError):
        await working
    assert asyncio.all_tasks() == before
    assert [lease.run_id for lease in store.queue.leases()] == ["run"]
    assert store.queue.workers() == []


# -- what others see of it ------------------------------------------------------------------------


async def test_it_reports_what_it_does(
    store: Store, worker_with: MakeWorker, script: Script, presence: Presence
) -> None:
    submit(store, "run")
    reports: list[WorkerStatus] = []
    both = threading.Event()

    def report(status: WorkerStatus) -> None:
        store.queue.report(status)
        reports.append(status)
        if status.running and status.draining:
            both.set()

    go = asyncio.Event()
    script.acts["run"] = once(go)
    worker = worker_with(Faulty(store, report=report), slots=2, lease_seconds=0.03)
    working = asyncio.create_task(worker.work())
    await script.next()
    worker.stop()
    await asyncio.to_thread(both.wait)
    [status] = store.queue.workers()
    assert (status.worker, status.host) == (presence.worker, presence.identity.host)
    assert (status.slots, status.running, status.draining) == (2, ("run",), True)
    go.set()
    await working
    assert (reports[-1].slots, reports[-1].running) == (0, ())
    assert store.queue.workers() == []


async def test_its_last_report_is_the_last_one(store: Store, worker_with: MakeWorker) -> None:
    """One that was still under way would bring the ended worker back for good."""
    another = threading.Event()
    done: list[int] = []

    def report(status: WorkerStatus) -> None:
        if status.slots:
            another.wait(0.3)
        else:
            another.set()
        store.queue.report(status)
        done.append(status.slots)

    await worker_with(Faulty(store, report=report)).work(until_empty=True)
    assert done == [1, 0]
    assert store.queue.workers() == []


async def test_nobody_to_report_to(store: Store, worker_with: MakeWorker, script: Script) -> None:
    def report(_: WorkerStatus) -> None:
        raise StoreUnavailable("gone")

    submit(store, "run")
    await worker_with(Faulty(store, report=report)).work(until_empty=True)
    assert script.begun == ["run"]
