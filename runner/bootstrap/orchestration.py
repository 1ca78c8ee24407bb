"""Worker processes: for the command line, and as the public `BenchmarkOrchestrator`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from runner.bootstrap.gateway import check_gateway
from runner.bootstrap.indexing import index_runs
from runner.bootstrap.jobs import Jobs
from runner.bootstrap.policies import breaker_policy
from runner.bootstrap.queueing import queue_status
from runner.bootstrap.running import signals
from runner.bootstrap.storing import sealer_of, store_of
from runner.bootstrap.submission_handler import SubmissionHandler
from runner.bootstrap.task_executor import TaskExecutor
from runner.bootstrap.telemetry import served_metrics
from runner.config import Settings, state_directory
from runner.domain import ExecutionProgress, QueueStatus, RunEvent
from runner.domain.progress import ProgressFold
from runner.errors import UsageError
from runner.evaluation.stop import Stop
from runner.orchestrator.breakers import SharedBreakers
from runner.orchestrator.presence import Presence
from runner.orchestrator.worker import Worker, WorkerObserver, WorkerPolicy
from runner.ports import Notify, Say
from runner.store import Store

_log = logging.getLogger(__name__)

Progressed = Callable[[ExecutionProgress], None]
"""Receives how far a run is, after each of its events."""


class BenchmarkOrchestrator:
    """Works the queue off, `num_workers` submissions at once, until it is stopped.

    Several orchestrators and `agenttrace worker` processes may share one queue.
    """

    def __init__(
        self, handler: SubmissionHandler, executor: TaskExecutor, num_workers: int = 3
    ) -> None:
        queue = handler.settings.queue.model_copy(update={"workers": num_workers})
        self._settings = executor.settings.model_copy(
            update={"queue": queue, "storage": handler.settings.storage}
        )
        self._observers = (*executor.observers, self._observe)
        self._callbacks: list[Progressed] = []
        self._folds: dict[str, ProgressFold] = {}
        self._working: _Working | None = None

    def register_progress_callback(self, callback: Progressed) -> None:
        """`callback` gets the progress of each run, in the event loop: it must not block.

        What it raises is logged, and does the run no harm.
        """
        self._callbacks.append(callback)

    async def start(self) -> None:
        """Begins to work; returns at once.

        Raises UsageError when it has been started, StoreUnavailable, StorageFailed.
        """
        if self._working:
            raise UsageError(
                "this orchestrator was started", remedy="stop it first, or make another"
            )
        async with AsyncExitStack() as stack:
            store = stack.enter_context(store_of(self._settings))
            presence = stack.enter_context(Presence(presence_directory(self._settings)))
            observer = _Forgetting(self._folds)
            opened = opened_worker(self._settings, store, presence, self._observers, observer)
            worker = await stack.enter_async_context(opened)
            await asyncio.to_thread(index_runs, self._settings, store)
            task = asyncio.create_task(worker.work())
            self._working = _Working(worker=worker, task=task, held=stack.pop_all())

    def get_queue_status(self) -> QueueStatus:
        """What waits, what runs, who works, and which breakers are open."""
        return queue_status(self._settings)

    async def stop(self, graceful: bool = True) -> None:
        """Begins nothing new; tasks in progress end first if `graceful`. What is not over waits in
        the queue, and whoever works on it next goes on with it. Asked for again without `graceful`,
        while it waits, it stops now.
        """
        working = self._working
        if working is None:
            return
        working.stop(Stop.DRAIN if graceful else Stop.NOW)
        await asyncio.wait({working.task})
        if self._working is working:  # else another `stop` has seen to it
            self._working = None
            await working.held.aclose()
            working.task.result()

    def _observe(self, event: RunEvent) -> None:
        fold = self._folds.setdefault(event.run_id, ProgressFold())
        fold.add(event)
        for callback in self._callbacks:
            try:
                callback(fold.progress)
            except Exception:  # noqa: BLE001 - not our code, and the run is not its affair
                _log.exception("a progress callback failed")


@dataclass(frozen=True, kw_only=True)
class _Working:
    """An orchestrator that has been started."""

    worker: Worker
    task: asyncio.Task[None]
    held: AsyncExitStack
    """What is closed when the worker has ended."""

    def stop(self, level: Stop) -> None:
        """Asks for so much, however often."""
        while self.worker.level < level:
            self.worker.stop()


class _Forgetting(WorkerObserver):
    """Forgets the progress of runs that this process does not work on any more."""

    def __init__(self, folds: dict[str, ProgressFold]) -> None:
        self._folds = folds

    def let_go(self, run_id: str) -> None:
        """See WorkerObserver."""
        self._folds.pop(run_id, None)


def work(
    settings: Settings,
    *,
    until_empty: bool = False,
    metrics_at: tuple[str, int] | None = None,
    say: Say = lambda _: None,
) -> None:
    """Works the queue off in this process; SIGTERM and Ctrl-C drain, a second one stops now.

    `metrics_at` is the address and port of a metrics page.
    """
    asyncio.run(_work(settings, until_empty, metrics_at, say))


async def _work(
    settings: Settings, until_empty: bool, metrics_at: tuple[str, int] | None, say: Say
) -> None:
    async with AsyncExitStack() as stack:
        store = stack.enter_context(store_of(settings))
        presence = stack.enter_context(Presence(presence_directory(settings)))
        observers: list[Notify] = []
        observer = WorkerObserver()
        if metrics_at:
            metered = await stack.enter_async_context(
                served_metrics(settings, store, presence.identity, metrics_at, say)
            )
            observers.append(metered.observe)
            observer = metered
        opened = opened_worker(settings, store, presence, observers, observer)
        worker = await stack.enter_async_context(opened)
        with signals(worker.stop):
            await asyncio.to_thread(index_runs, settings, store)
            await worker.work(until_empty=until_empty)


@asynccontextmanager
async def opened_worker(
    settings: Settings,
    store: Store,
    presence: Presence,
    observers: Sequence[Notify],
    observer: WorkerObserver,
) -> AsyncIterator[Worker]:
    """A worker on the configured engine; it has not begun to work.

    Raises InvalidConfiguration, NotSetUp where agents could not call the models that they may.
    """
    check_gateway(settings.gateway, os.environ)
    async with Jobs(
        settings,
        ledger=store.ledger,
        breakers=SharedBreakers(store.breakers, breaker_policy(settings)),
        sealer=sealer_of(settings),
        observers=observers,
        engine=f"engine of host {presence.identity.host}",
    ) as jobs:
        yield Worker(
            queue=store.queue,
            execute=jobs,
            presence=presence,
            policy=policy_of(settings),
            observer=observer,
        )


def policy_of(settings: Settings) -> WorkerPolicy:
    """How the queue is worked off, as configured."""
    given = settings.queue
    return WorkerPolicy(
        slots=given.workers,
        poll_seconds=given.poll_seconds,
        lease_seconds=given.lease_seconds,
        max_losses=given.max_losses,
    )


def presence_directory(settings: Settings) -> Path:
    """Where the workers of this host note that they live."""
    return state_directory(settings, os.environ) / "workers"


def drain(settings: Settings, say: Callable[[str], None]) -> int:
    """Asks every worker of this host to drain, and waits until they have ended; how many it were.

    Ctrl-C ends the waiting, not the draining.
    """
    presence = Presence(presence_directory(settings))
    asked = presence.living()
    for present in asked:
        say(f"worker {present.worker} is draining")
        with suppress(ProcessLookupError):
            os.kill(present.pid, signal.SIGTERM)
    asyncio.run(_all_gone(presence, [present.worker for present in asked], say))
    return len(asked)


async def _all_gone(presence: Presence, workers: list[str], say: Callable[[str], None]) -> None:
    waiting = set(workers)
    while waiting:
        for worker in [each for each in waiting if presence.gone(each)]:
            say(f"worker {worker} has ended")
            waiting.discard(worker)
        await asyncio.sleep(0.2)
