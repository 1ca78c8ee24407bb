"""`exchanges.jsonl`: each exchange of an attempt, whole, one a line."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError

from runner.errors import StorageFailed, UsageError
from runner.gateway.calls import Exchange

LONGEST_LINE = 256 * 1024 * 1024
"""In bytes: the largest request and answer, escaped."""
MOST_BYTES = 256 * 1024 * 1024
"""Of one attempt that are recorded: a thousand calls of the largest size would fill the disk."""


def canonical_json(value: object) -> bytes:
    """The one way in which we write a JSON value: keys sorted, no spaces, UTF-8.

    A lone surrogate, which JSON can hold and UTF-8 cannot, is three bytes as if it could.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def digest_of(request: Mapping[str, Any]) -> str:
    """SHA-256 of its canonical JSON, in hexadecimal digits."""
    return hashlib.sha256(canonical_json(dict(request))).hexdigest()


def to_line(exchange: Exchange) -> bytes:
    """One line of ASCII, so that whatever a text holds can be written and read again."""
    return json.dumps(exchange.model_dump(), separators=(",", ":")).encode() + b"\n"


def from_line(line: bytes) -> Exchange:
    """Raises ValueError for anything but a line of ours that is whole."""
    exchange = Exchange.model_validate(json.loads(line))
    if exchange.whole and not exchange.refused and exchange.digest != digest_of(exchange.request):
        raise ValueError("the digest is not the request's")
    return exchange


class ExchangeLog:
    """Writes an attempt's exchanges as they end. The file is made by the first one.

    One that does not fit in what is left of `most_bytes`, or is too long to be read again, is told
    by its digest, without its texts.
    """

    def __init__(self, path: Path | None, most_bytes: int = MOST_BYTES) -> None:
        """`path` None: nothing is kept."""
        self._path = path
        self._left = most_bytes
        self._descriptor = -1

    def write(self, exchange: Exchange) -> None:
        """Appends it; raises StorageFailed, after which the file is as it was."""
        if self._path is None:
            return
        try:
            self._append(self._path, self._fitting(exchange))
        except OSError as error:
            raise StorageFailed(
                f"cannot write {self._path}: {error.strerror}",
                remedy="free some space, or set gateway.record to false",
            ) from error

    def _fitting(self, exchange: Exchange) -> bytes:
        line = to_line(exchange)
        if len(line) > min(self._left, LONGEST_LINE):
            return to_line(
                exchange.model_copy(update={"request": {}, "chunks": (), "whole": False})
            )
        self._left -= len(line)
        return line

    def _append(self, path: Path, line: bytes) -> None:
        if self._descriptor < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(path, flags, 0o600)
        before = os.fstat(self._descriptor).st_size
        if os.write(self._descriptor, line) < len(line):
            os.ftruncate(self._descriptor, before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """May be repeated; what is written afterwards opens the file again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def load_exchanges(path: Path, longest_line: int = LONGEST_LINE) -> Iterator[Exchange]:
    """Those of the file, in the order in which they ended; none where there is no file.

    A last line that a crash tore is left out. Raises UsageError for a damaged one before it.
    """
    try:
        with path.open("rb") as file:
            yield from _exchanges(file, path, longest_line)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def _exchanges(file: BinaryIO, path: Path, longest_line: int) -> Iterator[Exchange]:
    number = 0
    while line := file.readline(longest_line + 1):
        number += 1
        if len(line) > longest_line:
            raise _damaged(path, number, f"it is longer than {longest_line:,} bytes")
        try:
            exchange = from_line(line)
        except (ValidationError, ValueError, RecursionError) as error:
            if not line.endswith(b"\n"):
                return
            raise _damaged(path, number, "it is not a whole exchange") from error
        yield exchange


def _damaged(path: Path, number: int, why: str) -> UsageError:
    return UsageError(
        f"{path}, line {number}: {why}",
        remedy="the recording is damaged: record the run again",
    )
