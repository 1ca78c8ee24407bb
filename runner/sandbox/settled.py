"""Waiting for what goes on in the engine even when nobody wants it any more."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def settled(work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """`work` as a task that is done.

    However often the caller is cancelled meanwhile, `work` runs to its end, which must be bounded:
    a create that is still under way when its container is removed would leave one behind. Raises
    CancelledError after it, with the task in `args`, if the caller was cancelled.
    """
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        task.exception()  # seen, so that nobody is warned of it
        raise asyncio.CancelledError(task)
    return task
