"""A user id for each attempt that runs: what the kernel counts by user (inotify, keys, message
queues) is counted over all containers of a host, and no attempt may use up another's share.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.errors import InsufficientResources
from runner.sandbox.locks import storing_in, take_lock

MOST = 1000
"""Attempts at once on one host; far beyond what one host can run."""


class UserPool:
    """The ids from `first` on, each held by a lock of a file, which ends with its process.

    Runners that share `directory` share the ids.
    """

    def __init__(self, directory: Path, first: int) -> None:
        self._directory = directory
        self._first = first

    @contextmanager
    def taken(self) -> Iterator[int]:
        """The lowest free id; raises InsufficientResources, StorageFailed."""
        descriptor, number = self._take()
        try:
            yield self._first + number
        finally:
            os.close(descriptor)

    def _take(self) -> tuple[int, int]:
        with storing_in(self._directory):
            self._directory.mkdir(parents=True, exist_ok=True)
            for number in range(MOST):
                if (descriptor := take_lock(self._path(number))) is not None:
                    return descriptor, number
        raise InsufficientResources(
            f"{MOST} attempts are running on this host", remedy="wait for some to end"
        )

    def _path(self, number: int) -> Path:
        return self._directory / str(self._first + number)
