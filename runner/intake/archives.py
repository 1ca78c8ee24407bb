"""Tar and zip archives, read as what they are: a stranger's bytes.

Their own claims are not believed: what a read or a header may take of memory is capped, and what
comes out of a decompressor is counted as it comes.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from runner.domain.text import one_line
from runner.errors import InvalidSubmission
from runner.intake.tree import CHUNK_BYTES, BundleLimits, Tree

ARCHIVE_SUFFIXES = (
    *(".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz"),
    *(".tar.bz2", ".tbz2", ".zip"),
)
MAX_HEADER_BYTES = 64 * 1024
"""Of one long name or pax header."""
MAX_DIRECTORY_BYTES = 8 * 1024**2
"""Of a zip's central directory, which is read as a whole."""
XZ_MEMORY_BYTES = 128 * 1024**2
"""`xz -9` needs half of it."""
SLACK_BYTES = 64 * 1024**2
"""Headers, padding and clutter that may come with an archive's files."""

_READABLE_ZIPS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_UNIX = 3
_BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError),
    *(ValueError, ArithmeticError, LookupError, struct.error),
    *(RecursionError, NotImplementedError),
)
"""What the readers of the standard library raise for an archive that is not one."""


def is_archive(path: Path) -> bool:
    """Whether the name says that it is an archive."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def unpack(path: Path, tree: Tree, limits: BundleLimits) -> None:
    """Puts all that the archive holds into `tree`; raises InvalidSubmission, StorageFailed."""
    shown = one_line(str(path))
    with _opened(path, limits) as file, _readable(shown):
        if file.name.lower().endswith(".zip"):
            _unpack_zip(file, tree)
            return
        with _plain(file) as plain:
            _unpack_tar(_Counted(plain, 2 * limits.max_bytes + SLACK_BYTES), tree)


@contextmanager
def _opened(path: Path, limits: BundleLimits) -> Iterator[IO[bytes]]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise InvalidSubmission(
            f"{one_line(str(path))} cannot be read: {(error.strerror or str(error)).lower()}",
            remedy="check the path, and that this user may read it",
        ) from None
    with file:
        if path.stat().st_size > limits.max_bytes + SLACK_BYTES:
            raise InvalidSubmission(
                f"{one_line(str(path))} is larger than submissions may be, even packed",
                remedy="leave out what the agent does not need (setting submissions.max_bytes)",
            )
        yield file


@contextmanager
def _readable(shown: str) -> Iterator[None]:
    """What is wrong with an archive is the submission's fault."""
    try:
        yield
    except _BROKEN as error:
        raise InvalidSubmission(
            f"{shown} is not an archive that can be read: {one_line(str(error), 120)}",
            remedy="pack it again: tar -czf NAME.tar.gz DIRECTORY",
        ) from None


def _refusal(name: str, what: str, remedy: str = "leave it out, or copy the file in") -> Exception:
    return InvalidSubmission(f"{one_line(name, 120)} is {what}, not a file", remedy=remedy)


# -- tar -----------------------------------------------------------------------------------------


class _Counted(io.RawIOBase):
    """A decompressed stream that ends in an error when it gets longer than `limit` bytes."""

    def __init__(self, file: Any, limit: int) -> None:
        self._file = file
        self._left = limit

    def read(self, size: int = -1) -> bytes:
        try:
            data: bytes = self._file.read(CHUNK_BYTES if size < 0 else min(size, CHUNK_BYTES))
        except OSError as error:  # how gzip and bz2 report bytes that are neither
            raise tarfile.ReadError(str(error)) from None
        self._left -= len(data)
        if self._left < 0:
            raise InvalidSubmission(
                "the archive unpacks to far more than submissions may hold",
                remedy="leave out what the agent does not need (setting submissions.max_bytes)",
            )
        return data


class _Member(tarfile.TarInfo):
    """A header that is refused where `tarfile` would take its word for how much to remember."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise _refusal(self.name, "a sparse file", "pack it without tar's --sparse")
        is_header = not self.isreg() and self.type in _HEADERS
        if is_header and self.size > MAX_HEADER_BYTES:
            raise tarfile.ReadError("a header of more than 64 KiB")
        found: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        return found

    def _refuse_sparse(self, *_: object) -> None:
        raise _refusal(self.name, "a sparse file", "pack it without tar's --sparse")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _Member:
        """The next header; one that is damaged is not taken for the end of the archive."""
        try:
            return super().fromtarfile(archive)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(str(error)) from None


_HEADERS = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)


@contextmanager
def _plain(file: IO[bytes]) -> Iterator[Any]:
    """The tar within its compression, which its first bytes tell."""
    head = file.read(6)
    file.seek(0)
    if head.startswith(b"\x1f\x8b"):
        with gzip.GzipFile(fileobj=file) as plain:
            yield plain
    elif head.startswith(b"BZh"):
        with bz2.BZ2File(file) as unpacked:
            yield unpacked
    elif head.startswith(b"\xfd7zXZ\x00"):
        yield _Xz(file)
    else:
        yield file


class _Xz:
    """An xz stream, read within a limit of memory, which `lzma.open` has no argument for."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES)

    def read(self, size: int) -> bytes:
        while not self._decoder.eof:
            packed = self._file.read(CHUNK_BYTES) if self._decoder.needs_input else b""
            if self._decoder.needs_input and not packed:
                raise EOFError("it ends too early")
            if data := self._decoder.decompress(packed, size):
                return data
        return b""


def _unpack_tar(stream: _Counted, tree: Tree) -> None:
    with tarfile.open(
        fileobj=stream, mode="r|", tarinfo=_Member, encoding="utf-8", errors="surrogateescape"
    ) as archive:
        for member in archive:
            tree.visit()
            if tree.wants(member.name):
                _add_member(archive, member, tree)
    while stream.read(CHUNK_BYTES):  # to its end, where the checksum is
        pass


def _add_member(archive: tarfile.TarFile, member: tarfile.TarInfo, tree: Tree) -> None:
    if member.isdir():
        tree.directory(member.name)
        return
    if member.issym() or member.islnk():
        raise _refusal(member.name, "a link")
    if not member.isreg():
        raise _refusal(member.name, "a device or a pipe", "leave it out")
    content = archive.extractfile(member)
    if content is None or member.size < 0:
        raise tarfile.ReadError("a file without content, or of negative length")
    tree.file(member.name, member.size, bool(member.mode & 0o100), chunks_of(content))


def chunks_of(file: IO[bytes]) -> Iterator[bytes]:
    """What is left of a file, in pieces."""
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


# -- zip -----------------------------------------------------------------------------------------


class _Bounded(io.RawIOBase):
    """A zip file of which no single read takes more than a central directory may have."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size > MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile("its directory is too large")
        return self._file.read(size if size >= 0 else MAX_DIRECTORY_BYTES)

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except OSError:  # before the beginning: an offset of the archive's own
            raise zipfile.BadZipFile("an offset outside the file") from None

    def tell(self) -> int:
        return self._file.tell()


def _unpack_zip(file: IO[bytes], tree: Tree) -> None:
    with zipfile.ZipFile(_Bounded(file)) as archive:
        for member in archive.infolist():
            tree.visit()
            name = member.orig_filename  # `filename` ends where a NUL is
            if tree.wants(name):
                _add_zipped(archive, member, name, tree)


def _add_zipped(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, tree: Tree) -> None:
    mode = member.external_attr >> 16 if member.create_system == _UNIX else 0
    kind = stat.S_IFMT(mode)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _refusal(name, "a link" if stat.S_ISLNK(mode) else "a device or a pipe")
    if member.flag_bits & _ENCRYPTED:
        raise _refusal(name, "encrypted", "pack it without a password")
    if name.endswith("/"):
        tree.directory(name)
        return
    if member.compress_type not in _READABLE_ZIPS:
        raise _refusal(name, "packed in a way that is not read here", "pack it with deflate")
    with archive.open(member) as content:
        tree.file(name, member.file_size, bool(mode & 0o100), chunks_of(content))
