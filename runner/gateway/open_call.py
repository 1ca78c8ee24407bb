"""One model call while it is under way: what is known of it, and what it waits for."""

from __future__ import annotations

import codecs
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from runner.domain import Api
from runner.gateway.calls import (
    Exchange,
    Meter,
    ModelRequest,
    Refused,
    Upstream,
    UpstreamReply,
    Waits,
)
from runner.gateway.ledger import Reservation

MOST_PIECES = 20_000
"""Of one answer that are kept apart; what comes after them is kept as one."""


class ModelWaits(Waits, Protocol):
    """An attempt's waits, which also knows when models are asked at all."""

    def model_call(self) -> AbstractAsyncContextManager[None]:
        """Within it one model call is under way."""
        ...


class Ending(Enum):
    """How a call ended."""

    ANSWERED = "answered"
    """To its end, with whatever status."""
    BROKEN = "broken"
    """The upstream failed."""
    ABORTED = "aborted"
    """The agent went away."""


@dataclass(frozen=True, kw_only=True)
class Admitted:
    """A call that was checked, routed, counted and reserved."""

    asked: ModelRequest
    """As the agent sent it."""
    sent: ModelRequest
    """As it goes upstream, its output limited."""
    upstream: Upstream
    tokens_input: int
    """As we count them."""
    reservation: Reservation

    @property
    def model(self) -> str:
        """As the upstream names it."""
        return str(self.sent.body["model"])

    @property
    def was_limited(self) -> bool:
        """Whether the agent asked for more output than a budget allowed."""
        return self.sent.max_output_tokens != self.asked.max_output_tokens

    @property
    def exchange_request(self) -> dict[str, Any]:
        """What a recording has of it."""
        return {"api": self.asked.api.value, "body": dict(self.asked.body)}


class OpenCall:
    """Implements calls.Progress for its upstream; it ends once, by `Settlement.end`."""

    def __init__(self, *, number: int, api: Api, request_bytes: int, waits: Waits) -> None:
        self.number = number
        self.api = api
        self.request_bytes = request_bytes
        self.start_unix_nanos = time.time_ns()
        self.model = ""
        self.admitted: Admitted | None = None
        self.recalled: Exchange | None = None
        """A recording's or the cache's exchange, which answers it."""
        self.reply: UpstreamReply | None = None
        self.meter: Meter | None = None
        self.passed = Pieces()
        """What the agent was sent, or is to be."""
        self.refused: Refused | None = None
        self.is_broken = False
        """By the upstream, or by our own limits of its answer."""
        self.is_delivered = False
        """The agent got a part of the answer."""
        self.charged = False
        self.was_sent = False
        self.waited_seconds = 0.0
        self.pauses = 0
        self.first_chunk_seconds: float | None = None
        self.ended = False
        self._waits = waits
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since it came."""
        return time.monotonic() - self._began

    def sent(self) -> None:
        """See calls.Progress."""
        self.was_sent = self.charged = True

    def not_charged(self) -> None:
        """See calls.Progress."""
        self.charged = False

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """See calls.Waits."""
        began = time.monotonic()
        self.pauses += 1
        try:
            async with self._waits.waiting():
                yield
        finally:
            self.waited_seconds += time.monotonic() - began

    @property
    def seconds_left(self) -> float:
        """See calls.Waits."""
        return self._waits.seconds_left


class Pieces:
    """An answer in the pieces in which it came, as text; what is not UTF-8 is replaced."""

    def __init__(self) -> None:
        self.bytes = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pieces: list[str] = []
        self._rest: list[str] = []

    def add(self, chunk: bytes) -> None:
        """A character that is cut in two belongs to the later piece."""
        self.bytes += len(chunk)
        self._keep(self._decoder.decode(chunk))

    def taken(self) -> tuple[str, ...]:
        """All of them; nothing is added afterwards."""
        self._keep(self._decoder.decode(b"", final=True))
        return (*self._pieces, *(["".join(self._rest)] if self._rest else []))

    def _keep(self, text: str) -> None:
        if text:
            (self._pieces if len(self._pieces) < MOST_PIECES else self._rest).append(text)
