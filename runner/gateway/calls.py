"""What passes between the pieces of this room: requests, answers, refusals."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

from pydantic import JsonValue

from runner.domain import Api, TokenSource, ToolAnswer, ToolDefinition
from runner.domain.base import Noun


class Refused(Exception):
    """A request that is not passed on; the agent is told why, in the error form of its API.

    `code` is ours and machine-readable, `message` one line of ours; hostile bytes in it are
    escaped. `status` is the HTTP status.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens of one call, and who counted them."""

    tokens_input: int
    """All of them, those that the provider had cached included."""
    tokens_output: int
    source: TokenSource
    tokens_cached: int = 0
    """Of `tokens_input`: read from the provider's own prompt cache, which is cheaper."""
    tokens_cache_written: int = 0
    """Of `tokens_input`: written to it, which is dearer with some."""
    tokens_audio: int = 0
    """Of `tokens_input`: recordings, which are dearer with most."""

    @property
    def tokens(self) -> int:
        """Input and output together."""
        return self.tokens_input + self.tokens_output


@dataclass(frozen=True, kw_only=True)
class ModelRequest:
    """A request that was parsed and checked: nothing in it reaches a network but the model."""

    api: Api
    model: str
    """As the agent named it; hostile."""
    body: Mapping[str, Any]
    """What may go upstream, with the model's name as the upstream knows it once it is routed."""
    streamed: bool = False
    wants_usage: bool = False
    """The agent asked for a usage chunk at the end of a stream."""
    texts: Sequence[str] = ()
    """All that its provider will count as input: messages, definitions of tools, schemas."""
    messages: int = 1
    """How many messages `texts` were in, since each costs a few tokens more."""
    max_output_tokens: int | None = None
    """Of one choice; None: the agent set none."""
    choices: int = 1
    deterministic: bool = False
    """Temperature 0 or a seed, so that the same request may be answered from the cache."""
    tokens_besides: int = 0
    """Assumed input beside `texts`: images, files, what a provider adds to definitions of tools."""
    tokens_audio: int = 0
    """Of `tokens_besides`: recordings."""
    version: str = ""
    """Of Anthropic's API, as the agent's client library named it; empty: it named none."""


@dataclass(frozen=True, kw_only=True)
class UpstreamReply:
    """An upstream's answer as it arrives."""

    status: int
    content_type: str
    body: AsyncIterator[bytes]
    """Raises UpstreamBroken when it breaks off."""
    retries: int = 0


class UpstreamBroken(Exception):
    """The upstream could not be reached, timed out or broke off, after the retries allowed.

    Its text is one inert line. Whether the call may have cost something: see `Progress.sent`.
    """


class Waits(Protocol):
    """Where pauses because of an upstream in trouble are noted."""

    def waiting(self) -> AbstractAsyncContextManager[None]:
        """Within it one call waits."""
        ...

    @property
    def seconds_left(self) -> float:
        """How much longer the attempt's calls may wait, all together."""
        ...


class Progress(Waits, Protocol):
    """What an upstream tells of one call while it is under way."""

    def sent(self) -> None:
        """From now on the provider may work on the request, and charge for it."""
        ...

    def not_charged(self) -> None:
        """It refused the request, so that nothing is charged unless it is sent again."""
        ...


class Upstream(Protocol):
    """One provider of models."""

    @property
    def name(self) -> str:
        """By which the settings and the results call it."""
        ...

    @property
    def apis(self) -> frozenset[Api]:
        """Those that it speaks."""
        ...

    @property
    def provider(self) -> str:
        """Its name in the price table."""
        ...

    @property
    def counts_as_we_do(self) -> bool:
        """Whether our own count is its own: then no margin is reserved."""
        ...

    def send(
        self, request: ModelRequest, progress: Progress
    ) -> AbstractAsyncContextManager[UpstreamReply]:
        """Sends a routed request, again where the upstream is in trouble for now.

        An answer with an error status is an answer. Raises UpstreamBroken on entry when none came.
        """
        ...


class Tools(Protocol):
    """The tools of one attempt, as `tool_calls.ToolCalls` has them."""

    def definitions(self) -> list[ToolDefinition]:
        """What the agent is told of them."""
        ...

    async def call(self, name: str, arguments: JsonValue, via: str) -> ToolAnswer:
        """Raises Refused."""
        ...


class Meter(Protocol):
    """Reads one answer as it passes."""

    def feed(self, chunk: bytes) -> bytes:
        """What the agent gets of `chunk`: usually the same; a line cut in two is held back."""
        ...

    def end(self) -> bytes:
        """What was held back and is still to be passed on, after the last chunk."""
        ...

    @property
    def usage(self) -> Usage | None:
        """As the provider has said so far; None where it has said nothing."""
        ...

    @property
    def texts(self) -> Sequence[str]:
        """What the model has said so far, tool calls included, for our own count."""
        ...

    @property
    def finish_reasons(self) -> tuple[str, ...]:
        """As the provider names them, in the order of the choices; hostile lengths are cut."""
        ...


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the agent is sent."""

    status: int
    content_type: str
    body: bytes | AsyncIterator[bytes]
    headers: Mapping[str, str] = field(default_factory=dict)


class Exchange(Noun):
    """One request and its answer, whole: a line of `exchanges.jsonl`."""

    number: int
    """As `ModelCall.number` and `ToolCall.number`."""
    kind: str
    """`model` or `tool`."""
    digest: str
    """SHA-256 of the canonical JSON of `request`."""
    request: dict[str, Any]
    """Of a model: `api` and the checked `body` as the agent sent it; of a tool: `name` and
    `arguments`. Nothing that differs between two runs of the same agent (keys, ids of ours)."""
    status: int
    content_type: str = ""
    chunks: tuple[str, ...] = ()
    """The answer's body in the pieces in which it came."""
    retries: int = 0
    usage: dict[str, Any] | None = None
    """The fields of `Usage`, where tokens were counted."""
    seconds: float = 0.0
    cached: bool = False
    refused: str = ""
    """Our code of the refusal; such an exchange is not replayed."""
    complete: bool = True
    """False: the answer broke off or never came, or the agent went away before its end."""
    whole: bool = True
    """False: too much had been recorded already, so that `request` and `chunks` are empty."""


@dataclass(frozen=True, kw_only=True)
class Price:
    """What a model costs, in US dollars for each token."""

    input_usd: Decimal
    output_usd: Decimal
