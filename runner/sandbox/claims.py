"""How much of a host all its runners have claimed: one file for each, locked as long as it lives.

Whoever wants more holds one lock of all for as long as it takes to add the others' figures up and
to write its own. A killed runner's file is known by its lock, which is free, and removed.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from runner.domain import Limits
from runner.errors import StorageFailed
from runner.sandbox.locks import alone, locked, storing_in, take_lock

SUFFIX = ".claims"
LOCK_RETRY_SECONDS = 0.002
"""The lock of all is held for a fraction of a millisecond."""
PATIENCE_SECONDS = 5.0
"""After which nobody who came later is served before a runner that waits. Not at once: a runner
looks once a second, and room that just came free would stand empty until then."""
HEARD_SECONDS = 5.0
"""A runner that has not asked for longer does not wait any more, or has been stopped."""
_RECORD_BYTES = 200


@dataclass(frozen=True, kw_only=True)
class _Record:
    """What one runner has claimed, and since when it waits for more."""

    memory_bytes: int = 0
    cpus: float = 0.0
    waiting_since: float = 0.0
    """By the monotonic clock, which all processes of a host share; 0: it does not wait."""
    asked_at: float = 0.0
    """When it last asked, by the same clock."""

    def encoded(self) -> bytes:
        """Always as long, so that writing it again needs no room on the disk."""
        waits = f"{self.waiting_since:020.6f} {self.asked_at:020.6f}"
        return f"{self.memory_bytes:020d} {self.cpus:020.9f} {waits}\n".encode()

    def goes_before(self, since: float, now: float) -> bool:
        """Whether it has waited so long that one who waits since `since` must let it go first."""
        waits = 0 < self.waiting_since < since and now - self.asked_at <= HEARD_SECONDS
        return waits and now - self.waiting_since >= PATIENCE_SECONDS


class SharedClaims:
    """Implements ports.HostClaims over all runners that share `directory`; a context manager.

    Of an engine on another host, runners elsewhere may know, too: what they claim is not seen here.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / f"{secrets.token_hex(6)}{SUFFIX}"
        self._taken: list[Limits] = []
        self._descriptor = -1
        self._telling: asyncio.Task[None] | None = None

    def __enter__(self) -> SharedClaims:
        with storing_in(self._directory):
            self._directory.mkdir(parents=True, exist_ok=True)
            # Locked before it has the name that others look for, or one could take it for dead.
            unnamed = self._path.with_suffix(".new")
            self._descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                locked(self._descriptor)
                unnamed.rename(self._path)
            except BaseException:
                os.close(self._descriptor)
                raise
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # then the next one who looks removes it
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = -1

    async def take(self, limits: Limits, since: float, fits: Callable[[int, float], bool]) -> bool:
        """See ports.HostClaims."""
        with storing_in(self._directory):
            async with self._alone():
                return self._take(limits, since, fits)

    def _take(self, limits: Limits, since: float, fits: Callable[[int, float], bool]) -> bool:
        now = monotonic()
        others, own = list(self._others()), _record(self._taken)
        memory_bytes = own.memory_bytes + sum(other.memory_bytes for other in others)
        cpus = own.cpus + sum(other.cpus for other in others)
        first = not any(other.goes_before(since, now) for other in others)
        if first and fits(memory_bytes, cpus):
            self._write(_record([*self._taken, limits]))
            self._taken.append(limits)
            return True
        self._write(_record(self._taken, waiting_since=since, asked_at=now))
        return False

    def give_back(self, limits: Limits) -> None:
        """See ports.HostClaims."""
        self._taken.remove(limits)
        with suppress(OSError):  # others see it with the next claim, or when this process ends
            if (descriptor := take_lock(self._lock)) is None:
                self._telling = asyncio.ensure_future(self._tell())
                return
            try:
                self._write(_record(self._taken))
            finally:
                os.close(descriptor)

    async def _tell(self) -> None:
        with suppress(OSError):
            async with self._alone():
                if self._descriptor >= 0:
                    self._write(_record(self._taken))

    def _others(self) -> Iterator[_Record]:
        for path in self._directory.glob(f"*{SUFFIX}"):
            if path != self._path and (record := _living(path)):
                yield record

    def _write(self, record: _Record) -> None:
        os.pwrite(self._descriptor, record.encoded(), 0)

    @property
    def _lock(self) -> Path:
        return self._directory / "lock"

    def _alone(self) -> AbstractAsyncContextManager[None]:
        return alone(self._lock, LOCK_RETRY_SECONDS)


def _record(taken: Sequence[Limits], *, waiting_since: float = 0, asked_at: float = 0) -> _Record:
    return _Record(
        memory_bytes=sum(limits.memory_bytes for limits in taken),
        cpus=sum(limits.cpus for limits in taken),
        waiting_since=waiting_since,
        asked_at=asked_at,
    )


def _living(path: Path) -> _Record | None:
    """What a living runner has claimed; None for a dead one, whose file is removed."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:  # it has just ended
        return None
    try:
        if locked(descriptor):
            path.unlink(missing_ok=True)
            return None
        return _parsed(os.pread(descriptor, _RECORD_BYTES, 0), path)
    finally:
        os.close(descriptor)


def _parsed(line: bytes, path: Path) -> _Record:
    if not line:  # it has claimed nothing yet
        return _Record()
    try:
        memory_bytes, cpus, waiting_since, asked_at = line.split()
        return _Record(
            memory_bytes=int(memory_bytes),
            cpus=float(cpus),
            waiting_since=float(waiting_since),
            asked_at=float(asked_at),
        )
    except ValueError as error:
        raise StorageFailed(
            f"{path} is damaged, and its runner still lives",
            remedy="stop all runners of this host and remove the file",
        ) from error
