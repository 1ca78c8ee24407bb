"""What a scripted model says, before it has the form of an API, and what those forms share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from runner.gateway.apis.checks import compact
from runner.gateway.calls import ModelRequest

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class SaidCall:
    """A tool call."""

    name: str
    arguments: str
    """As JSON."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """An answer before it has a form."""

    text: str
    calls: tuple[SaidCall, ...] = ()
    cut_short: bool = False
    """The limit of output was met."""
    usage: tuple[int, int] | None = None
    """Input, output; None: it is not told."""

    @property
    def texts(self) -> list[str]:
        """What its tokens are counted of."""
        calls = [text for call in self.calls for text in (call.name, call.arguments)]
        return [text for text in (self.text, *calls) if text]

    def with_usage(self, tokens_input: int, tokens_output: int) -> Said:
        """The same, and it tells its usage."""
        return replace(self, usage=(tokens_input, tokens_output))


def id_of(prefix: str, request: ModelRequest, *parts: object) -> str:
    """The same for the same request: answers are to be the same, byte for byte."""
    content = compact([request.body, *map(str, parts)]).encode()
    return prefix + hashlib.sha256(content).hexdigest()[:24]


def pieces_of(text: str, count: int) -> list[str]:
    """At most so many, of about the same length."""
    if not text:
        return []
    size = -(-len(text) // count)
    return [text[start : start + size] for start in range(0, len(text), size)]


def data_event(event: Mapping[str, Any]) -> bytes:
    """An event without a name."""
    return b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"


def named_event(event: Mapping[str, Any]) -> bytes:
    """An event with its type as its name."""
    return f"event: {event['type']}\n".encode() + data_event(event)
