"""How many attempts at once: as many as the host has memory, CPU and disk for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from runner.domain import MIB, Limits
from runner.errors import InsufficientResources

MEMORY_CHECK_SECONDS = 1.0
"""How often a waiting attempt looks whether other programs gave memory back."""


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


class Admission:
    """Claims of running attempts against a host's capacity."""

    def __init__(self, capacity: HostCapacity) -> None:
        self._capacity = capacity
        self._memory = 0
        self._cpus = 0.0
        self._changed = asyncio.Condition()

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
            self._memory -= limits.memory_bytes
            self._cpus -= limits.cpus
            async with self._changed:  # which may be cancelled: what is given back is back
                self._changed.notify_all()

    async def _claim(self, limits: Limits) -> None:
        while True:
            async with self._changed:
                if self._fits(limits):
                    self._memory += limits.memory_bytes
                    self._cpus += limits.cpus
                    return
                try:
                    await asyncio.wait_for(self._changed.wait(), MEMORY_CHECK_SECONDS)
                except TimeoutError:
                    continue

    def _fits(self, limits: Limits) -> bool:
        if self._memory == 0:
            return True  # one alone always may: `check` has seen that the host is big enough
        enough_cpu = self._cpus + limits.cpus <= self._claimable_cpus + 1e-9
        enough_memory = self._memory + limits.memory_bytes <= self._claimable_memory
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
