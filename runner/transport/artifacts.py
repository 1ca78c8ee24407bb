"""The agent's output directory, extracted by us: names and bytes are hostile."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

from runner.domain import Artifact, Limits
from runner.domain.mounts import OUTPUT_DIRECTORY
from runner.errors import ProtocolViolation, StorageFailed
from runner.transport.frames import Frame, Kind
from runner.transport.launch import AgentUser
from runner.transport.link import Link, LinkEnded
from runner.transport.messages import Collected, File, parse

COLLECT_SECONDS = 60.0
MAX_ENTRIES = 10_000
MAX_DEPTH = 16
MAX_NAME_BYTES = 255
LISTED_SKIPS = 200
"""How many skipped entries are listed one by one."""


async def collect(
    link: Link, directory: Path, limits: Limits, user: AgentUser
) -> tuple[Artifact, ...]:
    """Copies what the shim offers into `directory`; what cannot be kept is listed with a reason.

    Raises StorageFailed when our own disk is full.
    """
    collection = Collection(directory, limits)
    try:
        async with asyncio.timeout(COLLECT_SECONDS):
            await link.send_json(Kind.COLLECT, _request(limits, user))
            await _receive(link, collection)
    except (LinkEnded, TimeoutError, ProtocolViolation) as error:
        collection.abandon(str(error) or "took too long")
    except OSError as error:
        raise StorageFailed(
            f"artifacts cannot be kept in {directory}: {error.strerror}",
            remedy="free some space, or use -o on another disk",
        ) from error
    return collection.artifacts()


def _request(limits: Limits, user: AgentUser) -> dict[str, object]:
    return {
        "directory": OUTPUT_DIRECTORY,
        "uid": user.uid,
        "gid": user.gid,
        "max_bytes": limits.artifact_bytes,
        "max_files": limits.artifact_files,
        "max_entries": MAX_ENTRIES,
        "max_depth": MAX_DEPTH,
    }


async def _receive(link: Link, collection: Collection) -> None:
    while True:
        frame = await link.expect(Kind.FILE, Kind.COLLECTED)
        if frame.kind is Kind.COLLECTED:
            if reason := parse(Collected, frame.payload).truncated:
                collection.abandon(reason)
            return
        file = parse(File, frame.payload)
        if file.skipped:
            collection.skip(file, file.skipped)
        else:
            await _receive_file(link, collection, file)


async def _receive_file(link: Link, collection: Collection, file: File) -> None:
    with collection.open(file) as sink:
        while True:
            frame: Frame = await link.expect(Kind.FILE_DATA, Kind.FILE_END)
            if frame.kind is Kind.FILE_END:
                return
            sink.write(frame.payload)


class Collection:
    """What has been kept and skipped so far, under the limits' caps whatever the shim says."""

    def __init__(self, directory: Path, limits: Limits) -> None:
        self.directory = directory
        self._bytes_left = limits.artifact_bytes
        self._files_left = limits.artifact_files
        self._kept: list[Artifact] = []
        self._skipped: list[Artifact] = []
        self._unlisted = 0

    def artifacts(self) -> tuple[Artifact, ...]:
        """All of it, kept ones first."""
        rest = self._unlisted
        more = [Artifact(path=".", skipped=f"{rest} more entries were skipped")] if rest else []
        return (*self._kept, *self._skipped, *more)

    def skip(self, file: File, reason: str) -> None:
        """Notes an entry that is not kept."""
        if len(self._skipped) >= LISTED_SKIPS:
            self._unlisted += 1
            return
        entry = Artifact(path=safe_path(file.path), size_bytes=file.size, skipped=reason[:200])
        self._skipped.append(entry)

    def abandon(self, reason: str) -> None:
        """Notes that the collection is incomplete."""
        self._skipped.append(Artifact(path=".", skipped=f"incomplete: {reason[:200]}"))

    def open(self, file: File) -> Sink:
        """A sink for the file's bytes."""
        if self._files_left <= 0:
            raise ProtocolViolation("more files than were asked for")
        self._files_left -= 1
        return Sink(self, file)

    def spend(self, count: int) -> None:
        """Counts bytes against the cap."""
        self._bytes_left -= count
        if self._bytes_left < 0:
            raise ProtocolViolation("more bytes than were asked for")

    def keep(self, artifact: Artifact) -> None:
        """Notes a file that has arrived whole."""
        self._kept.append(artifact)

    def target(self, path: str) -> Path:
        """Where a file of that (safe) path goes, its directories made."""
        target = self.directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return target


class Sink:
    """One file on its way to disk; a context manager."""

    def __init__(self, collection: Collection, file: File) -> None:
        self._collection = collection
        self._file = file
        self._digest = hashlib.sha256()
        self._size = 0
        self._path = safe_path(file.path)
        self._descriptor = -1

    def __enter__(self) -> Sink:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            self._descriptor = os.open(self._collection.target(self._path), flags, 0o600)
        except OSError as error:
            self._collection.skip(self._file, f"cannot be stored: {error.strerror}")
        return self

    def write(self, data: bytes) -> None:
        """Appends, within the caps."""
        self._collection.spend(len(data))
        self._size += len(data)
        if self._descriptor >= 0:
            self._digest.update(data)
            self._store(data)

    def _store(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            raise StorageFailed(
                f"artifacts cannot be written to {self._collection.directory}: {error.strerror}",
                remedy="free some space, or use -o on another disk",
            ) from error

    def __exit__(self, kind: object, *_: object) -> None:
        if self._descriptor < 0:
            return
        os.close(self._descriptor)
        if kind is None:
            self._collection.keep(
                Artifact(path=self._path, size_bytes=self._size, sha256=self._digest.hexdigest())
            )
        else:  # half a file is no evidence
            self._collection.target(self._path).unlink(missing_ok=True)


def safe_path(path: str) -> str:
    """A relative path of harmless components; what is not printable ASCII becomes %XX.

    The result stays below the directory it is joined to, whatever `path` holds, and differs for
    paths that differ.
    """
    components = [_safe_name(part) for part in path.split("/") if part]
    return "/".join(components) or "%"


def _safe_name(name: str) -> str:
    raw = _bytes_of(name)
    safe = "".join(chr(b) if _harmless(b) else f"%{b:02X}" for b in raw)
    if safe.startswith("."):
        safe = "%2E" + safe[1:]
    if len(safe) > MAX_NAME_BYTES:
        digest = hashlib.sha256(raw).hexdigest()[:16]
        safe = f"{safe[: MAX_NAME_BYTES - 20]}%{digest}"
    return safe


def _bytes_of(name: str) -> bytes:
    """The name's bytes, a character each; what no shim sends becomes something, and no error."""
    try:
        return name.encode("latin-1")
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogatepass")


def _harmless(byte: int) -> bool:
    return 0x21 <= byte < 0x7F and chr(byte) not in "%\\<>:\"|?*&;$`!'(){}[]~#"
