"""A plan becomes a run: recorded, watched, stopped in two steps."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from runner.bootstrap.host import Host, capacity_of, open_host
from runner.bootstrap.planning import make_plan, submission_of
from runner.bootstrap.request import RunRequest
from runner.config import Settings
from runner.domain import BenchmarkExecution, EventKind, ExecutionStatus, RunEvent, RunPlan
from runner.errors import Interrupted
from runner.evaluation import Admission, Executor, RetryPolicy, StopSignal
from runner.evaluation.stop import Stop
from runner.ports import Notify, Say
from runner.records import RunDirectory
from runner.scoring import DefaultScorer

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


async def _run(
    settings: Settings, request: RunRequest, observers: Sequence[Notify], say: Say
) -> tuple[BenchmarkExecution, Path]:
    if request.output:
        storage = settings.storage.model_copy(update={"runs_dir": request.output})
        settings = settings.model_copy(update={"storage": storage})
    submission = submission_of(request)
    async with open_host(settings) as host:
        plan = await interruptible(make_plan(host, request, submission, say))
        stop = StopSignal()
        with recorded(host, plan) as (evidence, directory):
            executor = executor_of(host, plan, evidence, observers, stop)
            told = (evidence.event, *observers)
            with _signals(lambda: _on_signal(stop, plan, told)):
                execution = await executor.execute_benchmark()
    if execution.status is ExecutionStatus.CANCELLED:
        raise Interrupted(
            f"interrupted after {len(execution.task_executions)} of"
            f" {len(plan.tasks) * plan.repeats} tasks",
            remedy=f"what had finished is in {directory}",
            execution=execution,
            path=directory,
        )
    return execution, directory


def _on_signal(stop: StopSignal, plan: RunPlan, observers: Sequence[Notify]) -> None:
    if stop.ask() is Stop.DRAIN:
        event = RunEvent(kind=EventKind.RUN_DRAINING, at=datetime.now(UTC), run_id=plan.run_id)
        for notify in observers:
            notify(event)


async def interruptible(work: Awaitable[T]) -> T:
    """The value of `work`; Ctrl-C cancels it, and however often it comes, it cleans up first."""
    task = asyncio.ensure_future(work)
    with _signals(lambda: task.cancelling() or task.cancel()):
        try:
            return await task
        except asyncio.CancelledError:
            raise Interrupted("interrupted before the first task") from None


@contextmanager
def _signals(handler: Callable[[], object]) -> Iterator[None]:
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
def recorded(host: Host, plan: RunPlan) -> Iterator[tuple[RunDirectory, Path]]:
    """The run directory of `plan`, begun; and its path."""
    evidence = RunDirectory(host.settings.storage.runs_dir.expanduser(), plan.run_id)
    directory = evidence.begin(plan)
    try:
        yield evidence, directory
    finally:
        evidence.close()


def executor_of(
    host: Host,
    plan: RunPlan,
    evidence: RunDirectory,
    observers: Sequence[Notify],
    stop: StopSignal,
) -> Executor:
    """What executes the tasks of `plan` on this host."""
    run_settings = host.settings.run

    def notify(event: RunEvent) -> None:
        for observer in observers:
            observer(event)

    return Executor(
        plan=plan,
        sandbox=host.sandbox,
        transport=host.transport,
        scorer=DefaultScorer(),
        evidence=evidence,
        admission=Admission(capacity_of(host)),
        retry=RetryPolicy(
            retries=run_settings.retries, delays_seconds=run_settings.retry_delays[1:]
        ),
        notify=notify,
        stop=stop,
        output_policy=host.settings.sandbox.output_policy,
    )
