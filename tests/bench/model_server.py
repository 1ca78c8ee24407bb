"""A provider of models on this machine that answers at once, and hands out the benchmark's jobs.

Who asks the model `turn` tells how the last job went, and is answered with the next one once it is
time for it: so a client inside a container and one beside it take turns, though nothing but model
calls gets out of a container.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

CHUNKS = 50
"""Of a stream."""
LARGE_BYTES = 16 * 1024**2
"""Of a large answer."""
LONGEST_HEAD = 64 * 1024

_MODEL = re.compile(rb'"model": ?"(?:bench/)?(\w+)"')
_LENGTH = re.compile(rb"(?i)content-length: *(\d+)")


class Side:
    """One of the two clients: it does one job at a time."""

    def __init__(self) -> None:
        self._jobs: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self._results: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def do(self, **job: Any) -> dict[str, Any]:
        """What the client tells of it; see `caller.Caller`."""
        self._jobs.put_nowait(job)
        return await self._results.get()

    def end(self) -> None:
        """No more jobs come."""
        self._jobs.put_nowait({})

    async def next_job(self, result: dict[str, Any] | None) -> Mapping[str, Any]:
        """For the client: None is the result of having begun."""
        if result is not None:
            self._results.put_nowait(result)
        return await self._jobs.get()


@asynccontextmanager
async def model_server(sides: Mapping[str, Side]) -> AsyncIterator[str]:
    """The base URL of a server of the models small, stream, large and turn."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await _request(reader):
                await _answer(request, writer, sides)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has gone, or the benchmark is over
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=LONGEST_HEAD, backlog=1024)
    try:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.close()


async def _request(reader: asyncio.StreamReader) -> bytes | None:
    """Its body; None once no more comes."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    length = _LENGTH.search(head)
    return await reader.readexactly(int(length[1]) if length else 0)


async def _answer(body: bytes, writer: asyncio.StreamWriter, sides: Mapping[str, Side]) -> None:
    model = _MODEL.search(body)
    match model[1] if model else b"":
        case b"turn":
            asked = json.loads(json.loads(body)["messages"][0]["content"])
            job = await sides[asked["side"]].next_job(asked["result"])
            await _whole(writer, json.dumps(job))
        case b"stream":
            await _stream(writer, tells_usage=b"include_usage" in body)
        case b"large":
            await _whole(writer, "x" * LARGE_BYTES)
        case _:
            await _whole(writer, "It is Paris.")


async def _whole(writer: asyncio.StreamWriter, text: str) -> None:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = json.dumps({**_answered("chat.completion"), "choices": [choice], "usage": _USAGE})
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    writer.write(f"{head}\r\n{body}".encode())
    await writer.drain()


async def _stream(writer: asyncio.StreamWriter, *, tells_usage: bool) -> None:
    """Each event goes by itself, and gives the other streams their turn."""
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    event = _answered("chat.completion.chunk")
    for number in range(CHUNKS):
        choice = {"index": 0, "delta": {"content": f"word {number} "}, "finish_reason": None}
        await _event(writer, json.dumps({**event, "choices": [choice]}))
    if tells_usage:
        await _event(writer, json.dumps({**event, "choices": [], "usage": _USAGE}))
    await _event(writer, "[DONE]")
    writer.write(b"0\r\n\r\n")
    await writer.drain()


async def _event(writer: asyncio.StreamWriter, data: str) -> None:
    event = f"data: {data}\n\n".encode()
    writer.write(b"%x\r\n%b\r\n" % (len(event), event))
    await writer.drain()
    await asyncio.sleep(0)


_USAGE = {"prompt_tokens": 30, "completion_tokens": 4, "total_tokens": 34}


def _answered(kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-bench", "object": kind, "created": 1, "model": "bench"}
