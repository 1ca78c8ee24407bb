"""What goes to an agent on one connection, at its pace, but not for ever."""

from __future__ import annotations

import asyncio
import contextlib
from http import HTTPStatus

from runner.gateway.calls import Refused
from runner.gateway.refusals import form_of, refusal
from runner.ports import Connection

_WRITE_PIECE = 64 * 1024


class Outbox:
    """Writes with a deadline, and knows whether there is still somebody to write to."""

    def __init__(self, connection: Connection, idle_seconds: float) -> None:
        self._connection = connection
        self._idle_seconds = idle_seconds
        self.broken = False

    async def write(self, data: bytes) -> None:
        """Raises ConnectionError once the client has gone, or does not read."""
        if self.broken:
            raise ConnectionError("the connection has ended")
        try:
            for start in range(0, len(data), _WRITE_PIECE):
                async with asyncio.timeout(self._idle_seconds):
                    await self._connection.write(data[start : start + _WRITE_PIECE])
        except TimeoutError:
            self.broken = True
            raise ConnectionError("the client does not read") from None
        except ConnectionError:
            self.broken = True
            raise

    async def refuse(self, refused: Refused, path: str = "/") -> None:
        """A whole answer to what was no request; never raises."""
        answer = refusal(refused, form_of(path))
        assert isinstance(answer.body, bytes)  # noqa: S101 - a refusal is no stream
        head = (
            f"HTTP/1.1 {answer.status} {phrase(answer.status)}\r\n"
            f"content-type: {answer.content_type}\r\ncontent-length: {len(answer.body)}\r\n"
            "connection: close\r\n\r\n"
        )
        with contextlib.suppress(ConnectionError):
            await self.write(head.encode() + answer.body)


def phrase(status: int) -> str:
    """What a status is called; empty for one without a name."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
