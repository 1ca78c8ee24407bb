"""A worker's metrics, served over HTTP, with the queue looked at from time to time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from runner.bootstrap.queueing import status_of
from runner.config import Settings
from runner.domain import RunEvent, WorkerIdentity
from runner.errors import StoreUnavailable
from runner.orchestrator.worker import WorkerObserver
from runner.ports import Say
from runner.records import runner_version
from runner.store import Store
from runner.telemetry.metrics import Metrics, serve

LOOK_SECONDS = 5.0


class Metered(WorkerObserver):
    """Counts what a worker does."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics

    def observe(self, event: RunEvent) -> None:
        """A `Notify`."""
        self.metrics.observe(event)

    def taken_over(self) -> None:
        """See WorkerObserver."""
        self.metrics.lease_taken_over()

    def let_go(self, run_id: str) -> None:
        """See WorkerObserver."""
        self.metrics.let_go(run_id)

    def store_failed(self) -> None:
        """See WorkerObserver."""
        self.metrics.store_failed()


@asynccontextmanager
async def served_metrics(
    settings: Settings,
    store: Store,
    identity: WorkerIdentity,
    at: tuple[str, int],
    say: Say,
) -> AsyncIterator[Metered]:
    """Metrics at address and port; raises UsageError when that is taken."""
    metrics = Metrics(version=runner_version(), worker=identity)
    address, port = at
    with serve(metrics, address, port) as real_port:
        say(f"metrics: http://{address}:{real_port}/metrics")
        looking = asyncio.create_task(_look_always(settings, store, metrics))
        try:
            yield Metered(metrics)
        finally:
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking


async def _look_always(settings: Settings, store: Store, metrics: Metrics) -> None:
    while True:
        try:
            metrics.queue(await asyncio.to_thread(status_of, settings, store, 0))
        except StoreUnavailable:
            metrics.store_failed()
        await asyncio.sleep(LOOK_SECONDS)
