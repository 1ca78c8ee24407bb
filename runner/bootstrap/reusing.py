"""Results of earlier runs for this one: the setting `run.reuse`."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from runner.config import Settings, state_directory
from runner.domain import BenchmarkTask, Limits, RunPlan, TaskExecution
from runner.errors import InvalidConfiguration
from runner.ports import Reuse
from runner.records.reuse import ResultCache, key_of


def reuse_for(settings: Settings, plan: RunPlan) -> Reuse | None:
    """None unless it is wanted, and this run's results can stand for others'."""
    if not settings.run.reuse or plan.replay_of:
        return None
    cache = ResultCache(state_directory(settings, os.environ) / "results")
    return _EarlierResults(plan=plan, cache=cache, script=_digest_of(settings.gateway.script))


@dataclass(frozen=True, kw_only=True)
class _EarlierResults:
    """Implements ports.Reuse."""

    plan: RunPlan
    cache: ResultCache
    script: str

    def find(self, task: BenchmarkTask, limits: Limits, repeat: int) -> TaskExecution | None:
        """See ports.Reuse."""
        found = self.cache.find(self._key(task, limits, repeat))
        return found.execution if found else None

    def remember(self, task: BenchmarkTask, execution: TaskExecution, path: Path) -> None:
        """See ports.Reuse."""
        self.cache.remember(self._key(task, execution.limits, execution.repeat), execution, path)

    def _key(self, task: BenchmarkTask, limits: Limits, repeat: int) -> str:
        return key_of(self.plan, task, limits, repeat, script=self.script)


def _digest_of(script: str) -> str:
    """Of the file that `gateway.script` names; raises InvalidConfiguration."""
    if not script:
        return ""
    path = Path(script).expanduser()
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InvalidConfiguration(
            f"gateway.script: {path} cannot be read: {error.strerror}",
            remedy="name a TOML file of rules, or leave it empty",
        ) from error
