"""Which attempts a run directory holds, by the names of their directories."""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import FileIO
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
    yield from (numbers for numbers, _ in _kept_in(layout.attempt_path(run, task_id, 1, 1).parent))


def final_executions(run: Path) -> Iterator[TaskExecution]:
    """The last attempt of each task and repeat whose record can be read, one at a time: a run may
    have more of them than there is memory for.
    """
    for task in directories(run / layout.TASKS):
        yield from _finals_of(task)


def _finals_of(task: Path) -> Iterator[TaskExecution]:
    seen: set[int] = set()
    for (repeat, _), path in sorted(_kept_in(task), reverse=True):
        if repeat not in seen and (execution := _read(f"{path}/{layout.EXECUTION}")):
            seen.add(repeat)
            yield execution


def _kept_in(task: Path) -> Iterator[tuple[tuple[int, int], str]]:
    """Repeat and attempt, and where it is, as text: ten thousand `Path`s take longer to make than
    their files to read.
    """
    try:
        entries = list(os.scandir(task))
    except OSError:
        return
    for entry in entries:
        if numbers := layout.parse_attempt(entry.name):
            yield numbers, entry.path


def _read(path: str) -> TaskExecution | None:
    try:
        with FileIO(path) as file:
            return TaskExecution.model_validate_json(file.readall())
    except (OSError, ValidationError):
        return None
