"""What an agent has sent on one connection and nobody has taken yet: bounded, with deadlines."""

from __future__ import annotations

import asyncio

from runner.gateway.calls import Refused
from runner.gateway.heads import HEAD_BYTES, bad_request, check_bytes
from runner.ports import Connection


class Inbox:
    """Reads ahead, so that the end of the connection is seen while an answer is being written.

    No more is read while more than the largest head waits; what one read returns comes on top.
    """

    def __init__(self, connection: Connection, idle_seconds: float) -> None:
        self._connection = connection
        self._idle_seconds = idle_seconds
        self._buffer = bytearray()
        self._arrived = asyncio.Event()
        self._wanted = asyncio.Event()
        self._ended = asyncio.Event()

    async def fill(self) -> None:
        """Reads until the agent's side ends; whoever made the inbox runs it as a task."""
        try:
            while data := await self._connection.read():
                self._buffer += data
                self._arrived.set()
                while len(self._buffer) > HEAD_BYTES:
                    self._wanted.clear()
                    await self._wanted.wait()
        except ConnectionError:
            pass
        finally:
            self._ended.set()
            self._arrived.set()

    async def gone(self) -> None:
        """Returns once the agent has closed its side, which is not seen behind unread requests."""
        await self._ended.wait()

    async def head(self) -> bytes | None:
        """The next request's line and headers, to their empty line.

        None once nothing more comes, or nothing came for long. Raises Refused.
        """
        try:
            if not self._buffer and not await self._more(self._idle_seconds):
                return None
        except TimeoutError:
            return None
        await self._skip_empty_line()
        seen = 0
        while (end := self._buffer.find(b"\r\n\r\n", max(0, seen - 3))) < 0:
            seen = self._checked(seen, len(self._buffer))
            if not await self._more_of_request():
                return None
        self._checked(seen, end + 4)
        return self._take(end + 4)

    async def some(self, most: int) -> bytes:
        """Some of a body, at most so many bytes; b"" at the end. Raises Refused when none come."""
        if not self._buffer and not await self._more_of_request():
            return b""
        return self._take(most)

    def put_back(self, data: bytes) -> None:
        """Gives back what `some` took too much of."""
        self._buffer[:0] = data

    async def drop(self, quiet_seconds: float) -> None:
        """Takes all that comes, for nobody; raises TimeoutError when nothing came for so long."""
        self._take(len(self._buffer))
        while await self._more(quiet_seconds):
            self._take(len(self._buffer))

    async def _skip_empty_line(self) -> None:
        """Some clients send one after a body (RFC 9112, 2.2)."""
        if self._buffer == b"\r" and not await self._more_of_request():
            return
        if self._buffer.startswith(b"\r\n"):
            self._take(2)

    def _checked(self, seen: int, end: int) -> int:
        if end > HEAD_BYTES:
            raise bad_request("the request's headers are too large", 431)
        if self._buffer:
            check_bytes(self._buffer[:end] if end < len(self._buffer) else self._buffer, seen)
        return end

    def _take(self, most: int) -> bytes:
        data = bytes(self._buffer[:most])
        del self._buffer[:most]
        self._wanted.set()
        return data

    async def _more_of_request(self) -> bool:
        try:
            return await self._more(self._idle_seconds)
        except TimeoutError:
            raise Refused(408, "request_timeout", "the rest of the request did not come") from None

    async def _more(self, seconds: float) -> bool:
        """Waits for further bytes; False at the end. Raises TimeoutError."""
        had = len(self._buffer)
        self._wanted.set()
        async with asyncio.timeout(seconds):
            while len(self._buffer) == had:
                if self._ended.is_set():
                    return False
                self._arrived.clear()
                await self._arrived.wait()
        return True
