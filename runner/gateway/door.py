"""An application that is opened when it is first asked for, and lives on in a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.requests import Request

from runner.gateway.cycle import Application, Message, Receive, Send

OpenApplication = Callable[[], Awaitable[AbstractAsyncContextManager[Application]]]
"""Makes one; it is entered and left in the same task, as its libraries demand."""


class Door:
    """The ASGI application behind which another one is opened once."""

    def __init__(self, opening: OpenApplication) -> None:
        self._opening = opening
        self._closing = asyncio.Event()
        self._living: asyncio.Task[None] | None = None
        self._opened: asyncio.Future[Application] | None = None

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Reads the body whole before anything else: what is wrong with it is refused here."""
        body = await Request(scope, receive).body()
        application = await asyncio.shield(self._open())
        await application(scope, _replayed(body, receive), send)

    async def aclose(self) -> None:
        """Closes what was opened; never raises for what it was used for."""
        self._closing.set()
        if self._living is not None:
            await asyncio.gather(self._living, return_exceptions=True)

    def _open(self) -> asyncio.Future[Application]:
        if self._opened is None:
            self._opened = asyncio.get_running_loop().create_future()
            self._living = asyncio.create_task(self._live(self._opened))
        return self._opened

    async def _live(self, opened: asyncio.Future[Application]) -> None:
        try:
            async with await self._opening() as application:
                opened.set_result(application)
                await self._closing.wait()
        except BaseException as error:
            if opened.done():
                raise
            opened.set_exception(error)
            opened.exception()  # seen, also where nobody waits for it any more


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body, then whatever else there is to hear of the client."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
