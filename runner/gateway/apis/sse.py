"""A stream of server-sent events, line by line, whatever an upstream sends."""

from __future__ import annotations

from collections.abc import Iterator

LONGEST_LINE = 4 * 1024 * 1024
"""In bytes; one that is longer is passed on, and not read."""


class Lines:
    """Cuts chunks into lines, their ends included; at most one unfinished line is kept."""

    def __init__(self, longest: int = LONGEST_LINE) -> None:
        self._longest = longest
        self._begun = bytearray()
        self._skipping = False
        """Within a line that is too long."""

    def feed(self, chunk: bytes) -> Iterator[tuple[bytes, bool]]:
        """What is whole now, and whether it is a line that was not cut."""
        for piece in _split(chunk):
            ended = piece.endswith(b"\n")
            if self._skipping:
                self._skipping = not ended
                yield piece, False
                continue
            self._begun += piece
            if ended:
                yield self._take(), True
            elif len(self._begun) > self._longest:
                self._skipping = True
                yield self._take(), False

    def end(self) -> bytes:
        """The last line, if it has no end."""
        return self._take()

    def _take(self) -> bytes:
        line = bytes(self._begun)
        self._begun.clear()
        return line


def _split(chunk: bytes) -> list[bytes]:
    """By line feeds alone: a carriage return before one is part of the line."""
    lines = chunk.split(b"\n")
    return [line + b"\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def data_of(line: bytes) -> bytes | None:
    """What a `data:` line holds; None: it is another line."""
    if not line.startswith(b"data:"):
        return None
    return line[5:].strip()
