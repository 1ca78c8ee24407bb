"""Which containers are whose: names written before they are made, so a killed runner's are found.

One file for each runner process, locked as long as the process lives; the lock ends with it, also
by SIGKILL, and no label of a container is ever believed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from runner.errors import StorageFailed

PREFIX = "agenttrace"
SUFFIX = ".containers"
GONE = " gone"
"""After the name of a container; torn, it is no line at all."""
SHORTENED_EVERY = 100
"""Containers; a name too many costs a reaper a call, and a new file half a millisecond."""
_OUR_NAME = re.compile(rf"{PREFIX}-[0-9a-f]{{12}}-[0-9]{{1,9}}")
"""What `new_name` makes; nothing else that stands in a journal is ever passed to an engine."""
_JOURNAL_BYTES = 64 * 1024 * 1024


class Journal:
    """The names that this process gives to its containers; a context manager."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._runner = secrets.token_hex(6)
        self._numbers = count(1)
        self._open: set[str] = set()
        self._forgotten = 0
        self._descriptor = -1

    @property
    def directory(self) -> Path:
        """Where it is, beside those of other runners."""
        return self._directory

    @property
    def path(self) -> Path:
        """The file."""
        return self._directory / f"{self._runner}{SUFFIX}"

    def __enter__(self) -> Journal:
        with self._writing():
            self._directory.mkdir(parents=True, exist_ok=True)
            self._begin()
        return self

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageFailed(
                f"cannot write {self.path}: {error.strerror}",
                remedy="free some space, or set storage.state_dir to a directory of yours",
            ) from error

    def _begin(self) -> None:
        """A file with the names that are open, in place of the one before, if there was one.

        It is locked before it has the name that a reaper looks for, or one could take it over.
        """
        unnamed, before = self.path.with_suffix(".new"), self._descriptor
        self._descriptor = os.open(
            unnamed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600
        )
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._write(*self._open)
        unnamed.rename(self.path)
        if before >= 0:
            os.close(before)

    def _write(self, *names: str) -> None:
        """Each on a line of its own, also after one that a full disk has torn."""
        data = "".join(f"\n{name}\n" for name in names).encode()
        if os.write(self._descriptor, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __exit__(self, *_: object) -> None:
        if not self._open:
            os.ftruncate(self._descriptor, 0)  # a reaper may have opened it already
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def new_name(self) -> str:
        """A name that no container has yet, on record before it is used."""
        name = f"{PREFIX}-{self._runner}-{next(self._numbers)}"
        with self._writing():
            self._write(name)
        self._open.add(name)
        return name

    def forget(self, name: str) -> None:
        """The container is gone for certain."""
        self._open.discard(name)
        self._forgotten += 1
        with self._writing():
            if self._forgotten < SHORTENED_EVERY:
                self._write(f"{name}{GONE}")
            else:
                self._forgotten = 0
                self._begin()


@dataclass(frozen=True, kw_only=True)
class Abandoned:
    """The journal of a dead runner, locked by us so that nobody else reaps it meanwhile."""

    path: Path
    names: tuple[str, ...]
    """Of the containers that it had, or had asked for and was never told of."""
    age_seconds: float
    """Since it was last written to."""

    def forget(self) -> None:
        """None of its containers is there, or will ever be."""
        self.path.unlink(missing_ok=True)


@contextmanager
def abandoned(directory: Path) -> Iterator[list[Abandoned]]:
    """The journals that dead runners left."""
    taken = list(_taken_over(directory))
    try:
        yield [_abandoned(descriptor, path) for descriptor, path in taken]
    finally:
        for descriptor, _ in taken:
            os.close(descriptor)


def _abandoned(descriptor: int, path: Path) -> Abandoned:
    age = max(0.0, time.time() - os.fstat(descriptor).st_mtime)
    text = os.pread(descriptor, _JOURNAL_BYTES, 0).decode("ascii", "replace")
    runner = path.name.removesuffix(SUFFIX)
    return Abandoned(path=path, names=open_names(text, runner), age_seconds=age)


def open_names(text: str, runner: str) -> tuple[str, ...]:
    """Those in the text of a journal that are not gone.

    Only the runner's own: a damaged or forged line names nobody's container.
    """
    lines = text.splitlines()
    gone = {line.removesuffix(GONE) for line in lines if line.endswith(GONE)}
    own = f"{PREFIX}-{runner}-"
    return tuple(
        line
        for line in lines
        if _OUR_NAME.fullmatch(line) and line.startswith(own) and line not in gone
    )


def _taken_over(directory: Path) -> Iterator[tuple[int, Path]]:
    """Journals whose runner is dead, locked by us so that nobody else reaps them meanwhile."""
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        with suppress(FileNotFoundError, PermissionError):  # another user's is not for us
            descriptor = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
            else:
                yield descriptor, path
