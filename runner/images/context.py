"""A build context: a directory as a deterministic tar that holds nothing from outside it."""

from __future__ import annotations

import hashlib
import io
import os
import posixpath
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO

from runner.domain.text import one_line
from runner.errors import BuildFailed
from runner.images.ignore import IgnoreRules
from runner.images.limits import BuildLimits

DIRECTORY_MODE = 0o755
FILE_MODE = 0o644
PROGRAM_MODE = 0o755
VISITS_PER_FILE = 10
"""How many ignored files may be looked at for each that may be sent."""


class _Hashing(io.RawIOBase):
    """Passes writes on to a file and into a hash."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.hash = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.hash.update(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()


class Context:
    """A context in the making, kept in a temporary file; use it as a context manager.

    The same files give the same bytes, whoever owns them and whenever they were written. Every
    method raises BuildFailed for what cannot be sent.
    """

    def __init__(self, limits: BuildLimits) -> None:
        self._limits = limits
        self._file = tempfile.TemporaryFile(prefix="agenttrace-context-")  # noqa: SIM115
        self._hashing = _Hashing(self._file)
        self._tar = tarfile.open(  # noqa: SIM115
            fileobj=self._hashing, mode="w", format=tarfile.PAX_FORMAT
        )
        self._bytes = 0
        self._files = 0

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def digest(self) -> str:
        """SHA-256 of what was added so far, in hex."""
        return self._hashing.hash.hexdigest()

    def add_bytes(self, name: str, data: bytes) -> None:
        """A file of ours; it counts against no limit."""
        info = _member(name, tarfile.REGTYPE, FILE_MODE)
        info.size = len(data)
        self._tar.addfile(info, io.BytesIO(data))

    def add_own_file(self, name: str, path: Path) -> None:
        """A file of ours from the host; it counts against no limit."""
        info = _member(name, tarfile.REGTYPE, FILE_MODE)
        info.size = path.stat().st_size
        with path.open("rb") as file:
            self._tar.addfile(info, file)

    def add_tree(self, root: Path, ignore: IgnoreRules, prefix: str = "") -> None:
        """Everything in the directory that `ignore` leaves."""
        for relative in _walk(root, ignore, VISITS_PER_FILE * self._limits.context_files):
            self._add(root, relative, prefix)

    def add_path(self, root: Path, relative: str, prefix: str = "") -> None:
        """One file of the directory."""
        self._add(root, relative, prefix)

    def finished(self) -> IO[bytes]:
        """The whole tar, at its beginning; nothing can be added afterwards."""
        self._tar.close()
        self._file.seek(0)
        return self._file

    def _add(self, root: Path, relative: str, prefix: str) -> None:
        path = root / relative
        name = posixpath.join(prefix, relative)
        _check_name(name)
        self._count(1, 0)
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            self._tar.addfile(_member(name, tarfile.DIRTYPE, DIRECTORY_MODE))
        elif stat.S_ISLNK(mode):
            self._add_link(path, relative, name)
        elif stat.S_ISREG(mode):
            self._add_file(path, name)
        else:
            raise BuildFailed(
                f"{one_line(str(path))} is a {_kind(mode)}, not a file",
                remedy=f"remove it, or name it in {root.name}/.dockerignore",
            )

    def _add_link(self, path: Path, relative: str, name: str) -> None:
        target = os.readlink(path)  # noqa: PTH115 - Path would normalise it
        landing = posixpath.normpath(posixpath.join(posixpath.dirname(relative), target))
        if posixpath.isabs(target) or landing == ".." or landing.startswith("../"):
            raise BuildFailed(
                f"{one_line(str(path))} links to {one_line(target)!r}, out of the submission",
                remedy="copy the file in, remove the link, or name it in .dockerignore",
            )
        _check_name(target)
        info = _member(name, tarfile.SYMTYPE, 0o777)
        info.linkname = target
        self._tar.addfile(info)

    def _add_file(self, path: Path, name: str) -> None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise OSError("it was replaced meanwhile")  # noqa: TRY301
                self._count(0, status.st_size)
                mode = PROGRAM_MODE if status.st_mode & 0o100 else FILE_MODE
                info = _member(name, tarfile.REGTYPE, mode)
                info.size = status.st_size
                self._tar.addfile(info, file)
        except OSError as error:
            raise BuildFailed(
                f"{one_line(str(path))} cannot be read: {one_line(str(error.strerror or error))}",
                remedy="make it readable, or name it in .dockerignore",
            ) from error

    def _count(self, files: int, size: int) -> None:
        self._files += files
        self._bytes += size
        limits = self._limits
        if self._files > limits.context_files or self._bytes > limits.context_bytes:
            raise BuildFailed(
                f"the submission has more than {limits.context_files} files or"
                f" {limits.context_bytes // 1024**2} MiB",
                remedy="leave files out with .dockerignore (limits: build.context_files,"
                " build.context_bytes)",
            )


def _walk(root: Path, ignore: IgnoreRules, most: int) -> Iterator[str]:
    """Relative paths in a fixed order, directories before what they hold; links not followed.

    Looks at no more than `most` entries, ignored ones included.
    """
    pending = [""]
    while pending:
        directory = pending.pop()
        below: list[str] = []
        with os.scandir(root / directory) as entries:
            found = sorted(islice(entries, most + 1), key=lambda entry: entry.name)
        most -= len(found)
        if most < 0:
            raise BuildFailed(
                f"{one_line(str(root))} has too many files, ignored ones included",
                remedy="move them out of the submission's directory",
            )
        for entry in found:
            relative = posixpath.join(directory, entry.name)
            excluded = ignore.excludes(relative)
            if not excluded:
                yield relative
            if entry.is_dir(follow_symlinks=False) and (not excluded or ignore.has_exceptions):
                below.append(relative)
        pending += reversed(below)


def _member(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.mode = mode
    return info


def _check_name(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise BuildFailed(
            f"the file name {one_line(name)} is not UTF-8", remedy="rename the file"
        ) from None


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "named pipe", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device"}
    return kinds.get(stat.S_IFMT(mode), "device")
