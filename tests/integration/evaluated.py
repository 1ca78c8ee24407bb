"""A suite written by a test, evaluated as a user would, with what is in its run directory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner import (
    BenchmarkExecution,
    ExecutionStatus,
    TaskExecution,
    TaskExecutor,
    load_submission,
)
from runner.config import load_settings


class Ran:
    """One run of a suite's tasks, and what is in its directory."""

    def __init__(self, execution: BenchmarkExecution, path: Path) -> None:
        self.path = path
        self.tasks = {one.task_id: one for one in execution.task_executions}

    def task(self, name: str) -> TaskExecution:
        return self.tasks[name]

    def said(self, name: str) -> Any:
        """What the agent answered; it had to answer."""
        task = self.tasks[name]
        assert task.status is ExecutionStatus.COMPLETED, (task.failure_detail, self.log(name))
        return json.loads(task.output)

    def exchanges(self, name: str) -> list[dict[str, Any]]:
        [file] = self.path.glob(f"tasks/{name}/*/exchanges.jsonl")
        return [json.loads(line) for line in file.read_text().splitlines()]

    def log(self, name: str) -> str:
        [file] = self.path.glob(f"tasks/{name}/*/stderr.log")
        return file.read_text("utf-8", "replace")[-2000:]

    def artifact(self, name: str, file: str) -> str:
        [path] = self.path.glob(f"tasks/{name}/*/artifacts/{file}")
        return path.read_text()


def evaluate(
    directory: Path, submission: Path, suite: str, flags: Mapping[str, object] | None = None
) -> Ran:
    """A run with the shipped settings but for `flags`; all is written below `directory`.

    `suite` is the text of its one category's file.
    """
    (directory / "suite").mkdir()
    (directory / "suite/suite.toml").write_text('format = 1\nname = "t"\nversion = "1"\n')
    (directory / "suite/tool_use.toml").write_text(suite)
    given = {"storage.runs_dir": str(directory / "runs"), **(flags or {})}
    settings = load_settings(given, cwd=directory, environ={}).settings
    executor = TaskExecutor(enable_retries=False, settings=settings, suite=str(directory / "suite"))
    made = asyncio.run(executor.execute_benchmark(load_submission(str(submission)), parallelism=2))
    assert executor.last_run
    return Ran(made, executor.last_run)


def task(name: str, extra: str = "", pattern: str = r".*The answer is 42\..*") -> str:
    """One of a suite: its prompt is its name."""
    return f"""
[[task]]
task_id = "{name}"
name = "{name}"
prompt = "{name}"
tools = ["calculator"]
{extra}
[[task.criteria]]
scorer = "regex"
pattern = '{pattern}'
"""
