"""Stopping in two steps: drain what runs, or cancel it."""

from __future__ import annotations

import asyncio
from enum import IntEnum
from typing import Any


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
        self._running: dict[asyncio.Task[Any], Stop] = {}

    @property
    def level(self) -> Stop:
        """What has been asked for so far."""
        return self._level

    def ask(self) -> Stop:
        """One step further: first drain, then now. Call it in the event loop's thread."""
        self._level = Stop(min(self._level + 1, Stop.NOW))
        for task, level in list(self._running.items()):
            if self._level >= level:
                task.cancel()
        return self._level

    def watch(self, task: asyncio.Task[Any], level: Stop = Stop.NOW) -> None:
        """Cancels `task` when `level` is asked for, or has been."""
        self._running[task] = level
        task.add_done_callback(lambda done: self._running.pop(done, None))
        if self._level >= level:
            task.cancel()
