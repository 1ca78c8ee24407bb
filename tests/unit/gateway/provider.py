"""A provider on the loopback that plays what a test tells it, and notes what it was sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

ABORT = b"<abort>"
"""In place of a chunk: the connection is reset."""
HANG = b"<hang>"
"""In place of a chunk: nothing more comes until the client goes away."""


@dataclass
class Play:
    """One answer: a status line's code, headers, and chunks, sent one by one."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    chunks: Sequence[bytes] = (b"{}",)
    chunked: bool = True
    raw: bytes | None = None
    """In place of all of it."""


@dataclass
class Got:
    """One request."""

    path: str
    headers: dict[str, str]
    body: dict[str, object]
    connection: int


class Provider:
    """Plays its answers in turn; the last one again and again."""

    def __init__(self, plays: Sequence[Play]) -> None:
        self.plays = list(plays)
        self.got: list[Got] = []
        self.came = asyncio.Event()
        """A request."""
        self.gone = asyncio.Event()
        """A client went away while it was kept waiting."""
        self.port = 0
        self._connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        connection = self._connections
        try:
            while await self._one(reader, writer, connection):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _one(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.got.append(Got(lines[0].split(" ")[1], headers, json.loads(body), connection))
        self.came.set()
        play = self.plays.pop(0) if len(self.plays) > 1 else self.plays[0]
        if play.raw is not None:
            writer.write(play.raw)
            await writer.drain()
            return False
        named = [f"{name}: {value}" for name, value in play.headers.items()]
        if play.chunked:
            named.append("transfer-encoding: chunked")
        else:
            named.append(f"content-length: {sum(map(len, play.chunks))}")
        start = f"HTTP/1.1 {play.status} X\r\n" + "\r\n".join(named) + "\r\n\r\n"
        writer.write(start.encode())
        for chunk in play.chunks:
            if chunk == ABORT:
                writer.transport.abort()
                return False
            if chunk == HANG:
                await writer.drain()
                await reader.read(1)
                self.gone.set()
                return False
            writer.write(
                f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n" if play.chunked else chunk
            )
            await writer.drain()
        if play.chunked:
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


@asynccontextmanager
async def provider(*plays: Play) -> AsyncIterator[Provider]:
    playing = Provider(plays)
    server = await asyncio.start_server(playing.serve, "127.0.0.1", 0)
    playing.port = server.sockets[0].getsockname()[1]
    try:
        yield playing
    finally:
        server.close()


def events(*items: object) -> Play:
    """A stream of server-sent events, each a chunk."""
    chunks = [
        item if isinstance(item, bytes) else b"data: " + json.dumps(item).encode() + b"\n\n"
        for item in items
    ]
    return Play(headers={"content-type": "text/event-stream; charset=utf-8"}, chunks=chunks)


def whole(answer: object, **fields: object) -> Play:
    """A JSON answer."""
    return Play(chunks=[json.dumps(answer).encode()], **fields)  # type: ignore[arg-type]
