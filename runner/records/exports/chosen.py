"""Which attempts of a run an export is of, and all that is known of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from runner.domain.base import Noun
from runner.domain.execution import BenchmarkExecution, TaskExecution
from runner.domain.gateway import ModelCall, ToolCall
from runner.errors import StorageFailed, UsageError
from runner.records import layout
from runner.records.archive import load_attempts, load_lock, load_result
from runner.records.exchanges import RecordedExchange, read_exchanges
from runner.records.redaction import without_keys
from runner.records.run_directory import RunLock


class Choice(Noun):
    """Attempts of a run; None: of all tasks, all repeats, the last attempt of each."""

    task_id: str | None = None
    repeat: int | None = None
    attempt: int | None = None


class Chosen(Noun):
    """One attempt, and where it is."""

    path: Path
    execution: TaskExecution

    def exchanges(self) -> Mapping[int, RecordedExchange]:
        """Those that were kept, by number."""
        found = read_exchanges(self.path / layout.EXCHANGES)
        return {exchange.number: exchange for exchange in found}

    def calls(self) -> list[ModelCall | ToolCall]:
        """Of models and tools, in the order in which they arrived."""
        calls: list[ModelCall | ToolCall] = [
            *self.execution.model_calls,
            *self.execution.tool_calls,
        ]
        return sorted(calls, key=lambda call: call.number)

    @property
    def name(self) -> str:
        """Unlike that of any other attempt in the run; can be a file's."""
        return f"{self.execution.task_id}.{self.execution.repeat}-{self.execution.attempt}"


class ExportedRun(Noun):
    """A run, and those of its attempts that are wanted."""

    path: Path
    lock: RunLock
    result: BenchmarkExecution | None
    """None while it is not finished."""
    attempts: tuple[Chosen, ...]


def choose(run: Path, choice: Choice) -> ExportedRun:
    """Raises UsageError when there is no such attempt, StorageFailed where a file is damaged."""
    lock = load_lock(run)
    if lock is None:
        raise StorageFailed(
            f"{run / layout.LOCK} is missing or damaged", remedy="this run cannot be exported"
        )
    attempts = tuple(_last_of_each(_fitting(run, choice)))
    if not attempts:
        raise UsageError(
            f"run {run.name} has no such attempt",
            remedy=f"`agenttrace runs show {run.name}` lists them",
        )
    return ExportedRun(path=run, lock=lock, result=load_result(run), attempts=attempts)


def _fitting(run: Path, choice: Choice) -> Iterator[Chosen]:
    for each in load_attempts(run, choice.task_id):
        if choice.repeat not in (None, each.repeat) or choice.attempt not in (None, each.attempt):
            continue
        if each.execution is None:
            raise StorageFailed(each.note, remedy=f"see what is left in {each.path}")
        yield Chosen(path=each.path, execution=each.execution)


def _last_of_each(attempts: Iterator[Chosen]) -> list[Chosen]:
    last: dict[tuple[str, int], Chosen] = {}
    for each in attempts:  # they come in the order of their numbers
        last[each.execution.task_id, each.execution.repeat] = each
    return list(last.values())


def most_called_model(calls: list[ModelCall]) -> str:
    """`UPSTREAM/MODEL`; empty where none was called."""
    names = [model_name(call) for call in calls if call.token_source]
    return max(sorted(set(names)), key=names.count, default="")


def model_name(call: ModelCall) -> str:
    """`UPSTREAM/MODEL`, as the settings name it, whichever way the agent did."""
    own = without_keys(call.model[:200])
    prefix = f"{call.upstream}/"
    return own if not call.upstream or own.startswith(prefix) else prefix + own


def without_none(value: Mapping[str, Any]) -> dict[str, Any]:
    """An object without the fields that have no value."""
    return {name: part for name, part in value.items() if part is not None}
