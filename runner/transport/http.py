"""The `http` interface: one request to the agent's server, over a relayed connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import httpcore

from runner.domain import Ending, EndingKind, Limits
from runner.transport.link import Link, LinkEnded
from runner.transport.messages import Dialed, parse
from runner.transport.replies import Answer
from runner.transport.stream import Stream

DIAL_PAUSE_SECONDS = 0.025
JSON_INFLATION = 6
"""A character of the answer takes at most six bytes as JSON."""
ENVELOPE_BYTES = 4096
MAX_CLAIMS = 20

_streams = count(16)


async def ask_over_http(link: Link, port: int, request: str, limits: Limits) -> Answer:
    """POSTs `request` to /invoke as soon as the server listens; the caller sets the deadline."""
    body_cap = limits.output_bytes * JSON_INFLATION + ENVELOPE_BYTES
    try:
        async with _connected(link, port) as stream:
            return await _exchange(stream, port, request, body_cap)
    except (httpcore.NetworkError, httpcore.ProtocolError, UnicodeError) as error:
        detail = f"the agent's server broke off: {type(error).__name__}"
        return Answer(Ending(kind=EndingKind.INVALID_OUTPUT, detail=detail))


async def _exchange(stream: RelayedStream, port: int, request: str, body_cap: int) -> Answer:
    origin = httpcore.Origin(b"http", b"127.0.0.1", port)
    async with httpcore.AsyncHTTP11Connection(origin, stream) as connection:
        headers: dict[bytes | str, bytes | str] = {
            "Host": f"127.0.0.1:{port}",
            "Content-Type": "application/json",
        }
        url = f"http://127.0.0.1:{port}/invoke"
        content = request.encode("utf-8", "surrogatepass")
        headers["Content-Length"] = str(len(content))
        async with connection.stream("POST", url, headers=headers, content=content) as response:
            body = bytearray()
            async for chunk in response.aiter_stream():
                body += chunk
                if len(body) > body_cap:
                    detail = f"the response is longer than {body_cap} bytes"
                    ending = Ending(kind=EndingKind.OUTPUT_EXCEEDED, detail=detail)
                    return Answer(ending, length=len(body))
            return parse_response(response.status, bytes(body))


def parse_response(status: int, body: bytes) -> Answer:
    """What an agent's server answered to POST /invoke, whole; never raises."""
    if status != 200:
        detail = f"the agent's server answered with HTTP status {status}"
        return Answer(Ending(kind=EndingKind.CRASHED, detail=detail), body, len(body))
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return _invalid("the response is not JSON")
    if not isinstance(value, dict) or not isinstance(value.get("output"), str):
        return _invalid('the response is not {"output": TEXT}')
    output = value["output"].encode("utf-8", "surrogatepass")
    return Answer(
        Ending(kind=EndingKind.ANSWERED), output, len(output), claims=_claims(value.get("usage"))
    )


def _invalid(detail: str) -> Answer:
    return Answer(Ending(kind=EndingKind.INVALID_OUTPUT, detail=detail))


def _claims(usage: Any) -> dict[str, int | float | str]:
    """What the agent says it used; kept beside what was measured, and never counted."""
    if not isinstance(usage, dict):
        return {}
    named = [(ascii(k[:50])[1:-1], v) for k, v in usage.items() if isinstance(v, int | float)]
    return {name: value for name, value in named[:MAX_CLAIMS] if abs(value) < 1e15}


@asynccontextmanager
async def _connected(link: Link, port: int) -> AsyncIterator[RelayedStream]:
    """A connection to the agent's server, retried until it listens."""
    while True:
        stream = await link.dial(next(_streams), port)
        try:
            if not _error(await stream.dialed()):
                yield RelayedStream(stream)
                return
        finally:
            await stream.close()
        await asyncio.sleep(DIAL_PAUSE_SECONDS)


def _error(payload: bytes) -> str:
    """Why there is no connection, if so; raises LinkEnded."""
    if not payload:
        raise LinkEnded("the container has ended")
    return parse(Dialed, payload).error


class RelayedStream(httpcore.AsyncNetworkStream):
    """A connection inside the container, as httpcore wants one."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._left = b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002, ASYNC109 - httpcore's signature
        """Some bytes; b"" at the end."""
        self._left = self._left or await self._stream.read()
        data, self._left = self._left[:max_bytes], self._left[max_bytes:]
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109 - httpcore's signature
        """Sends all of `buffer`."""
        try:
            await self._stream.write(buffer)
        except ConnectionError as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        """Ends the connection on both sides."""
        await self._stream.close()

    def get_extra_info(self, info: str) -> Any:  # noqa: ARG002 - httpcore's signature
        """Nothing is known of the connection."""
        return None
