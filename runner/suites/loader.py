"""A directory of TOML files becomes a Suite, or one line that says what is wrong with it."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from runner.domain import BenchmarkCategory, BenchmarkTask, Suite
from runner.domain.text import one_line
from runner.errors import InvalidSuite
from runner.suites.entries import FORMAT, SuiteHeader, TaskEntry
from runner.suites.explain import flaw_of, invalid
from runner.suites.flaws import Flaw, flaws_of

HEADER = "suite.toml"
_CATEGORIES = {f"{category}.toml": category for category in BenchmarkCategory}

Files = Mapping[str, bytes]
"""A suite's files by name, as they are on disk."""


def load_suite(directory: Path) -> Suite:
    """Reads `suite.toml` and one file per category; raises InvalidSuite.

    Every file is read once: what is validated is what the digest is of.
    """
    files = _read(directory)
    _check_names(directory, files)
    header = _header(directory, files)
    tasks = tuple(_tasks(directory, files))
    _check_ids(directory, tasks)
    return Suite(
        name=header.name,
        version=header.version,
        description=header.description,
        digest=digest_of(files),
        tasks=tasks,
    )


def digest_of(files: Files) -> str:
    """`sha256:` and the digest over each file's name, length and bytes, in order of name."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode())
        digest.update(files[name])
    return f"sha256:{digest.hexdigest()}"


def _read(directory: Path) -> Files:
    try:
        return {path.name: path.read_bytes() for path in directory.glob("*.toml")}
    except OSError as error:
        raise InvalidSuite(
            f"suite {str(directory)!r} cannot be read: {error.strerror}: {error.filename!r}",
            remedy="make each .toml in it a file that you may read",
        ) from error


def _check_names(directory: Path, files: Files) -> None:
    if HEADER not in files:
        raise InvalidSuite(
            f"suite {str(directory)!r} has no {HEADER}",
            remedy="give a directory that has one: see docs/suites.md",
        )
    for name in sorted(set(files) - {HEADER, *_CATEGORIES}):
        raise InvalidSuite(
            f"{_where(directory, name)}: no such category",
            remedy=f"name it one of {', '.join(_CATEGORIES)}",
        )


def _header(directory: Path, files: Files) -> SuiteHeader:
    where = _where(directory, HEADER)
    content = _parse(where, files[HEADER])
    declared = content.get("format")
    if isinstance(declared, int) and declared > FORMAT:
        problem = f"is {declared}, but this runner reads format {FORMAT}"
        raise invalid(where, Flaw("format", problem, "upgrade agenttrace-runner"))
    try:
        return SuiteHeader.model_validate(content)
    except ValidationError as error:
        raise invalid(where, flaw_of(error)) from None


def _tasks(directory: Path, files: Files) -> Iterator[BenchmarkTask]:
    """In the order of the categories, then as their files list them."""
    for name, category in _CATEGORIES.items():
        if name in files:
            where = _where(directory, name)
            for number, content in enumerate(_task_tables(where, files[name]), start=1):
                yield _task(where, number, content, category)


def _task_tables(where: str, data: bytes) -> list[Any]:
    content = _parse(where, data)
    for unknown in content.keys() - {"task"}:
        fix = "begin each task with [[task]], and put nothing before the first"
        raise invalid(where, Flaw(unknown, "is not known here", fix))
    tables = content.get("task", [])
    if not isinstance(tables, list):
        raise invalid(where, Flaw("task", "is one table", "write [[task]], not [task]"))
    return tables


def _task(where: str, number: int, content: Any, category: BenchmarkCategory) -> BenchmarkTask:
    where = f"{where}, task {_label(number, content)}"
    try:
        entry = TaskEntry.model_validate(content)
    except ValidationError as error:
        raise invalid(where, flaw_of(error)) from None
    for flaw in flaws_of(entry):
        raise invalid(where, flaw)
    return entry.task(category)


def _label(number: int, content: Any) -> str:
    task_id = content.get("task_id") if isinstance(content, dict) else None
    return repr(task_id[:100]) if isinstance(task_id, str) else f"number {number}"


def _check_ids(directory: Path, tasks: Iterable[BenchmarkTask]) -> None:
    seen: dict[str, BenchmarkTask] = {}
    for task in tasks:
        # Ids name directories, which some file systems fold by case.
        first = seen.setdefault(task.task_id.casefold(), task)
        if first is not task:
            where = f"{_where(directory, f'{task.category}.toml')}, task {task.task_id!r}"
            problem = f"is already used in {first.category}.toml"
            raise invalid(where, Flaw("task_id", problem, "give each task an id of its own"))
    if not seen:
        raise InvalidSuite(
            f"suite {str(directory)!r} has no tasks",
            remedy=f"add [[task]] entries to one of {', '.join(_CATEGORIES)}",
        )


def _parse(where: str, data: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise InvalidSuite(
            f"{where}: byte {error.start} is not UTF-8", remedy="save the file as UTF-8"
        ) from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidSuite(
            f"{where}: not TOML: {one_line(str(error))}", remedy="correct that line"
        ) from None


def _where(directory: Path, name: str) -> str:
    return f"suite file {str(directory / name)!r}"
