"""Removes old runs and what killed runners left, whole or not at all, and nothing beside them.

A run goes by a rename to `.removing-<id>`, so that no reader sees half of one, and is then deleted
under that name; a deletion that was cut short is finished next time. Links are never followed.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from runner.domain.removal import Cleaned, Kept, Removal, RemovalKind
from runner.domain.run import EventKind
from runner.records import layout
from runner.records.durable import sync_directory

REMOVING = ".removing-"
RESOLVING = ".resolving-"
"""Where wheels are resolved, beside those that are kept; see `runner.images.wheels`."""
ABANDONED_SECONDS = 86400
"""Longer than anything that has no lock can take."""
BLOCK_BYTES = 512
MAX_EXECUTION_BYTES = 256 * 1024 * 1024
TAIL_BYTES = 1024 * 1024
LAST_EVENTS = (EventKind.RUN_FINISHED, EventKind.RUN_DRAINING)

OLD_RUN = "ended longer ago than retention.runs_days"
OLD_UNFINISHED = "not finished, and unchanged for longer than retention.runs_days"
CUT_SHORT = "a removal that was cut short"
STAGED = "staged by a runner that was killed"
OLD_BUNDLE = "files of a submission whose job ended longer ago than retention.runs_days"
OLD_LOG = "a build's log, older than retention.runs_days"
UNRESOLVED = "wheels that a killed runner was resolving"
IN_PROGRESS = "the run is in progress"
JOB_NOT_ENDED = "its job has not ended, or not long ago"

_BUILD_LOG = re.compile(r"(build|load)-[0-9a-f]{16}\.log")

Keep = Callable[[str], bool]
"""Whether the job of that run id is one whose files must stay; what it raises ends the clean-up."""


@dataclass(frozen=True, kw_only=True)
class Retention:
    """What is old enough to go, and whether it does."""

    now: float
    """In seconds since 1970, as all times here."""
    seconds: float | None
    """None: nothing goes for its age."""
    keep: Keep
    dry_run: bool

    def is_over(self, changed: float) -> bool:
        """Whether what was last changed then is too old."""
        return self.seconds is not None and self.now - changed > self.seconds


def clean_runs(root: Path, retention: Retention) -> Cleaned:
    """Removes runs that are too old, and what was staged and never kept in all others."""
    cleaned = _finish_removals(root, retention)
    for run in _directories(root):
        if layout.is_safe_name(run.name) and _is_run(run):
            try:
                cleaned += _clean_run(run, retention)
            except FileNotFoundError:
                continue  # another clean-up was faster
            except OSError as error:
                cleaned += _kept(run, _reason(error))
    return cleaned


def clean_submissions(root: Path, retention: Retention) -> Cleaned:
    """Removes the files of submissions, `root/<run id>/`, that no job needs any more."""
    cleaned = _finish_removals(root, retention)
    for bundle in _directories(root):
        if layout.is_safe_name(bundle.name) and _came_long_ago(bundle, retention):
            if retention.keep(bundle.name):
                cleaned += _kept(bundle, JOB_NOT_ENDED)
            else:
                cleaned += _removed(bundle, RemovalKind.SUBMISSION, OLD_BUNDLE, retention)
    return cleaned


def clean_build_logs(directory: Path, retention: Retention) -> Cleaned:
    """Removes the logs of builds that are too old; a new build writes a new one."""
    cleaned = Cleaned()
    for entry in _entries(directory):
        if _BUILD_LOG.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
            path = Path(entry.path)
            if retention.is_over(path.lstat().st_mtime):
                cleaned += _removed_file(path, OLD_LOG, retention)
    return cleaned


def clean_wheels(directory: Path, retention: Retention) -> Cleaned:
    """Removes what was being resolved by a runner that was killed; resolved wheels stay."""
    cleaned = _finish_removals(directory, retention)
    for path in _directories(directory):
        if path.name.startswith(RESOLVING) and retention.now - _changed(path) > ABANDONED_SECONDS:
            cleaned += _removed(path, RemovalKind.FILE, UNRESOLVED, retention)
    return cleaned


def _came_long_ago(bundle: Path, retention: Retention) -> bool:
    """Its job is queued after its files have come, so that at first nobody may know of it."""
    came = _modified(bundle)
    return retention.is_over(came) and retention.now - came > ABANDONED_SECONDS


# -- one run -------------------------------------------------------------------------------------


def _is_run(path: Path) -> bool:
    """Whether a runner made it: in `runs_dir` there may be anything."""
    return _is_file(path / layout.EVENTS) and _is_directory(path / layout.TASKS)


def _clean_run(run: Path, retention: Retention) -> Cleaned:
    why = _too_old(run, retention)
    if why is None and not _anything_staged(run):
        return Cleaned()
    with _locked(run) as free:
        if not free:
            return _kept(run, IN_PROGRESS)
        why = _too_old(run, retention)  # now that nobody can change it
        if why is None:
            return _removed_staging(run, retention)
        if retention.keep(run.name):
            return _kept(run, JOB_NOT_ENDED) + _removed_staging(run, retention)
        return _removed(run, RemovalKind.RUN, why, retention)


def _too_old(run: Path, retention: Retention) -> str | None:
    """Why the run goes; None: it stays."""
    if retention.seconds is None:
        return None
    ended = _ended(run / layout.EXECUTION)
    if ended is not None and not _went_on(run):
        return OLD_RUN if retention.is_over(ended) else None
    return OLD_UNFINISHED if retention.is_over(_last_change(run)) else None


def _ended(execution: Path) -> float | None:
    """When the run ended, as its own record says; None: it has none that can be read."""
    try:
        if not _is_file(execution) or execution.stat().st_size > MAX_EXECUTION_BYTES:
            return None
        ended = datetime.fromisoformat(json.loads(execution.read_bytes())["finished_at"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return ended.timestamp() if ended.tzinfo else None


def _went_on(run: Path) -> bool:
    """Whether something happened after the end that its record tells of: it was resumed."""
    try:
        with (run / layout.EVENTS).open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            last = json.loads((file.read().splitlines() or [b"{}"])[-1])
    except (OSError, ValueError, RecursionError):
        return True
    return isinstance(last, dict) and last.get("kind", EventKind.RUN_FINISHED) not in LAST_EVENTS


def _last_change(run: Path) -> float:
    parts = (run, run / layout.EVENTS, run / layout.TASKS, run / layout.LOCK)
    return max(map(_modified, parts))


def _anything_staged(run: Path) -> bool:
    staging = run / layout.STAGING
    return _is_directory(staging) and any(_entries(staging))


def _removed_staging(run: Path, retention: Retention) -> Cleaned:
    if not _anything_staged(run):
        return Cleaned()
    return _deleted(run / layout.STAGING, RemovalKind.STAGING, STAGED, retention)


@contextmanager
def _locked(run: Path) -> Iterator[bool]:
    """Whether no runner is at the run; if so, none can begin to be within the block."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(run / layout.EVENTS, flags)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            # Who takes a run over gives its log a new file.
            yield _is_at(run / layout.EVENTS, descriptor)
    finally:
        os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


# -- removing ------------------------------------------------------------------------------------


def _finish_removals(root: Path, retention: Retention) -> Cleaned:
    cleaned = Cleaned()
    for path in _directories(root):
        if path.name.startswith(REMOVING):
            cleaned += _deleted(path, RemovalKind.FILE, CUT_SHORT, retention)
    return cleaned


def _removed(path: Path, kind: RemovalKind, why: str, retention: Retention) -> Cleaned:
    """Renames the directory aside, then deletes it."""
    if retention.dry_run:
        return _gone(path, kind, why, disk_bytes(path))
    aside = path.with_name(f"{REMOVING}{path.name.lstrip('.')}-{secrets.token_hex(4)}")
    try:
        path.rename(aside)
        sync_directory(path.parent)
    except FileNotFoundError:  # another clean-up was faster
        return Cleaned()
    except OSError as error:
        return _kept(path, _reason(error))
    deleted = _deleted(aside, kind, why, retention)
    renamed = (r.model_copy(update={"name": str(path)}) for r in deleted.removed)
    return deleted.model_copy(update={"removed": tuple(renamed)})


def _deleted(path: Path, kind: RemovalKind, why: str, retention: Retention) -> Cleaned:
    size = disk_bytes(path)
    if retention.dry_run:
        return _gone(path, kind, why, size)
    errors: list[OSError] = []
    shutil.rmtree(path, onerror=lambda _function, _path, failure: _note(errors, failure[1]))
    if errors and path.exists():
        left = disk_bytes(path)
        return _kept(path, f"{_reason(errors[0])}; {left} bytes of it are left")
    return _gone(path, kind, why, size)


def _note(errors: list[OSError], error: BaseException) -> None:
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
        errors.append(error)


def _removed_file(path: Path, why: str, retention: Retention) -> Cleaned:
    size = disk_bytes(path)
    try:
        if not retention.dry_run:
            path.unlink(missing_ok=True)
    except OSError as error:
        return _kept(path, _reason(error))
    return _gone(path, RemovalKind.FILE, why, size)


def _gone(path: Path, kind: RemovalKind, why: str, size: int) -> Cleaned:
    return Cleaned(removed=(Removal(kind=kind, name=str(path), why=why, bytes_freed=size),))


def _kept(path: Path, why: str) -> Cleaned:
    return Cleaned(kept=(Kept(name=str(path), why=why),))


def _reason(error: OSError) -> str:
    return f"it cannot be removed: {(error.strerror or str(error)).lower()}"


# -- looking -------------------------------------------------------------------------------------


def disk_bytes(path: Path) -> int:
    """What a file, or all below a directory, takes of the disk; each file counts once."""
    seen: dict[tuple[int, int], int] = {}
    for each in (path, *_below(path)):
        with suppress(OSError):
            found = each.lstat()
            seen[found.st_dev, found.st_ino] = found.st_blocks * BLOCK_BYTES
    return sum(seen.values())


def _below(path: Path) -> Iterator[Path]:
    if _is_directory(path):
        for directory, directories, files in os.walk(path):
            yield from (Path(directory, name) for name in (*directories, *files))


def _changed(path: Path) -> float:
    """When anything in it was last changed."""
    return max(map(_modified, (path, *_below(path))))


def _modified(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def _entries(path: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


def _directories(path: Path) -> list[Path]:
    """Its real subdirectories, hidden ones included."""
    entries = _entries(path)
    return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]


def _is_directory(path: Path) -> bool:
    return stat.S_ISDIR(_mode(path))


def _is_file(path: Path) -> bool:
    return stat.S_ISREG(_mode(path))


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except OSError:
        return 0
