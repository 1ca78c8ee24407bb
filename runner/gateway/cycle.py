"""One request and its answer, between an ASGI application and a connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import h11

from runner.gateway.calls import Refused
from runner.gateway.heads import bad_request
from runner.gateway.inbox import Inbox
from runner.gateway.outbox import Outbox, phrase
from runner.gateway.room import RequestRoom

_log = logging.getLogger(__name__)

_BODY_PIECE = 16 * 1024
"""As much of a body is parsed at a time: chunks of a byte each would hold up everybody else."""
_SMALL_BODY = 16 * 1024
"""Bodies up to this size take no room: what all connections together can hold of them is little."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
"""ASGI 3; `receive` may also raise `Refused`, to be answered."""


@dataclass(frozen=True, kw_only=True)
class Wire:
    """One connection, and what its client may cost us."""

    inbox: Inbox
    outbox: Outbox
    request_bytes: int
    """Largest body."""
    room: RequestRoom


class Cycle:
    """Serves one request; made for it, and not used again."""

    def __init__(
        self,
        wire: Wire,
        parser: h11.Connection,
        request: h11.Request,
    ) -> None:
        self._inbox = wire.inbox
        self._outbox = wire.outbox
        self._request_bytes = wire.request_bytes
        self._room = wire.room
        self._parser = parser
        self._request = request
        self._room_taken: int | None = None
        self._body_bytes = 0
        self._body_read = _declared(request) == 0
        self._told_end = False
        self._started = False
        self._complete = False
        self._held = b""

    @property
    def keeps_open(self) -> bool:
        """Whether the connection can take another request."""
        return (
            self._complete
            and self._body_read
            and not self._outbox.broken
            and self._parser.our_state is h11.DONE
        )

    @property
    def body_read(self) -> bool:
        """Whether nothing of the request is left to come."""
        return self._body_read

    def give_back(self) -> None:
        """Ends the use of memory."""
        if self._room_taken:
            self._room.give_back(self._room_taken)
        self._room_taken = None

    async def run(self, application: Application) -> None:
        """Has the request answered; never raises for what the client does."""
        try:
            await application(self._scope(), self._receive, self._send)
            if not self._complete and self._started:
                self._outbox.broken = True
        except ConnectionError:
            self._outbox.broken = True
        except Refused as refused:
            await self._fail(refused)
        except Exception:  # noqa: BLE001 - a bug of ours, met by one request, ends one connection
            _log.exception("a request of an agent could not be answered")
            await self._fail(Refused(500, "internal_error", "the gateway failed"))

    async def _fail(self, refused: Refused) -> None:
        if not self._started:
            await self._outbox.refuse(refused, self._path)
        self._complete = False

    @property
    def _path(self) -> str:
        return unquote(self._request.target.partition(b"?")[0].decode("ascii"))

    def _scope(self) -> dict[str, Any]:
        raw_path, _, query = self._request.target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": self._request.http_version.decode("ascii"),
            "server": None,
            "client": None,
            "scheme": "http",
            "method": self._request.method.decode("ascii"),
            "root_path": "",
            "path": self._path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": list(self._request.headers),
        }

    # -- the request's body ----------------------------------------------------------------------

    async def _receive(self) -> Message:
        if self._complete or self._told_end:
            if not self._complete:
                await self._inbox.gone()
            return {"type": "http.disconnect"}
        body = b"" if self._body_read else await self._next_of_body()
        if body is None:
            self._told_end = True
            return {"type": "http.disconnect"}
        self._told_end = self._body_read
        return {"type": "http.request", "body": body, "more_body": not self._body_read}

    async def _next_of_body(self) -> bytes | None:
        """Some of it, perhaps b""; None when the client has gone instead. Raises Refused."""
        await self._begin_body()
        body = self._parsed()
        while not body and not self._body_read:
            data = await self._inbox.some(_BODY_PIECE)
            if not data:
                return None
            self._parser.receive_data(data)
            body = self._parsed()
            await asyncio.sleep(0)
        return body

    async def _begin_body(self) -> None:
        if self._room_taken is not None:
            return
        declared = _declared(self._request)
        most = self._request_bytes if declared is None else declared
        if most > self._request_bytes:
            raise self._too_large()
        self._room_taken = await self._room.take(most) if most > _SMALL_BODY else 0
        if self._parser.they_are_waiting_for_100_continue:
            going_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
            await self._outbox.write(self._parser.send(going_on) or b"")

    def _parsed(self) -> bytes:
        """What the parser makes of all that it was given."""
        pieces: list[bytes] = []
        try:
            while isinstance(event := self._parser.next_event(), h11.Data):
                pieces.append(bytes(event.data))
                self._body_bytes += len(event.data)
                if self._body_bytes > self._request_bytes:
                    raise self._too_large()
        except h11.RemoteProtocolError:
            raise bad_request("the body is not what its headers say") from None
        if isinstance(event, h11.EndOfMessage):
            self._body_read = True
            self._inbox.put_back(self._parser.trailing_data[0])
        return b"".join(pieces)

    def _too_large(self) -> Refused:
        most = self._request_bytes
        return Refused(413, "request_too_large", f"requests are limited to {most} bytes")

    # -- the answer ------------------------------------------------------------------------------

    async def _send(self, message: Message) -> None:
        if not self._started:
            await self._send_head(message)
            return
        body = b"" if self._request.method == b"HEAD" else message.get("body", b"")
        ends = not message.get("more_body", False)
        data = self._held + (self._parser.send(h11.Data(data=body)) or b"")
        self._held = b""
        if ends:
            data += self._parser.send(h11.EndOfMessage()) or b""
        await self._outbox.write(data)
        self._complete = ends

    async def _send_head(self, message: Message) -> None:
        headers = list(message.get("headers", []))
        if not self._body_read:
            headers.append((b"connection", b"close"))
        status = message["status"]
        response = h11.Response(status_code=status, headers=headers, reason=phrase(status).encode())
        head = self._parser.send(response) or b""
        self._started = True
        if any(name == b"content-length" for name, _ in headers):
            self._held = head
        else:
            await self._outbox.write(head)


def _declared(request: h11.Request) -> int | None:
    """How long the body is by its headers; None where chunks will tell."""
    headers: Iterable[tuple[bytes, bytes]] = request.headers
    for name, value in headers:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length":
            return int(value)
    return 0
