"""Reads what was kept of an attempt's exchanges with models and tools, one at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ConfigDict, ValidationError

from runner.domain.base import Noun

MODEL = "model"
TOOL = "tool"
_LINE_BYTES = 64 * 2**20
"""What is longer is passed over: nobody reads it, and a trace would cut it to nothing."""
_FILE_BYTES = 512 * 2**20
"""Where reading ends: an agent that fills the disk with exchanges shall not fill memory too."""


class RecordedExchange(Noun):
    """One request and its answer, as far as displays and exports need to know it.

    The gateway writes more (`runner.gateway.calls.Exchange`); what is unknown here is no error.
    """

    model_config = ConfigDict(extra="ignore")

    number: int
    """As `ModelCall.number` and `ToolCall.number`."""
    kind: str
    """`model` or `tool`."""
    digest: str = ""
    request: dict[str, Any]
    """Of a model: `api` and `body`; of a tool: `name` and `arguments`. All of it hostile."""
    status: int = 200
    content_type: str = ""
    chunks: tuple[str, ...] = ()
    """The answer's body in pieces; their borders mean nothing."""
    usage: dict[str, Any] | None = None
    refused: str = ""

    @property
    def api(self) -> str:
        """Of a model's exchange: the path of its API."""
        return str(self.request.get("api", ""))

    @property
    def body(self) -> dict[str, Any]:
        """Of a model's exchange: what was asked."""
        body = self.request.get("body")
        return body if isinstance(body, dict) else {}

    @property
    def answer(self) -> str:
        """The answer's body."""
        return "".join(self.chunks)

    @property
    def answered(self) -> bool:
        """Whether there is an answer that says something, and not an error."""
        return not self.refused and self.status < 400

    @property
    def tokens_cached(self) -> int | None:
        """Of the input: those that the provider had in its own cache; None: unknown."""
        cached = (self.usage or {}).get("tokens_cached")
        return cached if isinstance(cached, int) else None


def read_exchanges(path: Path) -> Iterator[RecordedExchange]:
    """Those of a file, in its order; nothing where there is none. What is damaged is left out:
    a display of the rest is better than none.
    """
    try:
        file = path.open("rb")
    except OSError:
        return
    with file:
        for line in _lines(file):
            try:  # by `json`, since a text may hold a lone surrogate
                yield RecordedExchange.model_validate(loaded_json(line))
            except ValidationError:
                continue


def _lines(file: BinaryIO) -> Iterator[bytes]:
    whole = True
    while file.tell() < _FILE_BYTES and (line := file.readline(_LINE_BYTES)):
        starts, whole = whole, line.endswith(b"\n")
        if starts and (whole or len(line) < _LINE_BYTES):
            yield line


def loaded_json(text: str | bytes) -> Any:
    """The value in `text`; None where it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
