"""A directory written from hostile names and bytes: regular files alone, under limits."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from runner.domain.text import one_line
from runner.errors import InvalidSubmission, StorageFailed

CHUNK_BYTES = 64 * 1024
LONGEST_COMPONENT_BYTES = 255
FILE_MODE = 0o644
PROGRAM_MODE = 0o755

CLUTTER = frozenset(
    {
        *(".git", ".hg", ".svn", ".venv", "__pycache__"),
        *(".mypy_cache", ".pytest_cache", ".ruff_cache", "__MACOSX", ".DS_Store"),
    }
)
"""Never received, wherever in the tree it is: no agent needs it."""


@dataclass(frozen=True, kw_only=True)
class BundleLimits:
    """What one submission's files may come to."""

    max_bytes: int = 256 * 1024**2
    """All files together, unpacked."""
    max_files: int = 20_000
    """Files and directories."""
    max_path_bytes: int = 1024
    max_depth: int = 32
    """Components of a path."""

    @property
    def visits(self) -> int:
        """How many entries may be looked at, those that are skipped included."""
        return 10 * self.max_files


class Tree:
    """A new directory in the making; every method raises InvalidSubmission for what is refused,
    and StorageFailed when it cannot be written.

    No link is ever made in it, so that no name can lead out of it.
    """

    def __init__(self, root: Path, limits: BundleLimits) -> None:
        self.root = root
        self.entries: dict[str, str] = {}
        """What there is, by path: `d`, or `f` or `x` (executable) and the SHA-256."""
        self.bytes = 0
        self.limits = limits
        self._visits = 0

    @property
    def files(self) -> int:
        """How many files it holds."""
        return sum(entry != "d" for entry in self.entries.values())

    def visit(self) -> None:
        """Counts one entry looked at, kept or not."""
        self._visits += 1
        if self._visits > self.limits.visits:
            raise self._too_many()

    def wants(self, name: str) -> bool:
        """Whether the entry of that name is received: it is not clutter, nor the top itself.

        Raises InvalidSubmission for a name that cannot be one.
        """
        parts = _parts(name, self.limits)
        return bool(parts) and not CLUTTER.intersection(parts)

    def directory(self, name: str) -> None:
        """Makes a directory, and those above it; it may be there already."""
        self._make(_parts(name, self.limits))

    def file(self, name: str, size: int, executable: bool, chunks: Iterable[bytes]) -> None:
        """Writes a file of `size` bytes, as its source declares; other lengths are refused."""
        parts = _parts(name, self.limits)
        path = "/".join(parts)
        self._make(parts[:-1])
        self._claim(path, size)
        digest, written = hashlib.sha256(), 0
        with storing(self.root / path), _created(self.root / path, executable) as descriptor:
            for chunk in chunks:
                written += len(chunk)
                if written > size:
                    break
                digest.update(chunk)
                _write(descriptor, chunk)
            os.fsync(descriptor)
        if written != size:
            raise InvalidSubmission(
                f"{one_line(path)} is not as long as it was said to be, or changed while it was"
                " being read",
                remedy="submit again once nothing writes to it",
            )
        self.entries[path] = f"{'x' if executable else 'f'} {digest.hexdigest()}"

    def _claim(self, path: str, size: int) -> None:
        """Counts a file that is about to be written."""
        if path in self.entries:
            raise InvalidSubmission(
                f"{one_line(path)} is there twice", remedy="pack it once, under one name"
            )
        self.bytes += size
        if self.bytes > self.limits.max_bytes:
            raise InvalidSubmission(
                f"the submission holds more than {self.limits.max_bytes / 1024**2:.0f} MiB",
                remedy="leave out what the agent does not need (setting submissions.max_bytes)",
            )
        self._count()

    def _count(self) -> None:
        if len(self.entries) >= self.limits.max_files:
            raise self._too_many()

    def _too_many(self) -> InvalidSubmission:
        return InvalidSubmission(
            f"the submission has more than {self.limits.max_files} files",
            remedy="leave out what the agent does not need (setting submissions.max_files)",
        )

    def _make(self, parts: list[str]) -> None:
        for length in range(1, len(parts) + 1):
            path = "/".join(parts[:length])
            if self.entries.get(path) == "d":
                continue
            if path in self.entries:
                raise InvalidSubmission(
                    f"{one_line(path)} is both a file and a directory", remedy="rename one of them"
                )
            self._count()
            with storing(self.root / path):
                (self.root / path).mkdir()
            self.entries[path] = "d"


def digest_of(entries: Mapping[str, str], top: str = "") -> str:
    """`sha256:` and the digest of names, modes and contents below `top` (empty, or ending in `/`).

    No name holds a line end, so that no two trees read the same.
    """
    lines = sorted(
        f"{path.removeprefix(top)}\n{entry}\n"
        for path, entry in entries.items()
        if path.startswith(top)
    )
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def _parts(name: str, limits: BundleLimits) -> list[str]:
    """The components of a relative path; raises InvalidSubmission for names that cannot be one."""
    if not name.isprintable() or "\\" in name:
        raise _bad_name(name, "has characters that no name needs")
    if name.startswith("/"):
        raise _bad_name(name, "is absolute")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise _bad_name(name, "leads out of the submission")
    longest = max((len(part.encode()) for part in parts), default=0)
    if len(name.encode()) > limits.max_path_bytes or longest > LONGEST_COMPONENT_BYTES:
        raise _bad_name(name, "is too long")
    if len(parts) > limits.max_depth:
        raise _bad_name(name, f"is more than {limits.max_depth} directories deep")
    return parts


def _bad_name(name: str, problem: str) -> InvalidSubmission:
    return InvalidSubmission(
        f"the name '{one_line(name, 120)}' {problem}", remedy="rename that file, or leave it out"
    )


@contextmanager
def _created(path: Path, executable: bool) -> Iterator[int]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        os.fchmod(descriptor, PROGRAM_MODE if executable else FILE_MODE)
        yield descriptor
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


_REMEDIES = {
    errno.ENOSPC: "free some space where storage.state_dir is",
    errno.EDQUOT: "free some of this user's quota where storage.state_dir is",
    errno.EROFS: "that file system is read-only: choose another storage.state_dir",
}


@contextmanager
def storing(what: Path) -> Iterator[None]:
    """Turns an OSError of its block into StorageFailed."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StorageFailed(
            f"cannot write {one_line(str(error.filename or what))}: {reason}",
            remedy=_REMEDIES.get(error.errno or 0, "check the disk and its permissions"),
        ) from error
