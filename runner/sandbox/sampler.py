"""Memory looked at again and again, where no kernel keeps its peak (v2 before Linux 5.19)."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from runner.sandbox.cgroup import Cgroup
from runner.sandbox.meter import read_cgroup

PERIOD_SECONDS = 0.02


class Sampler:
    """Remembers the largest figure seen; misses what comes and goes between two looks."""

    def __init__(self, cgroup: Cgroup | None) -> None:
        self._cgroup = cgroup
        self._task: asyncio.Task[None] | None = None
        self.peak_bytes = 0

    def start(self) -> None:
        """Begins to look, where there is something to look at."""
        if self._cgroup:
            self._task = asyncio.create_task(self._watch(self._cgroup))

    async def stop(self) -> None:
        """Ends it."""
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _watch(self, cgroup: Cgroup) -> None:
        while True:
            now = read_cgroup(cgroup.read, cgroup.version).memory_bytes or 0
            self.peak_bytes = max(self.peak_bytes, now)
            await asyncio.sleep(PERIOD_SECONDS)
