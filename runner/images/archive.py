"""A `docker save` archive, taken apart and written anew without names, links and surprises.

Names are left out so that no archive can move a tag; what its manifest does not list is dropped.
Layers are measured here, because the engine unpacks them where no limit holds.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import posixpath
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn, Protocol, cast

from runner.domain.text import one_line
from runner.errors import BuildFailed
from runner.images.limits import MIB, BuildLimits

GZIP = b"\x1f\x8b"
COMPRESSED = (b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = MIB
MAX_CONFIG_BYTES = 4 * MIB
MAX_MEMBERS = 5000
MAX_LAYERS = 200
MAX_FILES = 1_000_000
MAX_READ_BYTES = 16 * MIB
"""tarfile reads a header's extension in one piece, as long as it claims to be."""
CHUNK_BYTES = MIB
TAR_ERRORS = (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError, ValueError)


class _Bounded(io.RawIOBase):
    """A file that hands out no huge piece at once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > MAX_READ_BYTES:
            raise tarfile.ReadError("a header is too long")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


@dataclass(frozen=True, kw_only=True)
class CleanArchive:
    """An archive that is safe to load."""

    file: IO[bytes]
    """At its beginning."""
    digest: str
    """SHA-256 of its contents, in hex."""
    image_id: str
    """What the engine must call the image."""


@contextmanager
def clean_archive(path: Path, limits: BuildLimits) -> Iterator[CleanArchive]:
    """The archive at `path`, written anew to a temporary file; raises BuildFailed."""
    shown = one_line(str(path))
    with tempfile.TemporaryFile(prefix="agenttrace-archive-") as file:
        try:
            digest, image_id = _rewrite(path, file, limits, shown)
        except TAR_ERRORS as error:
            _refuse(shown, f"is not a readable archive ({one_line(str(error), 80)})")
        file.seek(0)
        yield CleanArchive(file=file, digest=digest, image_id=image_id)


def _refuse(shown: str, problem: str) -> NoReturn:
    raise BuildFailed(
        f"archive {shown} {problem}", remedy="make it with `docker save -o FILE IMAGE`"
    )


def _rewrite(path: Path, target: IO[bytes], limits: BuildLimits, shown: str) -> tuple[str, str]:
    with path.open("rb") as original, _decompressed(original, limits, shown) as source:
        members = _members(source, shown)
        manifest = _Manifest.read(source, members, shown)
        return _Writer(source, target, limits, shown).write(manifest)


# -- reading -----------------------------------------------------------------------------------


class _Readable(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


@contextmanager
def _decompressed(file: IO[bytes], limits: BuildLimits, shown: str) -> Iterator[IO[bytes]]:
    """The file itself, or what it decompresses to, in a temporary file."""
    if _starts_with(file, COMPRESSED):
        _refuse(shown, "is compressed by something else than gzip")
    if not _starts_with(file, (GZIP,)):
        yield file
        return
    with tempfile.TemporaryFile(prefix="agenttrace-archive-") as plain:
        with gzip.GzipFile(fileobj=file, mode="rb") as unpacked:
            _copy(unpacked, plain, limits.image_bytes, shown)
        plain.seek(0)
        yield plain


def _starts_with(file: IO[bytes], prefixes: tuple[bytes, ...]) -> bool:
    position = file.tell()
    start = file.read(8)
    file.seek(position)
    return start.startswith(prefixes)


def _copy(source: _Readable, target: IO[bytes], limit: int, shown: str) -> int:
    """Copies all of `source`; refuses when that is more than `limit` bytes."""
    total = 0
    while chunk := source.read(CHUNK_BYTES):
        total += len(chunk)
        if total > limit:
            _refuse(shown, f"unpacks to more than {limit // MIB} MiB (build.image_bytes)")
        target.write(chunk)
    return total


def _members(source: IO[bytes], shown: str) -> dict[str, tarfile.TarInfo]:
    members: dict[str, tarfile.TarInfo] = {}
    with tarfile.open(fileobj=_Bounded(source), mode="r:") as archive:
        for count, member in enumerate(archive):
            if count >= MAX_MEMBERS:
                _refuse(shown, f"has more than {MAX_MEMBERS} entries")
            name = posixpath.normpath(member.name)
            if name.startswith(("/", "..")) or not name.isprintable():
                _refuse(shown, f"has an entry named {one_line(member.name, 80)!r}")
            members[name] = member
            _forget(archive)
    return members


def _forget(archive: tarfile.TarFile) -> None:
    """Drops the list of members that tarfile keeps for itself."""
    cast("Any", archive).members = []


@dataclass(frozen=True, kw_only=True)
class _Manifest:
    config: tarfile.TarInfo
    layers: tuple[tarfile.TarInfo, ...]

    @classmethod
    def read(cls, source: IO[bytes], members: dict[str, tarfile.TarInfo], shown: str) -> _Manifest:
        if MANIFEST not in members:
            _refuse(shown, f"is not an image: it has no {MANIFEST}")
        entry = _only_entry(_contents(source, members[MANIFEST], MAX_MANIFEST_BYTES, shown), shown)
        names = entry.get("Layers") or []
        if not isinstance(names, list) or len(names) > MAX_LAYERS:
            _refuse(shown, f"has no list of at most {MAX_LAYERS} layers")
        return cls(
            config=_find(members, entry.get("Config"), shown),
            layers=tuple(_find(members, name, shown) for name in names),
        )


def _only_entry(data: bytes, shown: str) -> dict[str, Any]:
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError):
        _refuse(shown, f"has a {MANIFEST} that is not JSON")
    if not isinstance(manifest, list) or len(manifest) != 1 or not isinstance(manifest[0], dict):
        _refuse(shown, "holds not exactly one image")
    return manifest[0]


def _find(members: dict[str, tarfile.TarInfo], name: object, shown: str) -> tarfile.TarInfo:
    """A regular file; a link is followed once, as older engines save a repeated layer as one."""
    path = posixpath.normpath(name) if isinstance(name, str) and name else ""
    member = members.get(path)
    if member is not None and member.issym():
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), member.linkname))
        member = members.get(target)
    if member is None or member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        _refuse(shown, f"lacks the file {one_line(repr(name), 80)} that its {MANIFEST} names")
    return member


def _contents(source: IO[bytes], member: tarfile.TarInfo, limit: int, shown: str) -> bytes:
    if member.size > limit:
        _refuse(shown, f"has a {one_line(member.name, 80)} of {member.size} bytes")
    source.seek(member.offset_data)
    return source.read(member.size)


# -- writing -----------------------------------------------------------------------------------


class _Writer:
    """Writes what the manifest lists, layers unpacked from gzip and measured."""

    def __init__(self, source: IO[bytes], target: IO[bytes], limits: BuildLimits, shown: str):
        self._source = source
        self._tar = tarfile.open(fileobj=target, mode="w")  # noqa: SIM115 - closed by `write`
        self._limits = limits
        self._shown = shown
        self._left = limits.image_bytes
        self._files_left = MAX_FILES

    def write(self, manifest: _Manifest) -> tuple[str, str]:
        """The content's digest and the image's id."""
        config = _contents(self._source, manifest.config, MAX_CONFIG_BYTES, self._shown)
        identity = hashlib.sha256(config).hexdigest()
        written: dict[int, str] = {}
        for layer in manifest.layers:
            if layer.offset_data not in written:
                written[layer.offset_data] = self._layer(layer, f"{len(written)}.tar")
        names = [written[layer.offset_data] for layer in manifest.layers]
        self._add(f"{identity}.json", config)
        listing = [{"Config": f"{identity}.json", "RepoTags": None, "Layers": names}]
        self._add(MANIFEST, json.dumps(listing).encode())
        self._tar.close()
        # The config names each layer by its digest, which the engine verifies.
        return identity, f"sha256:{identity}"

    def _layer(self, member: tarfile.TarInfo, name: str) -> str:
        with tempfile.TemporaryFile(prefix="agenttrace-layer-") as plain:
            self._unpack(member, plain)
            size = plain.tell()
            self._measure(plain)
            plain.seek(0)
            info = tarfile.TarInfo(name)
            info.size = size
            self._tar.addfile(info, plain)
        return name

    def _unpack(self, member: tarfile.TarInfo, plain: IO[bytes]) -> None:
        piece = cast("IO[bytes]", _Piece(self._source, member.offset_data, member.size))
        if _starts_with(piece, COMPRESSED):
            _refuse(self._shown, "has a layer that is compressed by something else than gzip")
        if _starts_with(piece, (GZIP,)):
            with gzip.GzipFile(fileobj=piece, mode="rb") as unpacked:
                _copy(unpacked, plain, self._left, self._shown)
        else:
            _copy(piece, plain, self._left, self._shown)

    def _measure(self, layer: IO[bytes]) -> None:
        """Counts what the engine will write: sparse files at their full length."""
        layer.seek(0)
        with tarfile.open(fileobj=_Bounded(layer), mode="r:") as archive:
            for member in archive:
                _forget(archive)
                self._files_left -= 1
                self._left -= max(member.size, 0)
                if self._left < 0 or self._files_left < 0:
                    limit = self._limits.image_bytes // MIB
                    _refuse(
                        self._shown,
                        f"unpacks to more than {limit} MiB (build.image_bytes), or too many files",
                    )

    def _add(self, name: str, data: bytes) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self._tar.addfile(info, io.BytesIO(data))


class _Piece(io.RawIOBase):
    """A stretch of a file as a file of its own."""

    def __init__(self, file: IO[bytes], start: int, size: int) -> None:
        self._file = file
        self._start = start
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        base = {0: 0, 1: self._position, 2: self._size}[whence]
        self._position = min(max(base + offset, 0), self._size)
        return self._position

    def read(self, size: int = -1) -> bytes:
        left = self._size - self._position
        self._file.seek(self._start + self._position)
        data = self._file.read(left if size < 0 else min(size, left))
        self._position += len(data)
        return data
