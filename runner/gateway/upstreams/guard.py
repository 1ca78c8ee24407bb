"""The circuit breaker in front of an upstream: calls wait while it is left alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from runner.domain import Permission
from runner.gateway.calls import UpstreamBroken, Waits
from runner.gateway.upstreams.patience import Sleep
from runner.ports import Breakers

PROBE_CHECK_SECONDS = 1.0
"""How often a call that waits for the one let through looks how it went."""


class Verdict:
    """What one call says of its upstream; until it says anything, nothing."""

    def __init__(self) -> None:
        self.well: bool | None = None
        self.reason = ""

    def succeeded(self) -> None:
        """It did its part."""
        self.well = True

    def failed(self, reason: str) -> None:
        """It did not."""
        self.well, self.reason = False, reason


class Guard:
    """One upstream's breaker; `breakers` are the run's own, in memory, and answer at once."""

    def __init__(self, breakers: Breakers | None, name: str, sleep: Sleep = asyncio.sleep) -> None:
        """`breakers` None: every call passes."""
        self._breakers = breakers
        self._name = name
        self._sleep = sleep

    @asynccontextmanager
    async def call(self, waits: Waits) -> AsyncIterator[Verdict]:
        """One call, however often it is sent; raises UpstreamBroken while none may be made."""
        verdict = Verdict()
        if self._breakers is None:
            yield verdict
            return
        await self._enter(self._breakers, waits)
        try:
            yield verdict
        finally:
            _tell(self._breakers, self._name, verdict)

    async def _enter(self, breakers: Breakers, waits: Waits) -> None:
        while not (permission := breakers.allow(self._name)).granted:
            pause = _pause(permission)
            if pause > waits.seconds_left:
                last = permission.reason or "no reason was given"
                raise UpstreamBroken(f"it is left alone after several failures; the last: {last}")
            async with waits.waiting():
                await self._sleep(pause)


def _pause(permission: Permission) -> float:
    if permission.probing:
        return PROBE_CHECK_SECONDS
    until = permission.retry_at or datetime.now(UTC)
    return max(0.05, (until - datetime.now(UTC)).total_seconds())


def _tell(breakers: Breakers, name: str, verdict: Verdict) -> None:
    match verdict.well:
        case True:
            breakers.succeeded(name)
        case False:
            breakers.failed(name, verdict.reason)
        case None:
            breakers.withdrawn(name)
