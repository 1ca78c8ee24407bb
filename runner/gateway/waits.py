"""How long an attempt's calls waited for upstreams in trouble, and for models at all."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Clockwork:
    """Adds up spans of time of which many may run at once: each moment counts once.

    It is `runner.gateway.calls.Waits`, and knows how long model calls were under way besides.
    """

    def __init__(
        self,
        max_wait_seconds: float,
        *,
        excuse_waits: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_wait_seconds = max_wait_seconds
        self._excuse_waits = excuse_waits
        self._clock = clock
        self._counted_until = clock()
        self._waits_open = 0
        self._calls_open = 0
        self._waited = 0.0
        self._model = 0.0

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Within it one call waits for an upstream in trouble."""
        self._count()
        self._waits_open += 1
        try:
            yield
        finally:
            self._count()
            self._waits_open -= 1

    @asynccontextmanager
    async def model_call(self) -> AsyncIterator[None]:
        """Within it one model call is under way."""
        self._count()
        self._calls_open += 1
        try:
            yield
        finally:
            self._count()
            self._calls_open -= 1

    @property
    def waited_seconds(self) -> float:
        """In which at least one call waited, excused or not."""
        self._count()
        return self._waited

    @property
    def excused_seconds(self) -> float:
        """By how much the attempt's deadline is put off so far; it only grows."""
        if not self._excuse_waits:
            return 0.0
        return min(self.waited_seconds, self._max_wait_seconds)

    @property
    def model_seconds(self) -> float:
        """In which at least one model call was under way, excused waits left out."""
        self._count()
        return self._model

    @property
    def seconds_left(self) -> float:
        """How much longer the attempt's calls may wait, all together."""
        return max(0.0, self._max_wait_seconds - self.waited_seconds)

    def _count(self) -> None:
        """Adds the time since it was last called, in which nothing began or ended."""
        now = self._clock()
        passed, self._counted_until = now - self._counted_until, now
        if self._waits_open:
            self._waited += passed
        if self._calls_open and not (self._waits_open and self._excuse_waits):
            self._model += passed
