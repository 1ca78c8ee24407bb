"""Work that is for an agent, and ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from runner.gateway.cycle import Receive


@asynccontextmanager
async def while_there(receive: Receive) -> AsyncIterator[None]:
    """Cancels its block once the agent has closed the connection, and raises ConnectionError.

    The request's body has been read. An error that the block ends with is raised all the same.
    """
    try:
        async with asyncio.timeout(None) as presence:
            watching = asyncio.create_task(_watch(receive, presence))
            try:
                yield
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
    except TimeoutError:
        if not presence.expired():
            raise
        raise ConnectionError("the agent has closed the connection") from None


async def _watch(receive: Receive, presence: asyncio.Timeout) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    presence.reschedule(asyncio.get_running_loop().time())
