"""A submission's files are received: copied or unpacked aside under limits, then renamed."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from runner.domain.text import one_line
from runner.errors import InvalidSubmission, StorageFailed
from runner.intake.archives import unpack
from runner.intake.manifest import MANIFEST_NAME
from runner.intake.tree import CHUNK_BYTES, BundleLimits, Tree, digest_of, storing

ASIDE = ".incoming-"
ABANDONED_SECONDS = 60.0
"""Between making a directory aside and locking it; far longer than that takes."""


@dataclass(frozen=True, kw_only=True)
class Received:
    """A submission's files, in a directory of our own."""

    directory: Path
    digest: str
    """`sha256:` and that of names, modes and contents."""
    files: int
    bytes: int


def receive(source: Path, target: Path, limits: BundleLimits, only: Sequence[str] = ()) -> Received:
    """Copies a directory, or unpacks an archive, to the new directory `target`.

    `only` names what is taken of a directory's top; empty: all. An archive holds its manifest at
    its top, or in the one directory that is there. `target` appears whole or not at all. Raises
    InvalidSubmission for what is refused, StorageFailed.
    """
    if target.exists():
        raise StorageFailed(f"{target} exists", remedy="use another run id")
    with _aside(target.parent) as aside:
        tree = Tree(aside, limits)
        if source.is_dir():
            _copy(source, tree, only)
            top = ""
        else:
            unpack(source, tree, limits)
            top = _top_of(tree)
        with storing(target):
            _sync_directories(tree)
            (aside / top).rename(target)
            _sync_directory(target.parent)
    return Received(
        directory=target, digest=digest_of(tree.entries, top), files=tree.files, bytes=tree.bytes
    )


def sweep(directory: Path) -> int:
    """Removes what receivers that were killed left in a directory of bundles; returns how many."""
    abandoned = [path for path in directory.glob(f"{ASIDE}*") if _is_abandoned(path)]
    for path in abandoned:
        shutil.rmtree(path, ignore_errors=True)
    return len(abandoned)


@contextmanager
def _aside(parent: Path) -> Iterator[Path]:
    """A new directory in `parent`; what is still there at the end is removed."""
    with storing(parent):
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        sweep(parent)
        path = Path(tempfile.mkdtemp(prefix=ASIDE, dir=parent))
    try:
        with _locked(path):
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Says that somebody lives who is at work in `path`; the lock goes with its process."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_abandoned(path: Path) -> bool:
    with suppress(OSError):
        if time.time() - path.stat().st_mtime < ABANDONED_SECONDS:
            return False
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(descriptor)
        return True
    return False


def _top_of(tree: Tree) -> str:
    """Where in an archive its submission is: `` or `NAME/`."""
    if MANIFEST_NAME in tree.entries:
        return ""
    tops = {path.partition("/")[0] for path in tree.entries}
    if len(tops) == 1 and f"{(top := tops.pop())}/{MANIFEST_NAME}" in tree.entries:
        return f"{top}/"
    raise InvalidSubmission(
        f"the archive has no {MANIFEST_NAME} at its top, or in the one directory there",
        remedy=f"pack the directory that holds {MANIFEST_NAME}",
    )


def _sync_directories(tree: Tree) -> None:
    for path, entry in tree.entries.items():
        if entry == "d":
            _sync_directory(tree.root / path)
    _sync_directory(tree.root)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# -- a directory ---------------------------------------------------------------------------------


def _copy(source: Path, tree: Tree, only: Sequence[str]) -> None:
    """All of a directory that others may be writing to: by descriptors, following no link."""
    with _opened(source, None, "", os.O_DIRECTORY) as top:
        for name in only or _names_in(top, "", tree):
            _copy_entry(top, name, name, tree)


def _copy_entry(parent: int, name: str, path: str, tree: Tree) -> None:
    tree.visit()
    if not tree.wants(path):
        return
    with _opened(Path(name), parent, path, os.O_NONBLOCK | os.O_NOFOLLOW) as descriptor:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            tree.directory(path)
            for below in _names_in(descriptor, path, tree):
                _copy_entry(descriptor, below, f"{path}/{below}", tree)
        elif stat.S_ISREG(status.st_mode):
            executable = bool(status.st_mode & 0o100)
            tree.file(path, status.st_size, executable, _chunks(descriptor, path))
        else:
            raise _special(path)


def _names_in(directory: int, path: str, tree: Tree) -> list[str]:
    with _reading(path), os.scandir(directory) as entries:
        return sorted(entry.name for entry in islice(entries, tree.limits.visits + 1))


def _chunks(descriptor: int, path: str) -> Iterator[bytes]:
    while True:
        with _reading(path):
            chunk = os.read(descriptor, CHUNK_BYTES)
        if not chunk:
            return
        yield chunk


@contextmanager
def _opened(name: Path, parent: int | None, path: str, flags: int) -> Iterator[int]:
    with _reading(path or str(name)):
        if parent is not None and not _can_be_read(os.lstat(name, dir_fd=parent).st_mode):
            raise _special(path)  # opening a device may do something
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | flags, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _can_be_read(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _special(path: str) -> InvalidSubmission:
    return InvalidSubmission(
        f"{one_line(path)} is a link, a device, a pipe or a socket, not a file",
        remedy="leave it out, or copy the file in",
    )


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Turns an OSError of its block into InvalidSubmission."""
    try:
        yield
    except OSError as error:
        raise InvalidSubmission(
            f"{one_line(path)} cannot be read: {(error.strerror or str(error)).lower()}",
            remedy="check that it is there, and that this user may read it",
        ) from None
