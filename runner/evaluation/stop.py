"""Stopping in two steps: drain what runs, or cancel it."""

from __future__ import annotations

import asyncio
from enum import IntEnum


class Stop(IntEnum):
    """How much is still done."""

    NO = 0
    DRAIN = 1
    """What runs is finished; nothing new is started."""
    NOW = 2
    """What runs is cancelled."""


class StopSignal:
    """Asked for from a signal handler or another task; seen by the executor."""

    def __init__(self) -> None:
        self._level = Stop.NO
        self._running: set[asyncio.Task[object]] = set()

    @property
    def level(self) -> Stop:
        """What has been asked for so far."""
        return self._level

    def ask(self) -> Stop:
        """One step further: first drain, then now. Call it in the event loop's thread."""
        self._level = Stop(min(self._level + 1, Stop.NOW))
        if self._level is Stop.NOW:
            for task in self._running:
                task.cancel()
        return self._level

    def watch(self, task: asyncio.Task[object]) -> None:
        """Cancels `task` when NOW is asked for."""
        self._running.add(task)
        task.add_done_callback(self._running.discard)
