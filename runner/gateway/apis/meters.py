"""Reads answers as they pass: usage, texts and finish reasons. Nothing in them makes it raise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from runner.domain import Api
from runner.gateway.apis.readings import (
    ChatReading,
    EmbeddingsReading,
    MessagesReading,
    Reading,
    ResponsesReading,
)
from runner.gateway.apis.sse import Lines, data_of
from runner.gateway.calls import Meter, ModelRequest, Usage

_READINGS: dict[Api, type[Reading]] = {
    Api.CHAT: ChatReading,
    Api.RESPONSES: ResponsesReading,
    Api.EMBEDDINGS: EmbeddingsReading,
    Api.MESSAGES: MessagesReading,
}


def meter(request: ModelRequest) -> Meter:
    """A new meter for the answer to `request`."""
    reading = _READINGS[request.api]()
    if not request.streamed:
        return WholeMeter(reading)
    if request.api is Api.CHAT and not request.wants_usage:
        return UsageHidingMeter(reading)
    return StreamMeter(reading)


class _Read:
    """What all meters tell, of what was read so far."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    @property
    def usage(self) -> Usage | None:
        """See calls.Meter."""
        return self._reading.usage

    @property
    def texts(self) -> Sequence[str]:
        """See calls.Meter."""
        return self._reading.texts

    @property
    def finish_reasons(self) -> tuple[str, ...]:
        """See calls.Meter."""
        return self._reading.finish_reasons


class WholeMeter(_Read):
    """Implements calls.Meter for an answer that is one JSON object; its caller bounds its size."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self._body = bytearray()

    def feed(self, chunk: bytes) -> bytes:
        """See calls.Meter."""
        self._body += chunk
        return chunk

    def end(self) -> bytes:
        """See calls.Meter."""
        answer = _object(bytes(self._body))
        if answer is not None:
            self._reading.whole(answer)
        return b""


class StreamMeter(_Read):
    """Implements calls.Meter for a stream that is passed on as it is."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self._lines = Lines()

    def feed(self, chunk: bytes) -> bytes:
        """See calls.Meter."""
        for line, whole in self._lines.feed(chunk):
            if whole:
                self._read(line)
        return chunk

    def end(self) -> bytes:
        """See calls.Meter."""
        self._read(self._lines.end())
        return b""

    def _read(self, line: bytes) -> dict[str, Any] | None:
        data = data_of(line)
        event = None if data is None else _object(data)
        if event is not None:
            self._reading.event(event)
        return event


class UsageHidingMeter(StreamMeter):
    """The same, without the chunk at the end that tells the usage: the agent did not ask for it.

    So a line is held back until it is whole, as long as it is not too long to be read.
    """

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading)
        self._dropped = False
        """The last line was; the empty one that ends its event goes with it."""

    def feed(self, chunk: bytes) -> bytes:
        """See calls.Meter."""
        passed = bytearray()
        for line, whole in self._lines.feed(chunk):
            if not (whole and self._drops(line)):
                passed += line
        return bytes(passed)

    def end(self) -> bytes:
        """See calls.Meter."""
        last = self._lines.end()
        return b"" if self._drops(last) else last

    def _drops(self, line: bytes) -> bool:
        if self._dropped and not line.strip():
            self._dropped = False
            return True
        event = self._read(line)
        self._dropped = event is not None and _tells_usage_alone(event)
        return self._dropped


def _tells_usage_alone(event: dict[str, Any]) -> bool:
    return event.get("choices") == [] and isinstance(event.get("usage"), dict)


def _object(data: bytes) -> dict[str, Any] | None:
    """The JSON object that `data` is; None: it is none."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
