"""Tasks and whole benchmarks: in order, in parallel, retried where we failed, gone on with."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TypeVar

import tenacity

from runner.domain import (
    EXCHANGES,
    Attempt,
    BenchmarkExecution,
    BenchmarkTask,
    EventKind,
    ExecutionStatus,
    GatewayUse,
    Reply,
    RunEvent,
    RunPlan,
    Score,
    TaskExecution,
)
from runner.domain.mounts import OUTPUT_DIRECTORY
from runner.errors import (
    EngineUnavailable,
    ImageGone,
    InfrastructureError,
    InsufficientResources,
    LeaseLost,
    Postponed,
    SpendingLimitReached,
    StorageFailed,
    StoreUnavailable,
)
from runner.evaluation.context import Context
from runner.evaluation.result import run_result
from runner.evaluation.stop import Stop, StopSignal
from runner.evaluation.usage import NOTHING_USED, CountTokens, usage
from runner.evaluation.verdict import OutputPolicy, Verdict, judge
from runner.ports import (
    AdmissionControl,
    Agent,
    Evidence,
    Gate,
    Gateway,
    GatewayAccess,
    Notify,
    Reuse,
    Scorer,
)

T = TypeVar("T")

NOT_OF_ONE_ATTEMPT = (
    ImageGone,
    InsufficientResources,
    LeaseLost,
    Postponed,
    StorageFailed,
    StoreUnavailable,
)
"""What the next attempt would meet too: it ends the run, which can be gone on with."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """One recorded attempt, and the failure of ours that spoilt it, if one did."""

    execution: TaskExecution
    failure: InfrastructureError | None = None


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """What is tried again: only attempts for whose failure the agent is not to blame."""

    retries: int = 2
    delays_seconds: tuple[float, ...] = (2.0, 4.0)
    """Before the first retry, the second, ...; the last one repeats."""

    def attempts(self) -> tenacity.AsyncRetrying:
        """The loop over attempts; its value is the last one."""
        delays = self.delays_seconds or (0.0,)
        return tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(1 + self.retries),
            wait=tenacity.wait_chain(*map(tenacity.wait_fixed, delays)),
            retry=tenacity.retry_if_result(lambda tried: not tried.execution.has_verdict),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )


@dataclass(frozen=True, kw_only=True)
class Executor:
    """Executes the tasks of one plan; nothing that an agent does makes it raise."""

    plan: RunPlan
    agent: Agent
    scorer: Scorer
    evidence: Evidence
    admission: AdmissionControl
    gate: Gate
    retry: RetryPolicy
    notify: Notify
    stop: StopSignal
    output_policy: OutputPolicy = "truncate"
    judged: frozenset[tuple[str, int]] = frozenset()
    """Task and repeat of what has a verdict from earlier: it is not run again."""
    gateway: Gateway | None = None
    """None: the agent is elsewhere, or is to reach nothing."""
    reuse: Reuse | None = None
    """None: every task is run."""
    count_tokens: CountTokens | None = None
    """Of agents that call no model; None: such tokens are not counted."""

    async def execute_benchmark(self) -> BenchmarkExecution:
        """All tasks of the plan, and the run's own record of them. Raises as `execute_tasks`."""
        return self.finish(await self.execute_tasks())

    async def execute_tasks(self) -> BenchmarkExecution:
        """All tasks of the plan that are not `judged`, `plan.parallelism` at once.

        Tasks that had not begun when a stop was asked for are missing, and the status says so.
        Raises what `execute_task` raises: then, too, the run can be gone on with.
        """
        work = list(self._work())
        waiting = [(t, repeat) for t, repeat in work if (t.task_id, repeat) not in self.judged]
        self._tell_begun(len(work))
        executions: list[TaskExecution] = []
        await self._work_off(waiting, self.plan.parallelism, executions)
        all_of_them = await asyncio.to_thread(self._with_earlier, executions)
        return self.result(all_of_them, expected=len(work))

    def _with_earlier(self, executions: Sequence[TaskExecution]) -> list[TaskExecution]:
        """Also those that an earlier runner of this run has left."""
        if not self.judged:
            return list(executions)
        now = {(each.task_id, each.repeat) for each in executions}
        kept = [e for e in self.evidence.finals() if (e.task_id, e.repeat) in self.judged - now]
        return [*kept, *executions]

    def finish(self, execution: BenchmarkExecution) -> BenchmarkExecution:
        """Writes the run's own record: it is over, unless somebody asks to go on with it."""
        self.evidence.finish(execution)
        self._tell(EventKind.RUN_FINISHED, status=execution.status, score=execution.overall_score)
        return execution

    async def execute_task(self, task: BenchmarkTask, repeat: int = 1) -> TaskExecution:
        """The last attempt at `task`: the first that was not our side's failure.

        Raises EngineUnavailable and `NOT_OF_ONE_ATTEMPT`, which the next task would meet too; any
        other failure of ours ends as `internal_error`.
        """
        if reused := await self._reused(task, repeat):
            return reused
        tries = count(1)

        async def once() -> Tried:
            return await self._try(task, repeat, next(tries))

        tried: Tried = await self.retry.attempts()(once)
        if isinstance(tried.failure, EngineUnavailable):
            raise tried.failure
        self._tell_finished(tried.execution)
        return tried.execution

    # -- a result that is known ------------------------------------------------------------------

    async def _reused(self, task: BenchmarkTask, repeat: int) -> TaskExecution | None:
        """An earlier run's result, kept as this run's own and marked as what it is."""
        limits = task.limits.applied_to(self.plan.limits)
        if self.reuse is None:
            return None
        found = await _to_its_end(self.reuse.find, task, limits, repeat)
        if found is None:
            return None
        number = await _to_its_end(self.evidence.begin_attempt, task.task_id, repeat)
        self._tell(EventKind.TASK_STARTED, task, repeat, number)
        context = Context(self.plan, task, repeat, number, limits, datetime.now(UTC))
        execution = context.reused(found)
        staging = self.evidence.staging()
        try:
            await self._keep(execution, None, staging)
        finally:
            await _to_its_end(shutil.rmtree, staging.parent, True)
        self._tell_finished(execution)
        return execution

    # -- one attempt ----------------------------------------------------------------------------

    async def _try(self, task: BenchmarkTask, repeat: int, of_ours: int) -> Tried:
        """The try number `of_ours` of this runner; earlier ones may have made attempts before."""
        await self.gate.enter()
        try:
            tried = await self._admitted(task, repeat, of_ours)
        except BaseException:
            await self.gate.withdrawn()
            raise
        await self._pass_on(tried)
        return tried

    async def _admitted(self, task: BenchmarkTask, repeat: int, of_ours: int) -> Tried:
        limits = task.limits.applied_to(self.plan.limits)
        async with self.admission.admitted(limits):
            if self.stop.level is not Stop.NO and of_ours == 1:
                raise _Drained
            number = await _to_its_end(self.evidence.begin_attempt, task.task_id, repeat)
            self._tell(EventKind.TASK_STARTED, task, repeat, number)
            staging = self.evidence.staging()
            context = Context(self.plan, task, repeat, number, limits, datetime.now(UTC))
            try:
                tried = await self._try_in(staging, context)
            finally:
                await _to_its_end(shutil.rmtree, staging.parent, True)
        if not tried.execution.has_verdict and of_ours <= self.retry.retries:
            self._tell_retried(context, tried)
        return tried

    async def _try_in(self, staging: Path, context: Context) -> Tried:
        opened = _Opened()
        try:
            made = await self._ask(staging, context, opened)
            verdict = judge(made, self.output_policy, opened.use)
        except NOT_OF_ONE_ATTEMPT:
            raise
        except InfrastructureError as error:
            execution = context.spoilt(error, opened.use)
            await self._keep(execution, None, staging)
            if isinstance(error, SpendingLimitReached):
                raise
            return Tried(execution=execution, failure=error)
        score = self._score(made, verdict, context.task)
        used = usage(made, opened.use, self.count_tokens, context.task.prompt.text)
        execution = context.execution(made, verdict, score, used, opened.use)
        path = await self._keep(execution, made.reply, staging)
        if self.reuse:
            await _to_its_end(self.reuse.remember, context.task, execution, path)
        return Tried(execution=execution)

    async def _ask(self, staging: Path, context: Context, opened: _Opened) -> Attempt:
        """One attempt; what it did through the gateway is in `opened`, also when this raises."""
        prompt, limits = context.task.prompt, context.limits
        async with AsyncExitStack() as stack:
            if self.gateway:
                exchanges = staging.with_name(EXCHANGES)
                opening = self.gateway.open(context.task, context.repeat, limits, exchanges)
                opened.access = await stack.enter_async_context(opening)
            config = self._config(context)
            made = await self.agent.attempt(prompt, config, limits, staging, opened.access)
        if opened.use.spent_out:
            raise SpendingLimitReached(
                "the budget of the run is spent",
                remedy="raise run.max_tokens or run.max_cost_usd",
            )
        return made

    async def _pass_on(self, tried: Tried) -> None:
        """What the gate learns of: whether the party that it guards did its part."""
        if tried.execution.has_verdict:
            await self.gate.succeeded()
        else:
            await self.gate.failed(tried.execution.failure_detail)

    async def _keep(self, execution: TaskExecution, reply: Reply | None, staging: Path) -> Path:
        """Whole even when it is cancelled: nobody clears `staging` away before it is done."""
        return await _to_its_end(self.evidence.keep, execution, reply, staging)

    def _score(self, made: Attempt, verdict: Verdict, task: BenchmarkTask) -> Score | None:
        if verdict.status is not ExecutionStatus.COMPLETED:
            return None
        return self.scorer.score(made.reply.output, task.answer_key)

    def _config(self, context: Context) -> dict[str, object]:
        """What the agent may know besides the prompt."""
        return {
            "seed": self.plan.seed,
            "deadline_seconds": context.limits.time_seconds,
            "tools": list(context.task.prompt.tools),
            "output_directory": OUTPUT_DIRECTORY,
        }

    # -- many of them ---------------------------------------------------------------------------

    def _work(self) -> Iterator[tuple[BenchmarkTask, int]]:
        for repeat in range(1, self.plan.repeats + 1):
            for task in self.plan.tasks:
                yield task, repeat

    async def _work_off(
        self,
        work: Sequence[tuple[BenchmarkTask, int]],
        parallelism: int,
        finished: list[TaskExecution],
    ) -> None:
        """Appends each execution to `finished` as it ends; the first error ends the others.

        Where the run's budget is spent the others go on: what they still ask for is refused too.
        """
        waiting = iter(work)
        spent: list[SpendingLimitReached] = []

        async def worker() -> None:
            for task, repeat in waiting:
                if spent or self.stop.level is not Stop.NO:
                    return
                try:
                    finished.append(await self.execute_task(task, repeat))
                except _Drained:
                    return
                except SpendingLimitReached as error:
                    spent.append(error)

        workers = [asyncio.create_task(worker()) for _ in range(min(parallelism, len(work)))]
        for task in workers:
            self.stop.watch(task)
        try:
            await asyncio.gather(*workers)
        except asyncio.CancelledError:
            if self.stop.level is not Stop.NOW:
                raise
        finally:
            for task in workers:
                task.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        for error in spent:
            raise error

    def _in_order(self, executions: Sequence[TaskExecution]) -> list[TaskExecution]:
        """The plan's order, whichever of those that ran at once ended first."""
        places = {(task.task_id, repeat): n for n, (task, repeat) in enumerate(self._work())}
        return sorted(executions, key=lambda e: places[e.task_id, e.repeat])

    def result(self, ended: Sequence[TaskExecution], expected: int) -> BenchmarkExecution:
        """The run's result; with fewer than `expected` executions it was cancelled."""
        return run_result(self.plan, self._in_order(ended), expected)

    # -- telling --------------------------------------------------------------------------------

    def _tell(
        self,
        kind: EventKind,
        task: BenchmarkTask | None = None,
        repeat: int | None = None,
        number: int | None = None,
        **data: object,
    ) -> None:
        event = RunEvent(
            kind=kind,
            at=datetime.now(UTC),
            run_id=self.plan.run_id,
            task_id=task.task_id if task else None,
            repeat=repeat,
            attempt=number,
            data=data,
        )
        self.evidence.event(event)
        self.notify(event)

    def _tell_begun(self, total: int) -> None:
        if self.judged:
            self._tell(EventKind.RUN_RESUMED, total=total, finished=len(self.judged))
        else:
            self._tell(EventKind.RUN_STARTED, total=total)

    def _tell_retried(self, context: Context, tried: Tried) -> None:
        self._tell(
            EventKind.TASK_RETRIED,
            context.task,
            context.repeat,
            context.number,
            reason=tried.execution.failure_detail,
            failure_reason=tried.execution.failure_reason,
        )

    def _tell_finished(self, execution: TaskExecution) -> None:
        task = next(task for task in self.plan.tasks if task.task_id == execution.task_id)
        self._tell(
            EventKind.TASK_FINISHED,
            task,
            execution.repeat,
            execution.attempt,
            status=execution.status,
            failure_reason=execution.failure_reason,
            score=execution.normalized_score,
            seconds=execution.resource_usage.execution_time_seconds,
        )


@dataclass
class _Opened:
    """The gateway of one attempt, once it is there."""

    access: GatewayAccess | None = None

    @property
    def use(self) -> GatewayUse:
        """What was done through it until now."""
        return self.access.use() if self.access else NOTHING_USED


class _Drained(Exception):
    """A stop was asked for while a task waited for room on the host: it is not begun."""


async def _to_its_end(function: Callable[..., T], *arguments: object) -> T:
    """`function` in a thread; a cancellation, however often it comes, is heard after it."""
    working = asyncio.create_task(asyncio.to_thread(function, *arguments))
    cancelled = False
    while not working.done():
        try:
            await asyncio.wait({working})
        except asyncio.CancelledError:
            cancelled = True
    result = working.result()
    if cancelled:
        raise asyncio.CancelledError
    return result
