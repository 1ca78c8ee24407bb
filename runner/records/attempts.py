"""Which attempts a run directory holds, by the names of their directories."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from runner.domain.execution import TaskExecution
from runner.records import layout


def directories(path: Path) -> list[Path]:
    """Its subdirectories by name, links and what is being staged left out."""
    try:
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError:
        return []
    return [
        Path(entry.path)
        for entry in entries
        if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")
    ]


def attempts_at(run: Path, task_id: str) -> Iterator[tuple[int, int]]:
    """Repeat and attempt of each attempt at a task that has been kept, in no order."""
    try:
        entries = list(os.scandir(layout.attempt_path(run, task_id, 1, 1).parent))
    except OSError:
        return
    yield from filter(None, (layout.parse_attempt(entry.name) for entry in entries))


def final_executions(run: Path) -> list[TaskExecution]:
    """The last attempt of each task and repeat whose record can be read."""
    return [
        execution
        for task in directories(run / layout.TASKS)
        for execution in _finals_of(run, task.name)
    ]


def _finals_of(run: Path, task_id: str) -> Iterator[TaskExecution]:
    seen: set[int] = set()
    for repeat, attempt in sorted(attempts_at(run, task_id), reverse=True):
        if repeat not in seen and (execution := _read(run, task_id, repeat, attempt)):
            seen.add(repeat)
            yield execution


def _read(run: Path, task_id: str, repeat: int, attempt: int) -> TaskExecution | None:
    path = layout.attempt_path(run, task_id, repeat, attempt) / layout.EXECUTION
    try:
        return TaskExecution.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
