"""Answers that were given before, by the digest of their request; shared by all runs of a host."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from runner.errors import StorageFailed
from runner.gateway.calls import Exchange
from runner.gateway.exchanges import from_line, to_line

_DIGEST = re.compile(r"[0-9a-f]{64}")
_LEFTOVER_SECONDS = 3600.0
"""After which a file that was not finished is a dead process's."""


class AnswerCache:
    """A directory of exchanges. Several processes may use it at once; damaged means absent."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get(self, digest: str) -> Exchange | None:
        """The exchange whose request has that digest; None where there is none."""
        path = self._path(digest)
        try:
            exchange = from_line(path.read_bytes())
            os.utime(path)  # used now, for `prune`
        except (OSError, ValueError, RecursionError):
            return None
        return exchange if exchange.digest == digest else None

    def put(self, exchange: Exchange) -> None:
        """Keeps it, in place of an earlier one; raises StorageFailed."""
        path = self._path(exchange.digest)
        unfinished = path.with_name(f".{secrets.token_hex(8)}")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                _write(unfinished, to_line(exchange))
                unfinished.replace(path)
            finally:
                unfinished.unlink(missing_ok=True)
        except OSError as error:
            raise StorageFailed(
                f"cannot write {path}: {error.strerror}",
                remedy="free some space, or turn the caches off",
            ) from error

    def prune(self, max_bytes: int) -> int:
        """Removes what was used least recently, until the rest is so small; says how many bytes.

        What another process adds or removes meanwhile may or may not be counted.
        """
        beyond = self._beyond(max_bytes)
        for _, path in beyond:
            path.unlink(missing_ok=True)
        return sum(size for size, _ in beyond)

    def bytes_beyond(self, max_bytes: int) -> int:
        """How many bytes `prune` would remove."""
        return sum(size for size, _ in self._beyond(max_bytes))

    def _beyond(self, max_bytes: int) -> list[tuple[int, Path]]:
        kept, beyond = 0, []
        for _, size, path in sorted(self._files(), reverse=True):
            kept += size
            if kept > max_bytes:
                beyond.append((size, path))
        return beyond

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """When each was used, its size and where it is; leftovers of the dead are removed."""
        for path in self._directory.glob("*/*"):
            with contextlib.suppress(FileNotFoundError):
                status = path.lstat()
                if _DIGEST.fullmatch(path.name):
                    yield status.st_mtime, status.st_size, path
                elif time.time() - status.st_mtime > _LEFTOVER_SECONDS:
                    path.unlink()

    def _path(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"not a digest: {digest!r}")
        return self._directory / digest[:2] / digest


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
