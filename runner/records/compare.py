"""What differs between two runs: what they ran on, what was asked of them, and what came out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from runner.domain.comparison import (
    CallDivergence,
    Change,
    PackageChanges,
    RunComparison,
    TaskComparison,
    TaskSide,
)
from runner.domain.execution import TaskExecution
from runner.domain.gateway import ModelCall, ToolCall
from runner.records import layout
from runner.records.archive import find_run, load_lock, load_result
from runner.records.attempts import final_executions
from runner.records.verifier import identity_of_call, shown

_TOLD_ELSEWHERE = (
    *("captured_at", "random_seed", "runner_version", "image_digest", "limits"),
    *("benchmark", "benchmark_version", "benchmark_digest"),
)
"""Of the environment: moments, and what the plan, the image, the limits and the suite say."""
_SUITE = ("suite_name", "suite_version", "suite_digest")
_IMAGE = ("image_id", "image_reference", "content_digest")
_PLAN = ("agent_name", "agent_version", "seed", "repeats", "parallelism", "runner_version")


def compare_runs(root: Path, left: str, right: str) -> RunComparison:
    """Two runs by their ids, or unique beginnings; raises UsageError when there is none."""
    one, other = find_run(root, left), find_run(root, right)
    locks = _lock(one), _lock(other)
    environments = [_environment(lock) for lock in locks]
    packages = [environment.pop("packages", None) or {} for environment in environments]
    return RunComparison(
        left=one.name,
        right=other.name,
        plan=_named(locks, _PLAN),
        suite=_named(locks, _SUITE),
        image=_named(locks, _IMAGE),
        limits=_changes(locks[0].get("limits"), locks[1].get("limits")),
        settings=_changes(_settings(one), _settings(other)),
        environment=_changes(*environments),
        packages=_package_changes(*packages),
        score_left=_score(one),
        score_right=_score(other),
        tasks=tuple(_tasks(one, other)),
    )


# -- what was asked ------------------------------------------------------------------------------


def _lock(run: Path) -> dict[str, Any]:
    lock = load_lock(run)
    return lock.model_dump(mode="json") if lock else {}


def _environment(lock: dict[str, Any]) -> dict[str, Any]:
    environment = lock.get("environment") or {}
    return {name: part for name, part in environment.items() if name not in _TOLD_ELSEWHERE}


def _settings(run: Path) -> Any:
    try:
        return json.loads((run / layout.CONFIG).read_bytes()).get("settings")
    except (OSError, ValueError, AttributeError):
        return None


def _score(run: Path) -> float | None:
    result = load_result(run)
    return result.overall_score if result else None


def _named(
    locks: tuple[dict[str, Any], dict[str, Any]], names: tuple[str, ...]
) -> tuple[Change, ...]:
    one, other = ({name: lock.get(name) for name in names} for lock in locks)
    return _changes(one, other)


def _changes(one: Any, other: Any) -> tuple[Change, ...]:
    ours, theirs = dict(_leaves(one, "")), dict(_leaves(other, ""))
    return tuple(
        Change(path=path, left=_told(ours, path), right=_told(theirs, path))
        for path in sorted(ours.keys() | theirs.keys())
        if ours.get(path) != theirs.get(path)
    )


def _told(leaves: Mapping[str, Any], path: str) -> str:
    return shown(leaves[path]) if path in leaves else ""


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Dotted path and value of all that is no mapping."""
    if not isinstance(value, Mapping):
        if path:
            yield path, value
        return
    for name, part in value.items():
        yield from _leaves(part, f"{path}.{name}" if path else str(name))


def _package_changes(one: Mapping[str, str], other: Mapping[str, str]) -> PackageChanges:
    both = sorted(one.keys() & other.keys())
    return PackageChanges(
        added=tuple(f"{name} {other[name]}" for name in sorted(other.keys() - one.keys())),
        removed=tuple(f"{name} {one[name]}" for name in sorted(one.keys() - other.keys())),
        changed=tuple(f"{n} {one[n]} -> {other[n]}" for n in both if one[n] != other[n]),
    )


# -- what came out -------------------------------------------------------------------------------


def _tasks(one: Path, other: Path) -> Iterator[TaskComparison]:
    ours, theirs = _finals(one), _finals(other)
    for key in sorted(ours.keys() | theirs.keys()):
        yield _task(key, ours.get(key), theirs.get(key))


def _finals(run: Path) -> dict[tuple[str, int], TaskExecution]:
    return {(each.task_id, each.repeat): each for each in final_executions(run)}


def _task(
    key: tuple[str, int], one: TaskExecution | None, other: TaskExecution | None
) -> TaskComparison:
    return TaskComparison(
        task_id=key[0],
        repeat=key[1],
        left=_side(one) if one else None,
        right=_side(other) if other else None,
        same_output=one is not None and other is not None and one.output == other.output,
        divergence=first_divergence(one, other) if one and other else None,
    )


def _side(execution: TaskExecution) -> TaskSide:
    usage = execution.resource_usage
    return TaskSide(
        status=execution.status.value,
        failure_reason=execution.failure_reason.value if execution.failure_reason else "",
        score=execution.score.normalized if execution.score else None,
        tokens=usage.tokens_total,
        cost_usd=usage.cost_usd,
        model_calls=len(execution.model_calls),
        tool_calls=len(execution.tool_calls),
        seconds=usage.execution_time_seconds,
    )


def first_divergence(one: TaskExecution, other: TaskExecution) -> CallDivergence | None:
    """The first call, of models and tools together, that the two do not have in common."""
    ours, theirs = _calls(one), _calls(other)
    for index in range(max(len(ours), len(theirs))):
        left, right = (calls[index] if index < len(calls) else "" for calls in (ours, theirs))
        if left != right:
            return CallDivergence(position=index + 1, left=left, right=right)
    return None


def _calls(execution: TaskExecution) -> list[str]:
    calls: list[ModelCall | ToolCall] = [*execution.model_calls, *execution.tool_calls]
    return [identity_of_call(call) for call in sorted(calls, key=lambda each: each.number)]
