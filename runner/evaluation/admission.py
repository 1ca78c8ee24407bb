"""How many attempts at once: as many as the host has memory, CPU and disk for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from runner.domain import MIB, Limits
from runner.errors import InsufficientResources
from runner.ports import HostClaims

MEMORY_CHECK_SECONDS = 1.0
"""How often a waiting attempt looks whether other runners and programs gave something back."""
CPU_ROUNDING = 1e-6
"""So much too many are none: fractions are written with nine digits, and added up."""


@dataclass(frozen=True, kw_only=True)
class HostCapacity:
    """What the host that runs the containers has, and how much of it may be claimed."""

    cpus: float
    memory_bytes: int
    memory_fraction: float = 0.8
    cpu_overcommit: float = 1.0
    evidence_directory: Path
    min_free_disk_bytes: int = 0
    local: bool = True
    """Whether psutil sees the memory of the host that runs the containers."""


class OwnClaims:
    """Implements ports.HostClaims for a host that no other runner uses."""

    def __init__(self) -> None:
        self._taken: list[Limits] = []

    async def take(
        self,
        limits: Limits,
        since: float,  # noqa: ARG002 -- there is no other runner to let go first
        fits: Callable[[int, float], bool],
    ) -> bool:
        """See ports.HostClaims."""
        taken = self._taken
        granted = fits(sum(one.memory_bytes for one in taken), sum(one.cpus for one in taken))
        if granted:
            taken.append(limits)
        return granted

    def give_back(self, limits: Limits) -> None:
        """See ports.HostClaims."""
        self._taken.remove(limits)


class Admission:
    """Claims of running attempts against a host's capacity: first come, first served.

    `claims` are those of all runners of the host; without, this is taken for the only one.
    """

    def __init__(self, capacity: HostCapacity, claims: HostClaims | None = None) -> None:
        self._capacity = capacity
        self._claims = claims or OwnClaims()
        self._turn = asyncio.Lock()
        self._released = asyncio.Event()

    def check(self, limits: Limits) -> None:
        """Raises InsufficientResources when not even one attempt with `limits` fits."""
        host = self._capacity
        if limits.memory_bytes > self._claimable_memory:
            raise InsufficientResources(
                f"an attempt may use {limits.memory_bytes // MIB} MiB of memory and this host"
                f" gives {self._claimable_memory // MIB} MiB to attempts",
                remedy="lower --memory, or raise run.max_memory_fraction",
            )
        if limits.cpus > self._claimable_cpus:
            raise InsufficientResources(
                f"an attempt may use {limits.cpus:g} CPUs and this host has {host.cpus:g}",
                remedy="lower --cpus",
            )
        self._check_disk()

    @asynccontextmanager
    async def admitted(self, limits: Limits) -> AsyncIterator[None]:
        """Waits until an attempt with `limits` fits beside those that run."""
        self.check(limits)
        await self._claim(limits)
        try:
            yield
        finally:
            self._claims.give_back(limits)
            self._released.set()

    async def _claim(self, limits: Limits) -> None:
        def fits(memory_bytes: int, cpus: float) -> bool:
            return self._fits(limits, memory_bytes, cpus)

        async with self._turn:  # or small ones would be let in past a big one for ever
            since = time.monotonic()
            while True:
                self._released.clear()
                if await self._claims.take(limits, since, fits):
                    return  # nothing is awaited from here on: one that is cancelled has no claim
                with suppress(TimeoutError):
                    async with asyncio.timeout(MEMORY_CHECK_SECONDS):
                        await self._released.wait()

    def _fits(self, limits: Limits, memory_bytes: int, cpus: float) -> bool:
        """Whether an attempt fits beside others that have claimed so much."""
        if memory_bytes == 0:
            return True  # one alone always may: `check` has seen that the host is big enough
        enough_cpu = cpus + limits.cpus <= self._claimable_cpus + CPU_ROUNDING
        enough_memory = memory_bytes + limits.memory_bytes <= self._claimable_memory
        return enough_cpu and enough_memory and self._free_now(limits.memory_bytes)

    def _free_now(self, memory_bytes: int) -> bool:
        return not self._capacity.local or psutil.virtual_memory().available > memory_bytes

    @property
    def _claimable_memory(self) -> int:
        return int(self._capacity.memory_bytes * self._capacity.memory_fraction)

    @property
    def _claimable_cpus(self) -> float:
        return self._capacity.cpus * self._capacity.cpu_overcommit

    def _check_disk(self) -> None:
        host = self._capacity
        free = psutil.disk_usage(str(_existing(host.evidence_directory))).free
        if free < host.min_free_disk_bytes:
            raise InsufficientResources(
                f"{free // MIB} MiB are free on the disk of {host.evidence_directory},"
                f" less than run.min_free_disk_bytes ({host.min_free_disk_bytes // MIB} MiB)",
                remedy="free some space (`agenttrace cleanup`), or use -o on another disk",
            )


def _existing(path: Path) -> Path:
    """The nearest ancestor that exists."""
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
