"""The host's end of one connection inside a container: a window each way, and two sides to end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Protocol

from runner.errors import ProtocolViolation
from runner.transport.frames import COUNT, MAX_PAYLOAD, WINDOW, Frame, Kind

CLOSE_SECONDS = 1.0
"""A shim that is too busy to hear of an end is stopped or killed soon."""


class Wire(Protocol):
    """What carries the frames of all streams."""

    async def put(self, kind: Kind, payload: bytes, stream: int) -> None:
        """Hands over one frame; raises ConnectionError once the container has ended."""
        ...

    def forget(self, stream: int) -> None:
        """What still arrives on it is dropped."""
        ...


class Stream:
    """Implements ports.Connection, for one reader and one writer at a time.

    What arrives is told to `hear`, which never waits: a shim that keeps to the window fills no more
    than that, and one that does not has broken the protocol.
    """

    def __init__(self, number: int, wire: Wire) -> None:
        self._number = number
        self._wire = wire
        self._arrived = bytearray()
        self._taken = 0  # by our reader, and not credited to the shim yet
        self._expected = WINDOW  # bytes that the shim may still send
        self._room = WINDOW  # bytes that we may still send
        self._agent_ended = False
        self._shim_closed = False
        self._we_ended = False
        self._closed = False
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    async def read(self) -> bytes:
        """See ports.Connection."""
        await self._give_credit()
        await self._readable.wait()
        data = bytes(self._arrived)
        self._arrived.clear()
        self._taken += len(data)
        if not self._agent_ended:
            self._readable.clear()
        return data

    async def write(self, data: bytes) -> None:
        """See ports.Connection."""
        left = memoryview(data)
        while left:
            await self._writable.wait()
            if self._shim_closed or self._we_ended:
                raise ConnectionResetError("the connection is closed")
            piece = left[: min(self._room, MAX_PAYLOAD)]
            self._room -= len(piece)
            if self._room == 0:
                self._writable.clear()
            await self._wire.put(Kind.DATA, bytes(piece), self._number)
            left = left[len(piece) :]

    async def end(self) -> None:
        """Ends our side alone: the agent reads to the end of what was written, and may go on."""
        if not self._we_ended:
            self._we_ended = True
            self._writable.set()
            await self._say(Kind.END)

    async def close(self) -> None:
        """See ports.Connection."""
        if not self._closed:
            self.abandon()
            await self._say(Kind.CLOSE)

    def abandon(self) -> None:
        """As `close`, without a word to the shim, which closes all connections by itself."""
        self._wire.forget(self._number)
        self._closed = self._we_ended = True
        self._arrived.clear()
        self.lose()

    def lose(self) -> None:
        """The shim has closed it, or the container has ended; what arrived can still be read."""
        self._agent_ended = self._shim_closed = True
        self._readable.set()
        self._writable.set()

    def hear(self, frame: Frame) -> None:
        """Takes a frame of this stream; raises ProtocolViolation at what no shim sends now."""
        if self._shim_closed:
            raise ProtocolViolation(f"a {frame.kind.name} frame of a closed connection")
        match frame.kind:
            case Kind.DATA:
                self._take(frame.payload)
            case Kind.CREDIT:
                self._take_credit(frame.payload)
            case Kind.END:
                self._expect_more()
                self._agent_ended = True
                self._readable.set()
            case Kind.CLOSE:
                self.lose()
            case _:
                raise ProtocolViolation(f"a {frame.kind.name} frame of a connection")

    def _expect_more(self) -> None:
        if self._agent_ended:
            raise ProtocolViolation("a connection that goes on after its end")

    def _take(self, data: bytes) -> None:
        self._expect_more()
        if not 0 < len(data) <= self._expected:
            raise ProtocolViolation(f"{len(data)} bytes where {self._expected} may come")
        self._expected -= len(data)
        self._arrived += data
        self._readable.set()

    def _take_credit(self, payload: bytes) -> None:
        count = COUNT.unpack(payload)[0] if len(payload) == COUNT.size else 0
        if not 0 < count <= WINDOW - self._room:
            raise ProtocolViolation("a credit for bytes that were not sent")
        self._room += count
        self._writable.set()

    async def _give_credit(self) -> None:
        """By halves of the window: few frames, and a sender that is never held up by them."""
        if self._taken < WINDOW // 2 or self._agent_ended:
            return
        count, self._taken = self._taken, 0
        self._expected += count
        with suppress(ConnectionError):
            await self._wire.put(Kind.CREDIT, COUNT.pack(count), self._number)

    async def _say(self, kind: Kind) -> None:
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._wire.put(kind, b"", self._number)


class DialedStream(Stream):
    """A connection that we asked for; the shim says first whether there is one."""

    def __init__(self, number: int, wire: Wire) -> None:
        super().__init__(number, wire)
        self._outcome: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def dialed(self) -> bytes:
        """The payload of the answer to DIAL; b"" once the container has ended."""
        return await asyncio.shield(self._outcome)  # who gives up waiting has had no answer yet

    def hear(self, frame: Frame) -> None:
        """As Stream's."""
        if self._outcome.done():
            super().hear(frame)
        elif frame.kind is Kind.DIALED:
            self._outcome.set_result(frame.payload)
        else:
            raise ProtocolViolation(f"a {frame.kind.name} frame before the connection is there")

    def lose(self) -> None:
        """As Stream's."""
        super().lose()
        if not self._outcome.done():
            self._outcome.set_result(b"")
