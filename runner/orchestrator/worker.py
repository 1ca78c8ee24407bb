"""One worker process: slots that claim jobs, hold their leases, and give back what is not over."""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from runner.domain import (
    BenchmarkExecution,
    Claim,
    ExecutionStatus,
    FailureReason,
    JobOutcome,
    JobState,
    Lease,
    WorkerStatus,
)
from runner.domain.text import one_line
from runner.errors import (
    BuildFailed,
    InvalidSubmission,
    LeaseLost,
    Postponed,
    RunnerError,
    SpendingLimitReached,
    StoreUnavailable,
)
from runner.evaluation.stop import Stop, StopSignal
from runner.orchestrator.leases import BEATS_PER_LEASE, Holding, LeaseWatch
from runner.orchestrator.presence import Presence
from runner.ports import JobQueue
from runner.telemetry import bound

_log = logging.getLogger(__name__)

DRAINING = "draining: tasks in progress end, the rest waits for another worker"


@dataclass(frozen=True, kw_only=True)
class WorkerPolicy:
    """How the queue is worked off."""

    slots: int = 3
    poll_seconds: float = 1.0
    lease_seconds: float = 30.0
    max_losses: int = 5
    """Workers that a job may be lost with before it counts as what kills them."""


class JobExecution(Protocol):
    """Runs a claimed job: as far as it can be run now, or to its end."""

    async def __call__(
        self, claim: Claim, holding: Holding, stop: StopSignal
    ) -> tuple[BenchmarkExecution, Path]:
        """Its result and its evidence; CANCELLED where that was asked for.

        Raises Postponed where it can be gone on with later, LeaseLost, StoreUnavailable; any other
        RunnerError where it cannot be judged.
        """
        ...


class WorkerObserver:
    """Is told of what no event of a run tells; this one does nothing with it."""

    def taken_over(self) -> None:
        """A job of a worker that was lost is gone on with."""

    def let_go(self, run_id: str) -> None:
        """This process does not work on that run any more."""

    def store_failed(self) -> None:
        """The store did not answer."""


@dataclass(eq=False)
class Worker:
    """Works jobs off until it is asked to stop."""

    queue: JobQueue
    execute: JobExecution
    presence: Presence
    policy: WorkerPolicy
    observer: WorkerObserver = field(default_factory=WorkerObserver)
    _running: dict[str, StopSignal] = field(default_factory=dict)
    _level: Stop = Stop.NO
    _stopped: asyncio.Event = field(default_factory=asyncio.Event)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _ended: bool = False
    _started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    _scouting: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self._watch = LeaseWatch(self.presence, self.policy.lease_seconds)

    @property
    def running(self) -> tuple[str, ...]:
        """The runs that are worked on."""
        return tuple(self._running)

    @property
    def level(self) -> Stop:
        """What `stop` has asked for so far."""
        return self._level

    def stop(self) -> Stop:
        """One step further: first drain (tasks in progress end, the rest waits), then now."""
        self._level = Stop(min(self._level + 1, Stop.NOW))
        _log.info("stopping now" if self._level is Stop.NOW else DRAINING)
        for signal in self._running.values():
            while signal.level < self._level:
                signal.ask()
        self._stopped.set()
        self._news.set()
        return self._level

    async def work(self, *, until_empty: bool = False) -> None:
        """Works until `stop`; with `until_empty`, until nothing waits that is due."""
        self._ended = False
        _log.info("worker %s is ready", self.presence.worker)
        reporting = asyncio.create_task(self._report_until_ended())
        slots = [asyncio.create_task(self._slot(until_empty)) for _ in range(self.policy.slots)]
        try:
            await asyncio.gather(*slots)
        finally:
            for slot in slots:  # where one failed through a fault of ours
                slot.cancel()
            await asyncio.wait(slots)
            self._ended = True
            self._news.set()
            await reporting

    # -- finding work ---------------------------------------------------------------------------

    async def _slot(self, until_empty: bool) -> None:
        while self._level is Stop.NO:
            try:
                claim = await self._next()
            except StoreUnavailable as error:
                _log.warning("no work can be looked for: %s", error)
                self.observer.store_failed()
                await self._pause()  # that nothing was found does not mean that nothing waits
                continue
            if claim:
                with bound(run=claim.job.run_id, submission=claim.job.submission.submission_id):
                    await self._work_on(claim)
            elif until_empty:
                return
            else:
                await self._pause()

    async def _next(self) -> Claim | None:
        return await self._abandoned() or await self._claimed()

    async def _abandoned(self) -> Claim | None:
        """A job whose worker is gone, taken over."""
        async with self._scouting:
            leases = await asyncio.to_thread(self.queue.leases)
            for lease in self._watch.abandoned(leases, frozenset(self._running)):
                if claim := await self._taken_over(lease):
                    self._begin(claim)
                    self.observer.taken_over()
                    return claim
        return None

    async def _taken_over(self, lease: Lease) -> Claim | None:
        now, identity = datetime.now(UTC), self.presence.identity
        claim_id = secrets.token_hex(8)
        taking = asyncio.to_thread(self.queue.take_over, lease, identity, claim_id, now)
        claim = await taking
        if claim:
            _log.warning("run %s is taken over from worker %s", lease.run_id, lease.worker)
        return claim

    async def _claimed(self) -> Claim | None:
        identity, claim_id = self.presence.identity, secrets.token_hex(8)
        claim = await asyncio.to_thread(self.queue.claim, identity, claim_id, datetime.now(UTC))
        if claim:
            self._begin(claim)
        return claim

    def _begin(self, claim: Claim) -> None:
        self._running[claim.lease.run_id] = StopSignal()
        self._news.set()

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), self.policy.poll_seconds)

    # -- one job --------------------------------------------------------------------------------

    async def _work_on(self, claim: Claim) -> None:
        run_id = claim.lease.run_id
        stop = self._running[run_id]
        holding = Holding(self.queue, claim.lease, self.policy.lease_seconds, stop)
        while stop.level < self._level:  # asked for between the claim and now
            stop.ask()
        try:
            async with holding.kept():
                await self._settled(claim, holding, stop)
        except LeaseLost:
            _log.warning("run %s is another worker's now", run_id)
        except StoreUnavailable as error:
            _log.error("run %s is left for another worker: %s", run_id, error)
            self.observer.store_failed()
        finally:
            del self._running[run_id]
            self._news.set()
            self.observer.let_go(run_id)

    async def _settled(self, claim: Claim, holding: Holding, stop: StopSignal) -> None:
        """Runs the job and says in the queue what became of it."""
        if claim.job.losses > self.policy.max_losses:
            note = f"given up: {claim.job.losses} workers were lost while they worked on it"
            await self._finish(holding, _failed(note), None, None)
            return
        try:
            execution, evidence = await self.execute(claim, holding, stop)
        except (LeaseLost, StoreUnavailable):
            raise
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the queue is told
            await self._not_judged(claim, holding, error)
            return
        await self._finish(holding, _outcome(execution), execution, evidence)

    async def _not_judged(self, claim: Claim, holding: Holding, error: Exception) -> None:
        note = one_line(str(error), limit=500)
        if holding.lost:
            raise LeaseLost(note) from error
        if holding.cancel_requested:
            await self._finish(holding, JobOutcome(state=JobState.CANCELLED), None, None)
        elif isinstance(error, Postponed):
            await self._postpone(holding, error.until, note)
        elif isinstance(error, InvalidSubmission):
            await self._finish(holding, _refused(error, note), None, None)
        elif isinstance(error, SpendingLimitReached):
            await self._finish(holding, _spent(note), None, None)
        elif isinstance(error, RunnerError):
            await self._finish(holding, _failed(note), None, None)
        else:
            _log.error("run %s failed through a fault of ours", claim.lease.run_id, exc_info=error)
            await self._finish(holding, _failed(f"{type(error).__name__}: {note}"), None, None)

    async def _postpone(self, holding: Holding, until: datetime, note: str) -> None:
        now, holding.ended = datetime.now(UTC), True
        await asyncio.to_thread(self.queue.postpone, holding.lease, until, note, now)

    async def _finish(
        self,
        holding: Holding,
        outcome: JobOutcome,
        execution: BenchmarkExecution | None,
        evidence: Path | None,
    ) -> None:
        now, holding.ended = datetime.now(UTC), True
        finish = self.queue.finish
        await asyncio.to_thread(finish, holding.lease, outcome, execution, evidence, now)
        _log.info("run %s: %s %s", holding.lease.run_id, outcome.state, outcome.note)

    # -- telling others -------------------------------------------------------------------------

    async def _report_until_ended(self) -> None:
        """From time to time, and when anything has changed.

        The last report is that it has ended; none may overtake it, so none is cancelled.
        """
        pause = self.policy.lease_seconds / BEATS_PER_LEASE
        while not self._ended:
            self._news.clear()
            await self._report(self.policy.slots)
            await self._forget_lost()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), pause)
        await self._forget_lost()
        await self._report(slots=0)

    async def _forget_lost(self) -> None:
        """Those of this host that were killed cannot report that they have ended."""
        with suppress(StoreUnavailable):
            for status in await asyncio.to_thread(self.queue.workers):
                if status.host == self.presence.identity.host and self.presence.gone(status.worker):
                    ended = status.model_copy(update={"slots": 0})
                    await asyncio.to_thread(self.queue.report, ended)

    async def _report(self, slots: int) -> None:
        with suppress(StoreUnavailable):
            await asyncio.to_thread(self.queue.report, self._status(slots))

    def _status(self, slots: int) -> WorkerStatus:
        identity = self.presence.identity
        return WorkerStatus(
            worker=identity.worker,
            host=identity.host,
            started_at=self._started_at,
            seen_at=datetime.now(UTC),
            slots=slots,
            running=self.running,
            draining=self._level is not Stop.NO,
        )


def _outcome(execution: BenchmarkExecution) -> JobOutcome:
    if execution.status is ExecutionStatus.CANCELLED:
        return JobOutcome(state=JobState.CANCELLED, note="cancelled while it ran")
    if execution.status is ExecutionStatus.FAILED:
        note = "some tasks have no verdict, through a fault of ours"
        return JobOutcome(
            state=JobState.FAILED, note=note, failure_reason=FailureReason.INTERNAL_ERROR
        )
    return JobOutcome(state=JobState.FINISHED, note=f"score {execution.overall_score:.1f}")


def _failed(note: str) -> JobOutcome:
    return JobOutcome(state=JobState.FAILED, note=note, failure_reason=FailureReason.INTERNAL_ERROR)


def _spent(note: str) -> JobOutcome:
    """Counts against the quota: else the budget could be spent again with each submission."""
    return JobOutcome(state=JobState.FINISHED, note=note, failure_reason="spending_limit_reached")


def _refused(error: InvalidSubmission, note: str) -> JobOutcome:
    reason = error.failure_reason if isinstance(error, BuildFailed) else "invalid_submission"
    return JobOutcome(state=JobState.FINISHED, note=note, failure_reason=reason)
