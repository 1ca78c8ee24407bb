"""One question to a remote agent over HTTP/1.1, and what came back within the limits."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import httpcore

from runner.domain import Ending, EndingKind, Limits, Stage
from runner.domain.text import one_line
from runner.transport.connections import Route, connected
from runner.transport.credentials import Credentials
from runner.transport.endpoints import Target
from runner.transport.http import ENVELOPE_BYTES, JSON_INFLATION, parse_response
from runner.transport.patience import NOT_NOW_STATUSES, NotNow, retry_after_seconds
from runner.transport.replies import Answer

ERROR_BODY_BYTES = 32_768
"""What is read of the body of a refusal, to look for secrets in it."""
ERROR_SHOWN = 200
"""Characters of it in an ending's detail."""

# Its debug log shows the headers of responses: hostile bytes, and maybe a secret sent back to us.
logging.getLogger("httpcore.http11").setLevel(logging.INFO)


class Stages:
    """Implements ports.StageTimer; a step that is repeated is there as often."""

    def __init__(self) -> None:
        self.ended: tuple[Stage, ...] = ()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """See ports.StageTimer."""
        wall, started = time.time_ns(), time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - started
            self.ended += (Stage(name=name, start_unix_nanos=wall, seconds=seconds),)


@dataclass(kw_only=True)
class Exchange:
    """The request of one attempt, sent as often as it takes to be heard."""

    route: Route
    credentials: Credentials
    content: bytes
    limits: Limits
    connect_seconds: float
    stages: Stages
    wall_seconds: float = 0.0
    """Of the request that was answered, or broke off: connecting, sending and receiving."""

    async def ask(self) -> Answer:
        """Raises NotReached, NotNow, Forbidden; whatever the agent does is in the value."""
        started, deadline = time.monotonic(), _now() + self.limits.time_seconds
        async with AsyncExitStack() as stack:
            with self.stages.stage("connect"):
                patience = min(self.connect_seconds, self.limits.time_seconds)
                stream = await stack.enter_async_context(connected(self.route, patience))
            with self.stages.stage("ask"):
                answer = await self._until(deadline, stream)
            self.wall_seconds = time.monotonic() - started
        return answer

    async def _until(self, deadline: float, stream: httpcore.AsyncNetworkStream) -> Answer:
        try:
            async with asyncio.timeout_at(deadline):
                return await self._post(stream)
        except TimeoutError:
            detail = f"no answer within {self.limits.time_seconds:g} s"
            return Answer(Ending(kind=EndingKind.TIMED_OUT, detail=detail))
        except (httpcore.NetworkError, httpcore.ProtocolError, UnicodeError) as error:
            # Not asked again: it has the question, and may have acted on it.
            return _crashed(f"the endpoint broke off, or spoke no HTTP/1.1: {type(error).__name__}")

    async def _post(self, stream: httpcore.AsyncNetworkStream) -> Answer:
        target = self.route.target
        url = _url(target)
        async with (
            httpcore.AsyncHTTP11Connection(url.origin, stream) as connection,
            connection.stream(
                "POST", url, headers=self._headers(), content=self.content
            ) as response,
        ):
            return await self._answer(response)

    def _headers(self) -> list[tuple[bytes, bytes]]:
        return [
            (b"Host", self.route.target.authority.encode()),
            (b"User-Agent", b"agenttrace-runner"),
            (b"Content-Type", b"application/json"),
            (b"Content-Length", str(len(self.content)).encode()),
            (b"Accept", b"application/json"),
            (b"Accept-Encoding", b"identity"),
            (b"Connection", b"close"),
            *self.credentials.on_the_wire(),
        ]

    async def _answer(self, response: httpcore.Response) -> Answer:
        if response.status in NOT_NOW_STATUSES:
            after = b"".join(_values(response, b"retry-after")).decode("latin-1")
            raise NotNow(response.status, retry_after_seconds(after, datetime.now(UTC)))
        if response.status != 200:
            return _crashed(await self._refusal(response))
        if not set(_values(response, b"content-encoding")) <= {b"", b"identity"}:
            return Answer(
                Ending(
                    kind=EndingKind.INVALID_OUTPUT,
                    detail="the response is compressed, which was not asked for",
                )
            )
        return await self._output(response)

    async def _refusal(self, response: httpcore.Response) -> str:
        said = f"the endpoint answered with HTTP status {response.status}"
        if 300 <= response.status < 400:
            return f"{said}: redirects are not followed"
        body = self.credentials.without_secrets(await _body(response, ERROR_BODY_BYTES))
        return f"{said}: {one_line(body, ERROR_SHOWN)}" if body else said

    async def _output(self, response: httpcore.Response) -> Answer:
        cap = self.limits.output_bytes * JSON_INFLATION + ENVELOPE_BYTES
        body = await _body(response, cap)
        if len(body) > cap:
            detail = f"the response is longer than {cap} bytes"
            ending = Ending(kind=EndingKind.OUTPUT_EXCEEDED, detail=detail)
            return Answer(ending, length=len(body))
        return parse_response(200, self.credentials.without_token(body))


def _now() -> float:
    return asyncio.get_running_loop().time()


def _url(target: Target) -> httpcore.URL:
    return httpcore.URL(
        scheme=target.scheme, host=target.host, port=target.port, target=target.path
    )


def _crashed(detail: str) -> Answer:
    return Answer(Ending(kind=EndingKind.CRASHED, detail=detail))


def _values(response: httpcore.Response, name: bytes) -> Iterable[bytes]:
    return [v.strip().lower() for n, v in response.headers if n.lower() == name]


async def _body(response: httpcore.Response, cap: int) -> bytes:
    """The body; of one longer than `cap` as much as shows that it is."""
    body = bytearray()
    async for chunk in response.aiter_stream():
        body += chunk
        if len(body) > cap:
            break
    return bytes(body)
