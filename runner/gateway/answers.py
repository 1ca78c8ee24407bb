"""Sends what a call is answered with, whole or as it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol, runtime_checkable

from runner.gateway.calls import Answer
from runner.gateway.cycle import Send


@runtime_checkable
class Closable(Protocol):
    """A stream that holds something, such as an upstream's connection."""

    async def aclose(self) -> None:
        """Gives it up, also before its end."""
        ...


async def send_answer(answer: Answer, send: Send) -> None:
    """Sends it; a stream is begun before anything else, and left only at its end or closed."""
    if isinstance(answer.body, bytes):
        length = (b"content-length", str(len(answer.body)).encode())
        await send(_start(answer, length))
        await send({"type": "http.response.body", "body": answer.body})
    else:
        await _send_stream(answer, answer.body, send)


async def _send_stream(answer: Answer, body: AsyncIterator[bytes], send: Send) -> None:
    # Its first piece comes first: a generator that was never begun has nothing to settle.
    chunk = await anext(body, None)
    async with _closed_if_left(body):
        await send(_start(answer, (b"cache-control", b"no-cache")))
    while chunk is not None:
        async with _closed_if_left(body):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        chunk = await anext(body, None)
    await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def _closed_if_left(body: AsyncIterator[bytes]) -> AsyncIterator[None]:
    """Closes a stream that is left before its end; one that raised by itself has ended."""
    try:
        yield
    except BaseException:
        if isinstance(body, Closable):
            await body.aclose()
        raise


def _start(answer: Answer, *more: tuple[bytes, bytes]) -> dict[str, Any]:
    headers = {"content-type": answer.content_type, **answer.headers}
    return {
        "type": "http.response.start",
        "status": answer.status,
        "headers": [
            *((name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()),
            *more,
        ],
    }
