"""A claimed job becomes a run: begun, or gone on with, under its lease."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from runner.bootstrap.gateway import opened_gateway
from runner.bootstrap.host import Host, journals_of, open_host
from runner.bootstrap.image_use import image_held
from runner.bootstrap.planning import make_plan, plan_again
from runner.bootstrap.request import RunRequest
from runner.bootstrap.running import executor_of, local_breakers
from runner.config import Settings
from runner.domain import (
    BenchmarkExecution,
    BenchmarkSubmission,
    Claim,
    EventKind,
    ExecutionStatus,
    JobOptions,
    RunEvent,
    RunPlan,
)
from runner.domain.text import one_line
from runner.errors import (
    EngineUnavailable,
    InfrastructureError,
    LeaseLost,
    NotSetUp,
    Postponed,
    RunnerError,
    SpendingLimitReached,
    StorageFailed,
    StoreUnavailable,
)
from runner.evaluation.stop import Stop, StopSignal
from runner.intake.sealing import Sealer
from runner.orchestrator.breakers import BreakerGate
from runner.orchestrator.evidence import LeasedEvidence
from runner.orchestrator.leases import Holding
from runner.ports import Breakers, Notify, RunLedger
from runner.records import RunDirectory, layout
from runner.sandbox.reaper import reap
from runner.telemetry import bound
from runner.transport.remote import breaker_name

T = TypeVar("T")

STOPPED = "its worker was stopped"
FIRST_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 300.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A claim, opened."""

    claim: Claim
    submission: BenchmarkSubmission
    """With its credentials."""
    directory: RunDirectory
    evidence: LeasedEvidence
    gate: BreakerGate
    holding: Holding
    stop: StopSignal

    @property
    def run_id(self) -> str:
        return self.claim.job.run_id


class Jobs:
    """Implements orchestrator.worker.JobExecution on this host; a context manager.

    The engine is opened for the first job that needs it, and kept. `engine` is the name of its
    circuit breaker.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        ledger: RunLedger,
        breakers: Breakers,
        sealer: Sealer,
        observers: Sequence[Notify],
        engine: str,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._breakers = breakers
        self._sealer = sealer
        self._observers = observers
        self._engine = engine
        self._opening = asyncio.Lock()
        self._host: Host | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Jobs:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def __call__(
        self, claim: Claim, holding: Holding, stop: StopSignal
    ) -> tuple[BenchmarkExecution, Path]:
        """See JobExecution."""
        with bound(run=claim.job.run_id, submission=claim.job.submission.submission_id):
            job = self._opened(claim, holding, stop)
            async with job.evidence.told():
                with closing(job.directory):
                    return await self._concluded(job), job.directory.path

    def _opened(self, claim: Claim, holding: Holding, stop: StopSignal) -> _Job:
        submission = self._sealer.unseal(claim.job.submission, claim.sealed)
        runs = self._settings.storage.runs_dir.expanduser().absolute()
        directory = RunDirectory(
            runs, claim.job.run_id, trace_messages=self._settings.gateway.trace_messages
        )
        return _Job(
            claim=claim,
            submission=submission,
            directory=directory,
            evidence=LeasedEvidence(directory, self._ledger, holding),
            gate=BreakerGate(self._breakers, self._guarded(submission)),
            holding=holding,
            stop=stop,
        )

    def _guarded(self, submission: BenchmarkSubmission) -> str:
        """The name of the breaker in front of what evaluates this submission.

        An endpoint has one for each submitter: nobody can close another's by asking it badly.
        """
        if submission.agent_endpoint.remote:
            who = one_line(submission.submitted_by) or "nobody"
            return f"{breaker_name(submission.agent_endpoint)} of {who}"
        return self._engine

    async def _concluded(self, job: _Job) -> BenchmarkExecution:
        """The run's result, written; raises Postponed for all that is not over."""
        try:
            await job.gate.check()
            execution = await self._executed(job)
            if execution.status is ExecutionStatus.CANCELLED and not job.holding.cancel_requested:
                raise Postponed(STOPPED, until=datetime.now(UTC))
            await asyncio.to_thread(job.evidence.heal)  # a database may forget what it promised
            await asyncio.to_thread(job.evidence.finish, execution)
        except (LeaseLost, StoreUnavailable):
            raise  # it is another worker's, or nobody can say whose
        except SpendingLimitReached as error:  # waiting would not make it more
            self._tell_failed(job, error)
            raise
        except InfrastructureError as error:
            raise self._postponed(job, error) from error
        except RunnerError as error:
            self._tell_failed(job, error)
            raise
        status, score = execution.status, execution.overall_score
        self._tell(job, EventKind.RUN_FINISHED, status=status, score=score)
        return execution

    async def _executed(self, job: _Job) -> BenchmarkExecution:
        try:
            host = await self._host_for(job)
            plan = await _unless_stopped(self._plan(host, job), job.stop)
        except EngineUnavailable as error:
            await job.gate.failed(str(error))
            raise
        await asyncio.to_thread(job.evidence.heal)
        # Of this run alone: no worker's death, and nobody else's agent, closes a provider to it.
        breakers = local_breakers(self._settings)
        async with opened_gateway(self._settings, plan, job.directory.path, breakers) as gateway:
            executor = executor_of(
                self._settings,
                host,
                plan,
                evidence=job.evidence,
                gate=job.gate,
                gateway=gateway,
                observers=self._observers,
                stop=job.stop,
            )
            with image_held(host, plan):
                return await executor.execute_tasks()

    async def _host_for(self, job: _Job) -> Host | None:
        """Freed of what the job's last worker left, if that one was lost."""
        if job.submission.agent_endpoint.remote:
            return None
        async with self._opening:
            if self._host is None:
                self._host = await self._stack.enter_async_context(open_host(self._settings))
            elif job.claim.job.losses:
                await reap(self._host.client, journals_of(self._settings, self._host.client))
            return self._host

    async def _plan(self, host: Host | None, job: _Job) -> RunPlan:
        """Made, or made again as the run's directory has it, if an earlier worker got so far."""
        check_files(job.submission)
        check_credentials(job.submission, os.environ)
        directory = job.directory
        if (directory.path / layout.LOCK).exists():
            lock = await asyncio.to_thread(directory.take_over)
            return await plan_again(self._settings, host, lock, job.submission, _log.info)
        await asyncio.to_thread(shutil.rmtree, directory.path, True)  # begun, but not so far
        plan = await make_plan(
            self._settings,
            host,
            _request(job.claim.job.options),
            job.submission,
            _log.info,
            run_id=job.run_id,
        )
        await asyncio.to_thread(directory.begin, plan)
        return plan

    def _postponed(self, job: _Job, error: InfrastructureError) -> Postponed:
        """What is not over waits: as long as a breaker says, else longer each time."""
        until = datetime.now(UTC) + pause_after(job.claim.job.claims)
        postponed = error if isinstance(error, Postponed) else Postponed(str(error), until=until)
        reason, until = one_line(postponed.message), postponed.until
        self._tell(job, EventKind.RUN_POSTPONED, reason=reason, until=until.isoformat())
        return postponed

    def _tell_failed(self, job: _Job, error: RunnerError) -> None:
        why = one_line(error.message)
        self._tell(job, EventKind.RUN_FINISHED, status=ExecutionStatus.FAILED, reason=why)

    def _tell(self, job: _Job, kind: EventKind, **data: object) -> None:
        event = RunEvent(kind=kind, at=datetime.now(UTC), run_id=job.run_id, data=data)
        if job.directory.path.is_dir():
            job.evidence.event(event)
        for notify in self._observers:
            notify(event)


def check_files(submission: BenchmarkSubmission) -> None:
    """Whether what was handed in is still there: if not, that is not its submitter's fault.

    Raises StorageFailed.
    """
    source = submission.agent_endpoint.source
    if source and not source.is_dir():
        raise StorageFailed(
            f"the files of this submission are not at {source}",
            remedy="restore them; a worker on another host needs them at the same place",
        )


def check_credentials(submission: BenchmarkSubmission, environ: Mapping[str, str]) -> None:
    """Whether this worker has the secret that is to be sent: a variable of its own environment.

    Raises NotSetUp.
    """
    variable = submission.agent_endpoint.auth_env
    if variable and not submission.agent_endpoint.auth_credentials and not environ.get(variable):
        raise NotSetUp(
            f"{variable}, which the agent's endpoint asks for, is not set for this worker",
            remedy="set it in the worker's environment, and start the worker again",
        )


def pause_after(claims: int) -> timedelta:
    """Longer each time a job was begun, up to five minutes."""
    doublings = min(max(claims - 1, 0), 10)
    return timedelta(seconds=min(FIRST_PAUSE_SECONDS * 2**doublings, LONGEST_PAUSE_SECONDS))


def _request(options: JobOptions) -> RunRequest:
    return RunRequest(
        suite=options.suite,
        tasks=options.tasks,
        limit=options.limit,
        repeats=options.repeats,
        seed=options.seed,
    )


async def _unless_stopped(work: Awaitable[T], stop: StopSignal) -> T:
    """The value of `work`; it is given up when a stop is asked for, and can be done again."""
    working = asyncio.ensure_future(work)
    stop.watch(working, Stop.DRAIN)
    try:
        return await working
    except asyncio.CancelledError:
        if stop.level is Stop.NO:
            raise
        raise Postponed(STOPPED, until=datetime.now(UTC)) from None
