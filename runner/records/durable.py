"""Files that are whole on disk, or not there: written, fsynced, renamed."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from runner.errors import StorageFailed

_REMEDIES = {
    errno.ENOSPC: "free some space, or choose another place with --output",
    errno.EDQUOT: "free some of this user's quota, or choose another place with --output",
    errno.EACCES: "give this user write permission there, or choose another place with --output",
    errno.EPERM: "give this user write permission there, or choose another place with --output",
    errno.EROFS: "that file system is read-only: choose another place with --output",
    errno.EEXIST: "evidence is never overwritten: use another run id or attempt number",
    errno.ENOTEMPTY: "evidence is never overwritten: use another run id or attempt number",
    errno.ENOTDIR: "a part of that path is a file: choose another place with --output",
    errno.ENAMETOOLONG: "choose a shorter place with --output",
}


@contextmanager
def storing(what: Path) -> Iterator[None]:
    """Turns an OSError of its block into StorageFailed, naming the file, the reason, the remedy."""
    try:
        yield
    except OSError as error:
        path = error.filename or what
        reason = (error.strerror or str(error)).lower()
        remedy = _REMEDIES.get(error.errno or 0, "check the disk, then run again")
        raise StorageFailed(f"cannot write {path}: {reason}", remedy=remedy) from error


def write_synced(path: Path, data: bytes) -> None:
    """Writes a new file, and waits for the disk unless it is empty: then its directory's fsync
    is enough. Raises OSError.
    """
    try:
        with path.open("xb") as file:
            file.write(data)
            if data:
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        error.filename = error.filename or str(path)  # write and fsync do not say which
        raise


def replace_synced(path: Path, data: bytes) -> None:
    """Writes a file that readers see whole or not at all. Raises OSError."""
    aside = path.with_name(f".{path.name}.new")
    aside.unlink(missing_ok=True)
    try:
        write_synced(aside, data)
        aside.rename(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Makes the names in a directory durable. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(top: Path) -> None:
    """Makes all that is below a directory durable; links are not followed. Raises OSError."""
    for directory, _, names in os.walk(top):
        for name in names:
            sync_file(Path(directory, name))
        sync_directory(Path(directory))


def sync_file(path: Path) -> None:
    """Makes a file durable; nothing for a link, or where there is none. Raises OSError."""
    if path.is_symlink() or not path.is_file():
        return
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def json_bytes(value: Any, *, indent: int | None = None) -> bytes:
    """UTF-8 JSON, whatever an agent put into its strings: a lone surrogate becomes U+FFFD."""
    separators = None if indent else (",", ":")
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators, default=str)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return replace_surrogates(text).encode()


def model_bytes(model: BaseModel, *, indent: int | None = None) -> bytes:
    """A noun as UTF-8 JSON; see `json_bytes`."""
    try:
        return model.model_dump_json(indent=indent).encode()
    except (PydanticSerializationError, UnicodeEncodeError):
        return json_bytes(model.model_dump(mode="json"), indent=indent)


def replace_surrogates(text: str) -> str:
    """`text` with surrogate pairs joined and lone surrogates replaced by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
