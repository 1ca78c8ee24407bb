"""Whole cores for one container each, for timing that no neighbour disturbs."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from runner.errors import InsufficientResources


class CpuPool:
    """The cores 0 to `cores` - 1; with none, nothing is pinned."""

    def __init__(self, cores: int) -> None:
        self._total = cores
        self._free = set(range(cores))
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def taken(self, cpus: float) -> AsyncIterator[str]:
        """A cpuset such as `0,1` that nobody else has meanwhile; empty when nothing is pinned."""
        if not self._total:
            yield ""
            return
        wanted = math.ceil(cpus)
        if wanted > self._total:
            raise InsufficientResources(
                f"{wanted} whole cores are asked for and this host has {self._total}",
                remedy="lower limits.cpus, or set sandbox.cpu_mode to quota",
            )
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._free) >= wanted)
            mine = sorted(self._free)[:wanted]
            self._free -= set(mine)
        try:
            yield ",".join(map(str, mine))
        finally:
            self._free |= set(mine)
            async with self._changed:  # which may be cancelled: what is given back is back
                self._changed.notify_all()
