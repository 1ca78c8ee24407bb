"""Calls whose answer is a long stream of JSON messages, under a deadline and a watch of ours."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import requests.exceptions
import urllib3.exceptions

from runner.engine import EngineClient
from runner.errors import EngineFailed
from runner.images.raw import socket_of

if TYPE_CHECKING:
    from docker.api.client import APIClient
    from requests import Response

Message = dict[str, Any]
Send = Callable[["APIClient"], "Response"]
Watch = Callable[[], Awaitable[str]]
"""Why the stream must be ended now; empty: it need not."""

WATCH_INTERVAL_SECONDS = 0.25
MAX_MESSAGE_BYTES = 1024 * 1024
ENDING_SECONDS = 10.0
"""How long a stream that was closed may take to notice."""
CONNECTION_ERRORS = (
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
    OSError,
    ValueError,
)


class StreamStopped(Exception):
    """We ended the stream ourselves; the text says why."""


class StreamedCall:
    """One request; `end` may be called from any thread, also before the answer begins."""

    def __init__(self) -> None:
        self.ended_because = ""
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def end(self, reason: str) -> None:
        """Closes the connection, on which the engine gives the work up."""
        with self._lock:
            self.ended_because = self.ended_because or reason
            if self._socket is not None:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def run(self, client: APIClient, send: Send, receive: Callable[[Message], None]) -> None:
        """Sends the request and hands each message to `receive`, until the answer is complete.

        Raises StreamStopped after `end`, EngineFailed when the engine broke the stream off.
        """
        try:
            response = send(client)
            self._connected(client, response)
            for message in _messages(response):
                receive(message)
        except CONNECTION_ERRORS as error:
            self._raise_if_ended()
            if isinstance(error, requests.exceptions.HTTPError):
                raise
            raise EngineFailed(
                "the engine broke its answer off", remedy="check that it is still running"
            ) from error
        self._raise_if_ended()

    def _connected(self, client: APIClient, response: Response) -> None:
        connection = socket_of(client, response)
        with self._lock:
            self._socket = connection
        if self.ended_because:
            self.end(self.ended_because)

    def _raise_if_ended(self) -> None:
        if self.ended_because:
            raise StreamStopped(self.ended_because)


def _messages(response: Response) -> Iterator[Message]:
    """The JSON objects of the answer, one a line."""
    pending = b""
    for chunk in response.iter_content(None):
        *lines, pending = (pending + chunk).split(b"\n")
        if len(pending) > MAX_MESSAGE_BYTES:
            raise EngineFailed("the engine sent a message without an end")
        yield from map(json.loads, filter(bytes.strip, lines))
    if pending.strip():
        yield json.loads(pending)


async def stream(
    engine: EngineClient,
    what: str,
    send: Send,
    receive: Callable[[Message], None],
    *,
    seconds: float,
    watch: Watch | None = None,
) -> None:
    """Runs one streamed call to its end, or ends it at the deadline or at the watch's word.

    `receive` is called in another thread. Raises StreamStopped when we ended it, EngineFailed and
    EngineUnavailable as `EngineClient.call`. Cancelling it ends the call first.
    """
    call = StreamedCall()
    running = asyncio.create_task(
        engine.call(
            what,
            lambda client: call.run(client, send, receive),
            math.ceil(seconds + ENDING_SECONDS),
        )
    )
    running.add_done_callback(_seen)
    try:
        await _guard(call, running, seconds, watch)
    except BaseException:
        call.end("it was cancelled")
        with suppress(Exception):
            await asyncio.wait({running}, timeout=ENDING_SECONDS)
        running.cancel()
        raise


def _seen(task: asyncio.Task[None]) -> None:
    """Nobody is warned of how a call ended that nobody waits for any more."""
    if not task.cancelled():
        task.exception()


async def _guard(
    call: StreamedCall, running: asyncio.Task[None], seconds: float, watch: Watch | None
) -> None:
    deadline = time.monotonic() + seconds
    while not running.done():
        await asyncio.wait({running}, timeout=WATCH_INTERVAL_SECONDS)
        if running.done():
            break
        if time.monotonic() > deadline:
            call.end(f"it took longer than {seconds:g} s")
        elif watch is not None and (reason := await watch()):
            call.end(reason)
        if call.ended_because:
            await asyncio.wait({running}, timeout=ENDING_SECONDS)
            if not running.done():
                running.cancel()
                raise StreamStopped(call.ended_because)
    await running
