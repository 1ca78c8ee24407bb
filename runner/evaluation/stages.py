"""How long each step of an attempt takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from runner.domain import Stage


class Stopwatch:
    """Implements ports.StageTimer; durations are monotonic, starts are for the trace alone."""

    def __init__(self) -> None:
        self._stages: list[Stage] = []

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Those that have ended, in the order of their ending."""
        return tuple(self._stages)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """See ports.StageTimer."""
        wall, started = time.time_ns(), time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - started
            self._stages.append(Stage(name=name, start_unix_nanos=wall, seconds=seconds))
