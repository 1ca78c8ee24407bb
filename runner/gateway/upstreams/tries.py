"""Sends one request to a provider, and reads the beginning of its answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from runner.domain.text import one_line
from runner.gateway.calls import Progress, UpstreamBroken
from runner.gateway.upstreams.patience import PASSING_STATUSES, Trouble, asked_seconds

LONGEST_ERROR = 64 * 1024
"""Of an error's text, in bytes; the rest is cut."""
JSON = "application/json"
EVENTS = "text/event-stream"
TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, kw_only=True)
class WireRequest:
    """What goes out."""

    url: str
    headers: Mapping[str, str]
    content: bytes
    timeout: httpx.Timeout


class Tries:
    """Sends one request, once or more often."""

    def __init__(self, client: httpx.AsyncClient, request: WireRequest, progress: Progress) -> None:
        self._client = client
        self._request = request
        self._progress = progress
        self._sent = False
        self.made = 0

    async def once(self) -> Response:
        """An answer; raises Trouble where it is worth another try, else UpstreamBroken."""
        self.made += 1
        self._sent = False
        try:
            response = await self._client.send(self._built(), stream=True)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
            if self._sent:
                # It may be at work on it, and charge for it: to send it again may cost twice.
                raise UpstreamBroken(f"no answer came: {_name_of(error)}") from error
            raise Trouble(f"it cannot be reached: {_name_of(error)}") from error
        try:
            return await self._judged(response)
        except BaseException:
            await response.aclose()
            raise

    def _built(self) -> httpx.Request:
        request = self._request
        return httpx.Request(
            "POST",
            request.url,
            headers=request.headers,
            content=request.content,
            extensions={"timeout": request.timeout.as_dict(), "trace": self._trace},
        )

    async def _trace(self, event: str, info: Mapping[str, Any]) -> None:  # noqa: ARG002 - httpcore's signature
        if event.endswith("send_request_headers.started"):
            self._sent = True
            self._progress.sent()

    async def _judged(self, response: httpx.Response) -> Response:
        if response.headers.get("content-encoding", "identity") not in ("identity", ""):
            raise UpstreamBroken("it answered in an encoding that was not asked for")
        if response.status_code < 400:
            if response.status_code >= 300:
                self._progress.not_charged()
            return Response(response)
        self._progress.not_charged()
        answer = Response(response, error=await _error_text(response))
        if _is_passing(answer):
            asked = asked_seconds(response.headers, datetime.now(UTC))
            raise Trouble(f"it answered {answer.status}", asked_seconds=asked, answer=answer)
        return answer


class Response:
    """An answer's beginning, and the way to the rest."""

    def __init__(self, response: httpx.Response, error: bytes | None = None) -> None:
        self._response = response
        self._error = error
        self.status = response.status_code
        self.content_type = _content_type(response.headers.get("content-type", JSON))

    @property
    def should_retry(self) -> bool | None:
        """What the provider says of that itself."""
        said = self._response.headers.get("x-should-retry", "")
        return {"true": True, "false": False}.get(said)

    @property
    def has_no_quota(self) -> bool:
        """The account has no money left: waiting does not help."""
        return self._error is not None and b"insufficient_quota" in self._error

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes; raises UpstreamBroken."""
        if self._error is not None:
            yield self._error
            return
        try:
            async with aclosing(_raw(self._response)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise UpstreamBroken(f"the answer broke off: {_name_of(error)}") from error

    async def close(self) -> None:
        """Gives the connection back, or ends it where the answer was not read to its end."""
        await self._response.aclose()


async def _raw(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    async for chunk in response.aiter_raw():
        yield chunk


def _content_type(said: str) -> str:
    """One of three, in our words: headers of a provider are not passed on."""
    return next((kind for kind in (EVENTS, JSON) if said.lower().startswith(kind)), TEXT)


def _is_passing(answer: Response) -> bool:
    if answer.should_retry is not None:
        return answer.should_retry
    return answer.status in PASSING_STATUSES and not answer.has_no_quota


async def _error_text(response: httpx.Response) -> bytes:
    """The error's body, cut; the connection is not used again where there is more of it."""
    text = bytearray()
    try:
        async for chunk in response.aiter_raw():
            text += chunk
            if len(text) >= LONGEST_ERROR:
                break
    except httpx.HTTPError:
        pass  # what came of it is all there is to say
    await response.aclose()
    return bytes(text[:LONGEST_ERROR])


def _name_of(error: Exception) -> str:
    """Its kind; its text only where no header of ours can be in it."""
    said = one_line(str(error), 200) if isinstance(error, httpx.ConnectError) else ""
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
