"""Bodies of answers that come in pieces: how they are read, closed and recalled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from runner.gateway.calls import Exchange, UpstreamBroken, UpstreamReply


class StreamBody(AsyncGenerator[bytes, None]):
    """A stream that ends its call when it is closed, also where it was never begun."""

    def __init__(self, inner: AsyncGenerator[bytes, None], stack: AsyncExitStack) -> None:
        self._inner = inner
        self._stack = stack

    async def asend(self, value: None) -> bytes:
        """The next piece."""
        return await self._inner.asend(value)

    async def athrow(self, *error: Any) -> bytes:
        """Ends it with that error."""
        return await self._inner.athrow(*error)

    async def aclose(self) -> None:
        """Ends it; may be repeated."""
        try:
            await self._inner.aclose()
        finally:
            await self._stack.aclose()


async def next_piece(pieces: AsyncGenerator[bytes, None], deadline: float) -> bytes | None:
    """None at the end; raises TimeoutError at `deadline`, by the loop's clock."""
    async with asyncio.timeout_at(deadline):
        return await anext(pieces, None)


@asynccontextmanager
async def closing_body(body: AsyncIterator[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    """Closes it on exit, if it can be."""
    try:
        yield body
    finally:
        if isinstance(body, AsyncGenerator):
            await body.aclose()


def reply_in(exchange: Exchange) -> UpstreamReply:
    """As it came when it was recorded, in the same pieces."""

    async def body() -> AsyncIterator[bytes]:
        for chunk in exchange.chunks:
            yield chunk.encode("utf-8", "replace")
        if not exchange.complete:
            raise UpstreamBroken("the answer that was recorded broke off here")

    return UpstreamReply(
        status=exchange.status,
        content_type=exchange.content_type or "application/json",
        body=body(),
    )
