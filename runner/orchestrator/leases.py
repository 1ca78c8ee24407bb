"""Holding a lease, and seeing which ones nobody holds any more."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress

from runner.domain import Lease
from runner.errors import LeaseLost, StoreUnavailable
from runner.evaluation.stop import Stop, StopSignal
from runner.orchestrator.presence import Presence
from runner.ports import JobQueue

_log = logging.getLogger(__name__)

BEATS_PER_LEASE = 3


class Holding:
    """A lease that is renewed while its job is worked on.

    When it is lost, or the job is to be cancelled, `stop` is asked to stop at once.
    """

    def __init__(
        self, queue: JobQueue, lease: Lease, lease_seconds: float, stop: StopSignal
    ) -> None:
        self._queue = queue
        self._lease = lease
        self._pause = lease_seconds / BEATS_PER_LEASE
        self._stop = stop
        self.lost = False
        self.ended = False
        """Its end is being written, or has been: what a beat finds now is no news."""
        self.cancel_requested = False

    @property
    def lease(self) -> Lease:
        """As last renewed."""
        return self._lease

    def check(self) -> None:
        """Renews it now; raises LeaseLost, StoreUnavailable. Blocks."""
        if self.lost:
            raise LeaseLost(f"run {self._lease.run_id} is another worker's now")
        self._lease, cancel = self._queue.renew(self._lease)
        self.cancel_requested = self.cancel_requested or cancel

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Within it the lease is renewed."""
        beating = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            beating.cancel()
            with suppress(asyncio.CancelledError):
                await beating

    async def _beat(self) -> None:
        while not (self.lost or self.cancel_requested):
            await asyncio.sleep(self._pause)
            try:
                await asyncio.to_thread(self.check)
            except LeaseLost:
                if self.ended:
                    return
                self.lost = True
                _log.warning("run %s was taken over by another worker", self._lease.run_id)
            except StoreUnavailable as error:
                _log.warning("the lease of run %s waits: %s", self._lease.run_id, error)
        while self._stop.level is not Stop.NOW:
            self._stop.ask()


class LeaseWatch:
    """Tells leases whose worker is gone, without a clock that anybody can set.

    A worker of this host is gone when its lock is free. Else only the beat is seen: when it has
    stood still for `lease_seconds` of our own monotonic clock, the worker is presumed gone, and its
    token guards against its coming back. So is a lease of our own that no slot works on: the reply
    that would have told us of it was lost.
    """

    def __init__(
        self,
        presence: Presence,
        lease_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._presence = presence
        self._identity = presence.identity
        self._lease_seconds = lease_seconds
        self._monotonic = monotonic
        self._seen: dict[str, tuple[Lease, float]] = {}

    def abandoned(self, leases: Iterable[Lease], mine: frozenset[str]) -> list[Lease]:
        """Those to take over; `mine` are the runs that this process is working on."""
        now = self._monotonic()
        others = {lease.run_id: lease for lease in leases if lease.run_id not in mine}
        self._seen = {
            run_id: self._seen[run_id] if self._unchanged(lease) else (lease, now)
            for run_id, lease in others.items()
        }
        return [lease for lease, since in self._seen.values() if self._gone(lease, now - since)]

    def _unchanged(self, lease: Lease) -> bool:
        return lease.run_id in self._seen and self._seen[lease.run_id][0] == lease

    def _gone(self, lease: Lease, still_seconds: float) -> bool:
        if lease.host == self._identity.host and self._presence.gone(lease.worker):
            return True
        return still_seconds >= self._lease_seconds
