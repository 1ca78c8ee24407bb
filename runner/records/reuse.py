"""Results of whole attempts that need not be made again, since nothing that matters differs.

An entry only points at the evidence of the attempt, and pins it by its digest: where the evidence
is gone or was changed, there is no result.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from runner.domain.base import Noun
from runner.domain.execution import ExecutionStatus, TaskExecution
from runner.domain.limits import Limits
from runner.domain.run import RunPlan
from runner.domain.task import BenchmarkTask
from runner.records import layout
from runner.records.durable import model_bytes
from runner.records.snapshot import runner_version

_log = logging.getLogger(__name__)

KEY_VERSION = 1
"""Raised whenever what a key is made of changes."""

_KEY = re.compile(r"[0-9a-f]{64}")
_SETTINGS = ("gateway.", "sandbox.", "engine.runtime")
"""Settings that can change what an agent does or how it is judged."""
_CHANGE_NOTHING = frozenset({"gateway.record", "gateway.trace_messages"})
_JUDGED = frozenset(
    {
        ExecutionStatus.COMPLETED,
        ExecutionStatus.FAILED,
        ExecutionStatus.TIMEOUT,
        ExecutionStatus.RESOURCE_EXCEEDED,
    }
)


# -- the key -------------------------------------------------------------------------------------


def key_of(
    plan: RunPlan, task: BenchmarkTask, limits: Limits, repeat: int, *, script: str = ""
) -> str:
    """What an attempt's result depends on, as 64 hex digits: of equal keys, one attempt is enough.

    `limits` are those that hold for this attempt; `script` is the digest of the file that the
    setting `gateway.script` names, where it names one. Empty: nothing pins the result, since the
    agent is behind a URL, or the run is a replay.
    """
    if plan.image is None or plan.replay_of:
        return ""
    image = plan.image
    depends_on = {
        "key": KEY_VERSION,
        "image": image.content_digest or image.image_id,
        "started_as": image.model_dump(
            mode="json", include={"interface", "environment", "working_directory", "volumes"}
        ),
        "task": _digest(task.model_dump(mode="json")),
        "suite": [plan.suite.name, plan.suite.version],
        "limits": limits.model_dump(mode="json"),
        "seed": plan.seed,
        "repeat": repeat,
        "runner": runner_version(),
        "settings": _settings_that_matter(plan.settings),
        "script": script,
    }
    return _digest(depends_on)


def _settings_that_matter(settings: Mapping[str, Any]) -> dict[str, Any]:
    """By dotted name, as `RunPlan.settings` has them."""
    return {
        name: value
        for name, value in settings.items()
        if name.startswith(_SETTINGS) and name not in _CHANGE_NOTHING
    }


def _digest(value: object) -> str:
    """Of canonical JSON: sorted, without spaces, ASCII alone."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


# -- the cache -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Reusable:
    """A result of an earlier run, as its evidence has it."""

    execution: TaskExecution
    attempt: Path
    """The directory of the attempt."""

    @property
    def run(self) -> Path:
        """The directory of its run."""
        return self.attempt.parents[2]


class _Entry(Noun):
    """A file of the cache."""

    attempt: str
    """The directory of the attempt, absolute."""
    run_id: str
    task_id: str
    sha256: str
    """Of its execution.json."""


class ResultCache:
    """Results by key, in a directory of files; safe between processes and never in the way.

    What cannot be read is not there; what cannot be written is logged.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def find(self, key: str) -> Reusable | None:
        """The result of that key whose evidence is still there as it was."""
        entry = self._entry(key)
        if entry is None:
            return None
        attempt = Path(entry.attempt)
        try:
            data = (attempt / layout.EXECUTION).read_bytes()
            if hashlib.sha256(data).hexdigest() != entry.sha256:
                return None
            execution = TaskExecution.model_validate_json(data)
        except (OSError, ValidationError):
            return None
        fits = (execution.run_id, execution.task_id) == (entry.run_id, entry.task_id)
        return Reusable(execution=execution, attempt=attempt) if fits else None

    def remember(self, key: str, execution: TaskExecution, path: Path) -> bool:
        """Whether it was noted: only an attempt of its own with a verdict is, kept at `path`."""
        if not _KEY.fullmatch(key) or not is_original(execution):
            return False
        try:
            data = (path / layout.EXECUTION).read_bytes()
            entry = _Entry(
                attempt=str(path.absolute()),
                run_id=execution.run_id,
                task_id=execution.task_id,
                sha256=hashlib.sha256(data).hexdigest(),
            )
            self._write(self._file(key), model_bytes(entry))
        except OSError as error:
            _log.warning("cannot note a result in %s: %s", self._directory, error.strerror)
            return False
        return True

    def _entry(self, key: str) -> _Entry | None:
        if not _KEY.fullmatch(key):
            return None
        try:
            return _Entry.model_validate_json(self._file(key).read_bytes())
        except (OSError, ValidationError):
            return None

    def _file(self, key: str) -> Path:
        return self._directory / key[:2] / f"{key}.json"

    def _write(self, file: Path, data: bytes) -> None:
        """Whole or not at all, under a name that no other process has; the last one wins."""
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_name(f".{file.name}.{os.getpid()}-{secrets.token_hex(4)}")
        try:
            aside.write_bytes(data)
            aside.replace(file)
        finally:
            aside.unlink(missing_ok=True)


def is_original(execution: TaskExecution) -> bool:
    """Whether it was really made, all of it, and says something of the agent."""
    models, tools = execution.model_calls, execution.tool_calls
    from_cache = any(call.cached for call in models) or any(call.cached for call in tools)
    replayed = execution.divergence is not None
    judged = execution.has_verdict and execution.status in _JUDGED
    return judged and not (execution.reused_from or from_cache or replayed)
