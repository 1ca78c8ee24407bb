"""Two ends of a connection without a container: in memory, and over loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from runner.ports import Connection


class MemoryConnection:
    """`runner.ports.Connection`, and the agent's end of it."""

    def __init__(self, window: int = 256 * 1024) -> None:
        self._window = window
        self._to_server = bytearray()
        self._to_agent = bytearray()
        self._changed = asyncio.Condition()
        self._agent_ended = False
        self._agent_gone = False
        self.closed = False
        self.most_unread = 0

    # -- the gateway's end --

    async def read(self) -> bytes:
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._to_server or self._agent_ended or self.closed
            )
            data = bytes(self._to_server[:65536])
            del self._to_server[:65536]
            self._changed.notify_all()
            return data

    async def write(self, data: bytes) -> None:
        async with self._changed:
            await self._changed.wait_for(
                lambda: len(self._to_agent) < self._window or self._agent_gone or self.closed
            )
            if self._agent_gone or self.closed:
                raise ConnectionError("closed")
            self._to_agent += data
            self.most_unread = max(self.most_unread, len(self._to_agent))
            self._changed.notify_all()

    async def close(self) -> None:
        async with self._changed:
            self.closed = True
            self._changed.notify_all()

    # -- the agent's end --

    async def send(self, data: bytes) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._to_server) < self._window or self.closed)
            self._to_server += data
            self._changed.notify_all()

    async def end(self) -> None:
        """Nothing more will be sent; answers are still read."""
        async with self._changed:
            self._agent_ended = True
            self._changed.notify_all()

    async def leave(self) -> None:
        """Closes both sides."""
        async with self._changed:
            self._agent_ended = self._agent_gone = True
            self._changed.notify_all()

    async def receive(self, until: bytes | None = None) -> bytes:
        """All up to `until`, or to the end."""
        heard = bytearray()
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._to_agent or self.closed)
                found = self._to_agent.find(until) if until else -1
                take = found + len(until) if until and found >= 0 else len(self._to_agent)
                heard += self._to_agent[:take]
                del self._to_agent[:take]
                self._changed.notify_all()
                if (until and (found >= 0 or until in heard)) or (self.closed and not take):
                    return bytes(heard)


class StreamConnection:
    """`runner.ports.Connection` over a real socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        try:
            return await self._reader.read(65536)
        except ConnectionError:
            return b""

    async def write(self, data: bytes) -> None:
        if self._writer.is_closing():
            raise ConnectionError("closed")
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        self._writer.close()

    async def closed(self) -> None:
        """Returns once the socket is gone; waited for by one task, which nobody cancels."""
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


@asynccontextmanager
async def listening(serve: Callable[[Connection], Awaitable[None]]) -> AsyncIterator[int]:
    """The port on 127.0.0.1 at which `serve` gets real connections; all have ended on exit."""
    tasks: list[asyncio.Future[None]] = []
    connections: list[StreamConnection] = []

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(StreamConnection(reader, writer))
        tasks.append(asyncio.ensure_future(serve(connections[-1])))

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        for connection in connections:
            await connection.closed()
        await server.wait_closed()
    for end in ends:
        assert end is None or isinstance(end, asyncio.CancelledError), end
