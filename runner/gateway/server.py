"""Speaks HTTP/1.1 with a hostile client on one connection, for an ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from runner.gateway.calls import Refused
from runner.gateway.cycle import Application, Cycle, Wire
from runner.gateway.heads import parse_head
from runner.gateway.inbox import Inbox
from runner.gateway.outbox import Outbox
from runner.gateway.room import RequestRoom
from runner.ports import Connection

_LINGER_SECONDS = 1.0
"""For which what nobody reads is still taken: a connection that is reset loses our answer."""
_QUIET_SECONDS = 0.2
"""After which nothing more is expected to come."""


@dataclass(frozen=True, kw_only=True)
class HttpLimits:
    """What one connection may cost us."""

    idle_seconds: float
    """Longest wait for the client's next bytes, and for its taking of ours."""
    request_bytes: int
    """Largest body."""


async def serve(
    connection: Connection, application: Application, limits: HttpLimits, room: RequestRoom
) -> None:
    """Answers requests until either side ends it, and closes the connection.

    Never raises for what the client does. Cancelled, it cancels the application.
    """
    wire = Wire(
        inbox=Inbox(connection, limits.idle_seconds),
        outbox=Outbox(connection, limits.idle_seconds),
        request_bytes=limits.request_bytes,
        room=room,
    )
    filling = asyncio.create_task(wire.inbox.fill())
    try:
        while await _serve_one(wire, application):
            pass
    finally:
        filling.cancel()
        await asyncio.gather(filling, return_exceptions=True)
        await connection.close()


async def _serve_one(wire: Wire, application: Application) -> bool:
    """One request and its answer; False when it was the connection's last."""
    try:
        head = await wire.inbox.head()
        if head is None:
            return False
        cycle = Cycle(wire, *parse_head(head))
    except Refused as refused:
        await wire.outbox.refuse(refused)
        await _linger(wire)
        return False
    try:
        await cycle.run(application)
    finally:
        cycle.give_back()
    if not cycle.body_read:
        await _linger(wire)
    await asyncio.sleep(0)  # a pipeline of requests is not to hold up everybody else
    return cycle.keeps_open


async def _linger(wire: Wire) -> None:
    if wire.outbox.broken:
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_SECONDS):
            await wire.inbox.drop(_QUIET_SECONDS)
