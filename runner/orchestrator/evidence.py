"""Evidence of a leased run: on disk first, then in the database, under the lease."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from runner.domain import (
    BenchmarkExecution,
    NumberedEvent,
    Reply,
    RunEvent,
    RunPlan,
    TaskExecution,
)
from runner.errors import LeaseLost, RunnerError, StoreUnavailable
from runner.orchestrator.leases import Holding
from runner.ports import RunLedger
from runner.records import RunDirectory, unknown_attempts

_log = logging.getLogger(__name__)

FLUSH_SECONDS = 0.25


class LeasedEvidence:
    """Implements ports.Evidence: what the directory has and the database lost is adopted again."""

    def __init__(self, directory: RunDirectory, ledger: RunLedger, holding: Holding) -> None:
        self._directory = directory
        self._ledger = ledger
        self._holding = holding
        self._events: list[NumberedEvent] = []
        self._told = 0
        self._telling = threading.Lock()

    @property
    def path(self) -> Path:
        """The run's directory."""
        return self._directory.path

    def begin(self, plan: RunPlan) -> Path:
        """See ports.Evidence."""
        return self._directory.begin(plan)

    def heal(self) -> None:
        """Enters into the database what a crash kept out of it. Blocks."""
        run_id, lease = self._holding.lease.run_id, self._holding.lease
        known = self._ledger.kept(run_id)
        for found in unknown_attempts(self._directory.path, known):
            which = (found.task_id, found.repeat, found.attempt)
            if found.execution:
                self._ledger.adopt_attempt(lease, found.execution, found.path)
                _log.warning("attempt %s of run %s was not in the database", which, run_id)

    def begin_attempt(self, task_id: str, repeat: int) -> int:
        """See ports.Evidence."""
        return self._ledger.begin_attempt(self._holding.lease, task_id, repeat, datetime.now(UTC))

    def staging(self) -> Path:
        """See ports.Evidence."""
        return self._directory.staging()

    def keep(self, execution: TaskExecution, reply: Reply | None, staging: Path) -> Path:
        """See ports.Evidence."""
        path = self._directory.keep(execution, reply, staging)
        self._ledger.keep_attempt(self._holding.lease, execution, path)
        return path

    def judged(self) -> frozenset[tuple[str, int]]:
        """See ports.Evidence."""
        return self._ledger.judged(self._holding.lease.run_id)

    def finals(self) -> list[TaskExecution]:
        """See ports.Evidence."""
        return list(self._ledger.finals(self._holding.lease.run_id))

    def event(self, event: RunEvent) -> None:
        """See ports.Evidence; the database has it a moment later."""
        self._directory.event(event)
        self._told += 1
        self._events.append(NumberedEvent(number=self._told, event=event))

    def finish(self, execution: BenchmarkExecution) -> None:
        """See ports.Evidence; the queue's own `finish` makes it the result."""
        self._holding.check()
        self._directory.finish(execution)

    @asynccontextmanager
    async def told(self) -> AsyncIterator[None]:
        """Within it events go to the database; at its end all that were told have gone."""
        telling = asyncio.create_task(self._tell_always())
        try:
            yield
        finally:
            telling.cancel()
            with suppress(asyncio.CancelledError):
                await telling
            with suppress(RunnerError):
                await asyncio.to_thread(self._tell)

    async def _tell_always(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            try:
                await asyncio.to_thread(self._tell)
            except StoreUnavailable as error:
                _log.warning("events of run %s wait: %s", self._holding.lease.run_id, error)
            except LeaseLost:
                return

    def _tell(self) -> None:
        with self._telling:  # one at a time: a thread outlives the task that awaited it
            telling = self._events[:]
            if telling:
                self._ledger.append_events(self._holding.lease, telling)
                del self._events[: len(telling)]
