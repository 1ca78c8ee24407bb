"""Locks of files: one holder at a time on a host, and free when its process ends, also by SIGKILL.

A lock belongs to an open file, so that two holders within one process exclude each other, too.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from runner.errors import StorageFailed


def locked(descriptor: int) -> bool:
    """Whether the open file is locked by it now; False: another holds it. Never waits."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def take_lock(path: Path) -> int | None:
    """A descriptor that holds the lock of `path`, to be closed; None: another holds it.

    Raises OSError.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if locked(descriptor):
            return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


@asynccontextmanager
async def alone(path: Path, retry_seconds: float) -> AsyncIterator[None]:
    """Holds the lock of `path`, once nobody else does; the event loop goes on meanwhile.

    Raises OSError. Asks again and again instead of waiting in a thread: a thread that got the lock
    for somebody who was cancelled meanwhile would have to give it back.
    """
    while (descriptor := take_lock(path)) is None:  # noqa: ASYNC110 -- processes share no Event
        await asyncio.sleep(retry_seconds)
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def storing_in(directory: Path) -> Iterator[None]:
    """Within it, an OSError is a StorageFailed that names `directory`."""
    try:
        yield
    except OSError as error:
        raise StorageFailed(
            f"cannot write in {directory}: {error.strerror}",
            remedy="free some space, or set storage.state_dir to a directory of yours",
        ) from error
