"""A plan becomes a run: recorded, watched, stopped in two steps."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from runner.bootstrap.begun_with import resumed_settings
from runner.bootstrap.gateway import Recordings, check_gateway, opened_gateway, token_count
from runner.bootstrap.host import Host, host_for
from runner.bootstrap.image_use import image_held
from runner.bootstrap.planning import make_plan, plan_again, submission_of
from runner.bootstrap.policies import breaker_policy
from runner.bootstrap.remote import remote_policy_of
from runner.bootstrap.request import RunRequest
from runner.bootstrap.reusing import reuse_for
from runner.config import Settings
from runner.domain import (
    BenchmarkExecution,
    BenchmarkSubmission,
    EventKind,
    ExecutionStatus,
    RunEvent,
    RunPlan,
)
from runner.errors import (
    InfrastructureError,
    Interrupted,
    Postponed,
    SpendingLimitReached,
    UsageError,
)
from runner.evaluation import Executor, RetryPolicy, SandboxedAgent, StopSignal
from runner.evaluation.stop import Stop
from runner.evaluation.unguarded import AlwaysOpen, NoAdmission
from runner.orchestrator.breakers import BreakerGate, MemoryBreakerStore, SharedBreakers
from runner.ports import Agent, Breakers, Evidence, Gate, Gateway, Notify, Say
from runner.records import RunDirectory, find_run, layout
from runner.records.archive import load_result, load_run_submission
from runner.records.run_directory import RunLock
from runner.records.spending import load_spending, totals
from runner.scoring import DefaultScorer
from runner.transport.remote import RemoteAgent, breaker_name, reach

T = TypeVar("T")


def run(
    settings: Settings,
    request: RunRequest,
    observers: Sequence[Notify] = (),
    say: Say = lambda _: None,
) -> tuple[BenchmarkExecution, Path]:
    """Evaluates a submission; Ctrl-C and SIGTERM drain the first time and stop the second.

    The path is the run's directory. Raises RunnerError; Interrupted with what had finished.
    """
    return asyncio.run(_run(settings, request, observers, say))


def resume(
    settings: Settings,
    run_id: str,
    observers: Sequence[Notify] = (),
    say: Say = lambda _: None,
) -> tuple[BenchmarkExecution, Path]:
    """Goes on with a run that was stopped, from the last attempt that has a verdict.

    `run_id` may be a unique prefix. Raises as `run`; UsageError where the run cannot be gone on
    with.
    """
    return asyncio.run(_resume(settings, run_id, observers, say))


async def _run(
    settings: Settings, request: RunRequest, observers: Sequence[Notify], say: Say
) -> tuple[BenchmarkExecution, Path]:
    if request.output:
        storage = settings.storage.model_copy(update={"runs_dir": request.output})
        settings = settings.model_copy(update={"storage": storage})
    submission = submission_of(request)
    if submission.agent_endpoint.remote:
        policy = remote_policy_of(settings, os.environ)
        say(await interruptible(reach(submission.agent_endpoint, policy)))
    else:
        check_gateway(settings.gateway, os.environ)  # before anything is built
    async with host_for(settings, submission) as host:
        plan = await interruptible(make_plan(settings, host, request, submission, say))
        with recorded(settings, plan) as evidence:
            return await executed(settings, host, plan, evidence, observers)


async def _resume(
    settings: Settings, run_id: str, observers: Sequence[Notify], say: Say
) -> tuple[BenchmarkExecution, Path]:
    path = find_run(settings.storage.runs_dir.expanduser(), run_id)
    evidence = RunDirectory(path.parent, path.name, trace_messages=settings.gateway.trace_messages)
    with closing(evidence):
        lock = evidence.resume()
        if over := _over(lock, load_result(path)):
            say(f"run {path.name} is complete: nothing is left to be done")
            return over, path
        settings = resumed_settings(settings, path)
        submission = load_run_submission(path)
        async with host_for(settings, submission) as host:
            plan = await interruptible(plan_again(settings, host, lock, submission, say))
            return await executed(settings, host, plan, evidence, observers)


def _over(lock: RunLock, execution: BenchmarkExecution | None) -> BenchmarkExecution | None:
    """The result of a run that is complete; raises UsageError for one that is the queue's."""
    if execution and execution.status is ExecutionStatus.COMPLETED and execution.judged:
        return execution
    if lock.queued:
        raise UsageError(
            f"run {lock.run_id} belongs to the queue",
            remedy="a worker goes on with it by itself; if it has ended,"
            f" `agenttrace queue retry {lock.run_id}` puts it back",
        )
    if lock.replay_of:
        raise UsageError(
            f"run {lock.run_id} is a replay, and is not gone on with",
            remedy=f"`agenttrace replay {lock.replay_of}` makes another",
        )
    return None


async def executed(
    settings: Settings,
    host: Host | None,
    plan: RunPlan,
    evidence: RunDirectory,
    observers: Sequence[Notify],
    *,
    recordings: Recordings | None = None,
) -> tuple[BenchmarkExecution, Path]:
    """The run of `plan`, with `recordings` in place of models and tools where it is a replay.

    Raises Interrupted with what had finished, where it was stopped.
    """
    stop = StopSignal()
    told = (evidence.event, *observers)
    breakers = local_breakers(settings)
    async with opened_gateway(settings, plan, evidence.path, breakers, recordings) as gateway:
        executor = executor_of(
            settings,
            host,
            plan,
            evidence=evidence,
            gate=local_gate(settings, plan.submission),
            gateway=gateway,
            observers=observers,
            stop=stop,
        )
        with image_held(host, plan), signals(lambda: _on_signal(stop, plan, told)):
            execution = await _or_how_to_go_on(plan, evidence, executor.execute_benchmark())
    if execution.status is ExecutionStatus.CANCELLED:
        again = f"`agenttrace resume {plan.run_id}` goes on"
        if plan.replay_of:
            again = f"`agenttrace replay {plan.replay_of}` makes another replay"
        raise Interrupted(
            f"interrupted after {len(execution.task_executions)} of"
            f" {len(plan.tasks) * plan.repeats} tasks",
            remedy=f"what had finished is in {evidence.path}; {again}",
            execution=execution,
            path=evidence.path,
        )
    return execution, evidence.path


async def _or_how_to_go_on(plan: RunPlan, evidence: RunDirectory, work: Awaitable[T]) -> T:
    """The value of `work`; what ends the run, though not for good, says so."""
    try:
        return await work
    except SpendingLimitReached as error:
        error.message += f", after {_spent(evidence.path)}"
        error.remedy = (
            f"`agenttrace resume {plan.run_id}` goes on with what was not judged yet,"
            " under a higher --max-tokens or --max-cost"
        )
        raise
    except Postponed as error:
        error.remedy = f"`agenttrace resume {plan.run_id}` goes on after {error.until:%H:%M:%S %Z}"
        raise
    except InfrastructureError as error:
        going_on = f"then `agenttrace resume {plan.run_id}` goes on with what was not judged yet"
        error.remedy = f"{error.remedy}; {going_on}" if error.remedy else going_on
        raise


def _spent(run: Path) -> str:
    """What all runners of a run have used so far."""
    sums = totals(load_spending(run / layout.SPENDING))
    return f"{sums.tokens_input + sums.tokens_output:,} tokens and {sums.cost_usd:.4f} USD"


def _on_signal(stop: StopSignal, plan: RunPlan, observers: Sequence[Notify]) -> None:
    if stop.ask() is Stop.DRAIN:
        event = RunEvent(kind=EventKind.RUN_DRAINING, at=datetime.now(UTC), run_id=plan.run_id)
        for notify in observers:
            notify(event)


async def interruptible(work: Awaitable[T]) -> T:
    """The value of `work`; Ctrl-C cancels it, and however often it comes, it cleans up first."""
    task = asyncio.ensure_future(work)
    with signals(lambda: task.cancelling() or task.cancel()):
        try:
            return await task
        except asyncio.CancelledError:
            raise Interrupted("interrupted before the first task") from None


@contextmanager
def signals(handler: Callable[[], object]) -> Iterator[None]:
    """Within it, SIGINT and SIGTERM call `handler` in the event loop; then what they did before."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number, previous in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, previous or signal.SIG_DFL)


@contextmanager
def recorded(settings: Settings, plan: RunPlan) -> Iterator[RunDirectory]:
    """The run directory of `plan`, begun."""
    runs = settings.storage.runs_dir.expanduser()
    evidence = RunDirectory(runs, plan.run_id, trace_messages=settings.gateway.trace_messages)
    evidence.begin(plan)
    with closing(evidence):
        yield evidence


def local_gate(settings: Settings, submission: BenchmarkSubmission) -> Gate:
    """A remote agent that cannot be reached is left alone after a while; our own engine is not."""
    endpoint = submission.agent_endpoint
    if not endpoint.remote:
        return AlwaysOpen()
    return BreakerGate(local_breakers(settings), breaker_name(endpoint))


def local_breakers(settings: Settings) -> Breakers:
    """Those of one run alone."""
    return SharedBreakers(MemoryBreakerStore(), breaker_policy(settings))


def executor_of(
    settings: Settings,
    host: Host | None,
    plan: RunPlan,
    *,
    evidence: Evidence,
    gate: Gate,
    gateway: Gateway | None,
    observers: Sequence[Notify],
    stop: StopSignal,
) -> Executor:
    """What executes the tasks of `plan`: on `host`, or by asking an agent behind a URL."""

    def notify(event: RunEvent) -> None:
        for observer in observers:
            observer(event)

    return Executor(
        plan=plan,
        agent=_agent_of(settings, host, plan),
        scorer=DefaultScorer(),
        evidence=evidence,
        admission=host.admission if host else NoAdmission(),
        gate=gate,
        retry=RetryPolicy(
            retries=settings.run.retries, delays_seconds=settings.run.retry_delays[1:]
        ),
        notify=notify,
        stop=stop,
        output_policy=settings.sandbox.output_policy,
        judged=evidence.judged(),
        gateway=gateway,
        reuse=reuse_for(settings, plan),
        count_tokens=token_count(),
    )


def _agent_of(settings: Settings, host: Host | None, plan: RunPlan) -> Agent:
    if host and plan.image:
        return SandboxedAgent(image=plan.image, sandbox=host.sandbox, transport=host.transport)
    return RemoteAgent(plan.submission.agent_endpoint, remote_policy_of(settings, os.environ))
