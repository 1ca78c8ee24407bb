"""A provider of models over HTTP: our key, our headers, and the agent's checked request alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Literal

import httpx

from runner.domain import Api
from runner.gateway.calls import ModelRequest, Progress, UpstreamBroken, UpstreamReply
from runner.gateway.upstreams.guard import Guard, Verdict
from runner.gateway.upstreams.patience import Patience, Sleep, Trouble
from runner.gateway.upstreams.redaction import Redaction
from runner.gateway.upstreams.tries import EVENTS, JSON, Response, Tries, WireRequest
from runner.ports import Breakers

ANTHROPIC_VERSION = "2023-06-01"
KEPT_CONNECTIONS = 8
"""Idle ones: local servers of models have a thread for each connection, and only a few of them."""
OUR_FAULT_STATUSES = frozenset({401, 402, 403, 407})
"""Those that say something of this host's key or account, which is none of the agent's business."""

_SPOKEN = {
    "openai": frozenset({Api.CHAT, Api.RESPONSES, Api.EMBEDDINGS}),
    "anthropic": frozenset({Api.MESSAGES}),
}


@dataclass(frozen=True, kw_only=True)
class HttpPolicy:
    """How an upstream is talked to."""

    retries: int = 4
    connect_seconds: float = 10.0
    idle_seconds: float = 120.0
    """Longest wait for the next bytes."""
    connections: int = 1_000
    sleep: Sleep = asyncio.sleep


def open_client(most: int) -> httpx.AsyncClient:
    """For at most so many connections at once, through the proxies that the environment names."""
    return httpx.AsyncClient(
        limits=httpx.Limits(max_connections=most, max_keepalive_connections=KEPT_CONNECTIONS),
        follow_redirects=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
    )


class HttpUpstream:
    """Implements calls.Upstream; one event loop uses it, and it is closed at the end.

    `base_url` is as the client libraries take it: OpenAI's with `/v1`, Anthropic's without.
    """

    counts_as_we_do = False

    def __init__(
        self,
        *,
        name: str,
        api: Literal["openai", "anthropic"],
        base_url: str,
        key: str,
        provider: str = "",
        policy: HttpPolicy | None = None,
        breakers: Breakers | None = None,
    ) -> None:
        self._policy = policy or HttpPolicy()
        self._name = name
        self._api = api
        self._base_url = base_url.rstrip("/")
        self._key = key.strip()
        self._provider = provider or name
        self._patience = Patience(retries=self._policy.retries, sleep=self._policy.sleep)
        self._guard = Guard(breakers, f"model:{name}", self._policy.sleep)
        self._client: httpx.AsyncClient | None = None

    @property
    def name(self) -> str:
        """See calls.Upstream."""
        return self._name

    @property
    def apis(self) -> frozenset[Api]:
        """See calls.Upstream."""
        return _SPOKEN[self._api]

    @property
    def provider(self) -> str:
        """See calls.Upstream."""
        return self._provider

    @asynccontextmanager
    async def send(self, request: ModelRequest, progress: Progress) -> AsyncIterator[UpstreamReply]:
        """See calls.Upstream."""
        async with AsyncExitStack() as stack:
            verdict = await stack.enter_async_context(self._guard.call(progress))
            tries = Tries(self._opened(), self._request(request), progress)
            try:
                response = await self._patience.until_answered(tries.once, progress)
            except Trouble as trouble:
                response = self._given_up(trouble, verdict)
            except UpstreamBroken as broken:
                verdict.failed(str(broken))
                raise
            stack.push_async_callback(response.close)
            self._check(response, verdict)
            yield UpstreamReply(
                status=response.status,
                content_type=response.content_type,
                body=self._body(response, verdict),
                retries=tries.made - 1,
            )

    async def close(self) -> None:
        """Ends all connections; may be repeated."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _given_up(self, trouble: Trouble[Response], verdict: Verdict) -> Response:
        """The last answer; raises UpstreamBroken where there was none."""
        if trouble.answer is None:
            verdict.failed(str(trouble))
            raise UpstreamBroken(str(trouble)) from trouble
        if trouble.answer.status != httpx.codes.TOO_MANY_REQUESTS:
            verdict.failed(str(trouble))  # a limit of requests says that it is well
        return trouble.answer

    def _check(self, response: Response, verdict: Verdict) -> None:
        """Refuses answers that are not the model's; raises UpstreamBroken."""
        if response.status in OUR_FAULT_STATUSES:
            raise UpstreamBroken(f"it refused this host's key or account ({response.status})")
        if not (200 <= response.status < 300 or response.status >= 400):
            raise UpstreamBroken(f"it answered with status {response.status}, not followed")
        if response.status < 500 and response.status != httpx.codes.TOO_MANY_REQUESTS:
            verdict.succeeded()

    async def _body(self, response: Response, verdict: Verdict) -> AsyncIterator[bytes]:
        redaction = Redaction(self._key)
        try:
            async with aclosing(response.chunks()) as chunks:
                async for chunk in chunks:
                    if passed := redaction.feed(chunk):
                        yield passed
        except UpstreamBroken as broken:
            verdict.failed(str(broken))
            raise
        if rest := redaction.end():
            yield rest

    def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = open_client(self._policy.connections)
        return self._client

    def _request(self, request: ModelRequest) -> WireRequest:
        path = request.api.value if self._api == "anthropic" else request.api.removeprefix("/v1")
        accept = EVENTS if request.streamed else JSON
        return WireRequest(
            url=self._base_url + path,
            headers={
                "user-agent": "agenttrace-runner",
                # Nothing that is packed: a small answer could unpack to one that fills the memory.
                "accept-encoding": "identity",
                "content-type": JSON,
                "accept": accept,
                **self._credentials(request),
            },
            content=json.dumps(request.body, separators=(",", ":")).encode(),
            timeout=httpx.Timeout(self._policy.idle_seconds, connect=self._policy.connect_seconds),
        )

    def _credentials(self, request: ModelRequest) -> dict[str, str]:
        if self._api == "anthropic":
            version = request.version or ANTHROPIC_VERSION
            return {"x-api-key": self._key, "anthropic-version": version}
        return {"authorization": f"Bearer {self._key}"} if self._key else {}
