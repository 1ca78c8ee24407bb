"""Circuit breakers that all workers share, and the gate that one puts in front of attempts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from runner.domain import Breaker, BreakerPolicy, BreakerStatus, Permission
from runner.domain.breaker import AS_NEW, allow, failed, retry_at, succeeded, withdrawn
from runner.domain.text import one_line
from runner.errors import Postponed
from runner.ports import Breakers, BreakerStore

T = TypeVar("T")

PROBE_CHECK_SECONDS = 1.0
"""How often an attempt that waits for the one let through looks how it went."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class MemoryBreakerStore:
    """Implements ports.BreakerStore for one process, which needs no database."""

    def __init__(self) -> None:
        self._breakers: dict[str, Breaker] = {}
        self._lock = threading.Lock()

    def update(self, name: str, step: Callable[[Breaker], tuple[Breaker, T]]) -> T:
        """See ports.BreakerStore."""
        with self._lock:
            breaker, told = step(self._breakers.get(name, AS_NEW))
            self._breakers[name] = breaker
            return told

    def all(self) -> dict[str, Breaker]:
        """See ports.BreakerStore."""
        with self._lock:
            known = sorted(self._breakers.items())
        return {name: breaker for name, breaker in known if breaker != AS_NEW}


class SharedBreakers:
    """Implements ports.Breakers; what is known of them is in the store alone."""

    def __init__(
        self,
        store: BreakerStore,
        policy: BreakerPolicy,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._store = store
        self._policy = policy
        self._now = now

    def allow(self, name: str) -> Permission:
        """See ports.Breakers."""
        now = self._now()  # once: a store may take the step again
        return self._store.update(name, lambda breaker: allow(breaker, self._policy, now))

    def look(self, name: str) -> Permission:
        """See ports.Breakers."""
        now = self._now()

        def step(breaker: Breaker) -> tuple[Breaker, Permission]:
            asked, permission = allow(breaker, self._policy, now)
            return breaker if permission.granted else asked, permission

        return self._store.update(name, step)

    def succeeded(self, name: str) -> None:
        """See ports.Breakers."""
        now = self._now()
        self._store.update(name, lambda breaker: (succeeded(breaker, self._policy, now), None))

    def failed(self, name: str, reason: str) -> None:
        """See ports.Breakers."""
        now = self._now()
        self._store.update(name, lambda breaker: (failed(breaker, self._policy, now, reason), None))

    def withdrawn(self, name: str) -> None:
        """See ports.Breakers."""
        self._store.update(name, lambda breaker: (withdrawn(breaker), None))

    def statuses(self) -> tuple[BreakerStatus, ...]:
        """See ports.Breakers."""
        return tuple(
            BreakerStatus(name=name, breaker=breaker, retry_at=retry_at(breaker, self._policy))
            for name, breaker in self._store.all().items()
        )


class BreakerGate:
    """Implements ports.Gate with one breaker.

    The one let through may be killed before it can tell how it went, or withdraw: it counts as lost
    BreakerPolicy.probe_seconds later, which is how long `enter` waits at most for each.
    """

    def __init__(self, breakers: Breakers, name: str) -> None:
        self._breakers = breakers
        self._name = name

    async def check(self) -> None:
        """Before work that leads to attempts; raises Postponed where `enter` would."""
        permission = await asyncio.to_thread(self._breakers.look, self._name)
        if not (permission.granted or permission.probing):
            raise self._postponed(permission)

    async def enter(self) -> None:
        """See ports.Gate."""
        while True:
            permission = await asyncio.to_thread(self._breakers.allow, self._name)
            if permission.granted:
                return
            if not permission.probing:
                raise self._postponed(permission)
            await asyncio.sleep(PROBE_CHECK_SECONDS)

    async def succeeded(self) -> None:
        """See ports.Gate."""
        await asyncio.to_thread(self._breakers.succeeded, self._name)

    async def failed(self, reason: str) -> None:
        """See ports.Gate."""
        await asyncio.to_thread(self._breakers.failed, self._name, reason)

    async def withdrawn(self) -> None:
        """See ports.Gate."""
        await asyncio.to_thread(self._breakers.withdrawn, self._name)

    def _postponed(self, permission: Permission) -> Postponed:
        until = permission.retry_at or _utc_now()
        last = permission.reason or "no reason was given"
        return Postponed(
            f"the circuit breaker of {one_line(self._name)} is open; the last failure: {last}",
            remedy=f"nothing needs to be done: it is tried again at {until:%Y-%m-%d %H:%M:%S %Z}",
            until=until,
        )
