"""Whole cores for one container each, for timing that no neighbour disturbs."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from runner.errors import InsufficientResources
from runner.sandbox.locks import alone, storing_in, take_lock

CORE_CHECK_SECONDS = 0.05
"""How often a waiting attempt looks whether another process gave a core back: a look costs
microseconds, and meanwhile the core stands idle."""


class CpuPool:
    """The cores 0 to `cores` - 1, each held by a lock of a file; with none, nothing is pinned.

    Runners that share `directory` share the cores. Of an engine on another host, runners elsewhere
    may know, too: these cores are not kept from them.
    """

    def __init__(self, cores: int, directory: Path) -> None:
        self._total = cores
        self._directory = directory
        self._turn = asyncio.Lock()
        self._released = asyncio.Event()

    @asynccontextmanager
    async def taken(self, cpus: float) -> AsyncIterator[str]:
        """A cpuset such as `0,1` that nobody else has meanwhile; empty when nothing is pinned.

        Raises InsufficientResources, StorageFailed.
        """
        if not self._total:
            yield ""
            return
        wanted = math.ceil(cpus)
        if wanted > self._total:
            raise InsufficientResources(
                f"{wanted} whole cores are asked for and this host has {self._total}",
                remedy="lower limits.cpus, or set sandbox.cpu_mode to quota",
            )
        held = await self._take(wanted)
        try:
            yield ",".join(map(str, sorted(held)))
        finally:
            _unlock(held)
            self._released.set()

    async def _take(self, wanted: int) -> dict[int, int]:
        """Descriptors of the locks of that many cores.

        One attempt of the whole host at a time collects cores, and keeps those it has found: two
        that collect would each keep what the other lacks, and one that let go would starve.
        """
        with storing_in(self._directory):
            self._directory.mkdir(parents=True, exist_ok=True)
            async with self._turn, alone(self._directory / "turn", CORE_CHECK_SECONDS):
                return await self._collected(wanted)

    async def _collected(self, wanted: int) -> dict[int, int]:
        held: dict[int, int] = {}
        try:
            while True:
                self._released.clear()
                self._collect(held, wanted)
                if len(held) == wanted:
                    return held
                with suppress(TimeoutError):
                    async with asyncio.timeout(CORE_CHECK_SECONDS):
                        await self._released.wait()
        except BaseException:
            _unlock(held)
            raise

    def _collect(self, held: dict[int, int], wanted: int) -> None:
        """Adds free cores to `held`, the lowest first, until there are as many as wanted."""
        for core in range(self._total):
            if len(held) == wanted:
                return
            descriptor = None if core in held else take_lock(self._directory / str(core))
            if descriptor is not None:
                held[core] = descriptor


def _unlock(held: dict[int, int]) -> None:
    for descriptor in held.values():
        os.close(descriptor)
