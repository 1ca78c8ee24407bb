"""Where each file of a run directory is; the one module that knows the names."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from runner.domain import gateway
from runner.errors import UsageError

SUBMISSION = "submission.json"
CONFIG = "config.json"
LOCK = "lock.json"
EXECUTION = "execution.json"
EVENTS = "events.jsonl"
SPENDING = "spending.jsonl"
TASKS = "tasks"
STAGING = ".staging"
TRACE = "trace.otlp.jsonl"
STDOUT = "stdout.log"
STDERR = "stderr.log"
ARTIFACTS = "artifacts"
EXCHANGES = gateway.EXCHANGES

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_ATTEMPT = re.compile(r"(\d{1,9})-(\d{1,9})")


def new_run_id(now: datetime, entropy: bytes) -> str:
    """`20261122-103800-1f2e3d`: sorts by time (UTC); the first three bytes of `entropy` tell
    apart what started within one second.
    """
    return f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-{entropy[:3].hex():0>6}"


def is_safe_name(name: str) -> bool:
    """Whether `name` can be one component of a path: no separator, no leading dot, no controls."""
    return _SAFE_NAME.fullmatch(name) is not None


def run_path(root: Path, run_id: str) -> Path:
    """The directory of that run; raises UsageError for an id that cannot be one."""
    if not is_safe_name(run_id):
        raise UsageError(
            f"{run_id!r} is not a run id", remedy="use letters, digits, dots and dashes"
        )
    return root / run_id


def attempt_path(run: Path, task_id: str, repeat: int, attempt: int) -> Path:
    """The directory of that attempt; raises UsageError for an id that cannot be a task's."""
    if not is_safe_name(task_id):
        raise UsageError(f"{task_id!r} is not a task id", remedy="`agenttrace suite show` has them")
    return run / TASKS / task_id / f"{repeat}-{attempt}"


def parse_attempt(name: str) -> tuple[int, int] | None:
    """Repeat and attempt from the name of an attempt's directory; None for any other name."""
    found = _ATTEMPT.fullmatch(name)
    return (int(found[1]), int(found[2])) if found else None
