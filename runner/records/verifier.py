"""Whether two executions are the same in what has to be, and near enough in what may vary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from runner.domain.base import Noun
from runner.domain.execution import BenchmarkExecution, Score, TaskExecution
from runner.domain.gateway import ModelCall, ToolCall
from runner.domain.text import one_line
from runner.errors import UsageError
from runner.records.recorder import ExecutionRecorder

_VALUE_CHARACTERS = 120
_EXACT = (
    *("status", "failure_reason", "output", "output_truncated", "seed"),
    *("token_budget", "cost_budget_usd"),
)
_USAGE_EXACT = ("tokens_input", "tokens_output", "tool_calls_count", "api_calls_count", "cost_usd")
_RUN_EXACT = ("suite_name", "suite_version", "suite_digest", "image_id", "seed", "status")


class Tolerance(Noun):
    """By how much a figure may differ; both parts are added."""

    relative: float = Field(default=0.0, ge=0)
    """As a share of the greater of the two."""
    absolute: float = Field(default=0.0, ge=0)
    """In the figure's own unit."""

    def allows(self, one: float | None, other: float | None) -> bool:
        """Whether two values are near enough; nothing is near to nothing alone."""
        if one is None or other is None:
            return one is other
        return abs(one - other) <= self.absolute + self.relative * max(abs(one), abs(other))


_SECONDS = Tolerance(relative=0.5, absolute=1.0)
_MEMORY = Tolerance(relative=0.25, absolute=32.0)


class Tolerances(Noun):
    """Which figures are compared, and how: by name of a field of `ResourceUsage`, or `seconds` of
    a recorder's entries. What is not named here is compared exactly, or does not count.
    """

    figures: dict[str, Tolerance] = Field(
        default_factory=lambda: {
            "execution_time_seconds": _SECONDS,
            "cpu_user_seconds": _SECONDS,
            "cpu_system_seconds": _SECONDS,
            "memory_peak_mb": _MEMORY,
            "seconds": _SECONDS,
        }
    )
    ignore: frozenset[str] = frozenset()
    """Names of fields that are not compared at all, such as `output` or `cost_usd`."""


Comparable = TaskExecution | BenchmarkExecution | ExecutionRecorder


class ReproducibilityVerifier:
    """Compares executions of the same thing. Ids, moments and evidence of the sandbox do not count;
    status, output, score, and the digests of the calls in their order do.
    """

    def __init__(self, tolerances: Tolerances | None = None) -> None:
        self._tolerances = tolerances or Tolerances()

    def verify_executions_match(self, one: Comparable, other: Comparable) -> tuple[bool, list[str]]:
        """Whether they match, and each difference on a line: where it is, and both values.

        Raises UsageError for two things of different kinds.
        """
        differences = list(self._compare(one, other))
        return not differences, differences

    def _compare(self, one: Comparable, other: Comparable) -> Iterator[str]:
        match one, other:
            case TaskExecution(), TaskExecution():
                return self._tasks(one, other, "")
            case BenchmarkExecution(), BenchmarkExecution():
                return self._runs(one, other)
            case ExecutionRecorder(), ExecutionRecorder():
                return self._recordings(one, other)
            case _:
                kinds = f"{type(one).__name__} and a {type(other).__name__}"
                raise UsageError(f"a {kinds} cannot be compared", remedy="give two of one kind")

    # -- runs ----------------------------------------------------------------------------------

    def _runs(self, one: BenchmarkExecution, other: BenchmarkExecution) -> Iterator[str]:
        yield from self._exactly(_RUN_EXACT, _fields(one), _fields(other), "")
        yield from self._exactly(
            ("overall_score",),
            {"overall_score": one.overall_score},
            {"overall_score": other.overall_score},
            "",
        )
        ours, theirs = _by_task(one), _by_task(other)
        for key in sorted(ours.keys() | theirs.keys()):
            where = f"tasks[{key[0]}#{key[1]}]"
            if key in ours and key in theirs:
                yield from self._tasks(ours[key], theirs[key], f"{where}.")
            else:
                yield _line(where, _presence(key in ours), _presence(key in theirs))

    # -- one task ------------------------------------------------------------------------------

    def _tasks(self, one: TaskExecution, other: TaskExecution, where: str) -> Iterator[str]:
        yield from self._exactly(("task_id", "repeat"), _fields(one), _fields(other), where)
        yield from self._exactly(_EXACT, _fields(one), _fields(other), where)
        scores = {"score": _judgement(one.score)}, {"score": _judgement(other.score)}
        yield from self._exactly(("score",), *scores, where)
        usages = _fields(one.resource_usage), _fields(other.resource_usage)
        yield from self._exactly(_USAGE_EXACT, *usages, f"{where}resource_usage.")
        yield from self._nearly(*usages, f"{where}resource_usage.")
        yield from self._calls("model_calls", one.model_calls, other.model_calls, where)
        yield from self._calls("tool_calls", one.tool_calls, other.tool_calls, where)

    def _calls(
        self,
        name: str,
        ours: tuple[ModelCall | ToolCall, ...],
        theirs: tuple[ModelCall | ToolCall, ...],
        where: str,
    ) -> Iterator[str]:
        if name in self._tolerances.ignore:
            return
        if len(ours) != len(theirs):
            yield _line(f"{where}{name}.length", len(ours), len(theirs))
        pairs = zip(_in_order(ours), _in_order(theirs), strict=False)
        for position, (mine, yours) in enumerate(pairs, 1):
            if mine != yours:  # what follows a first difference says little
                yield _line(f"{where}{name}[{position}]", mine, yours)
                return

    # -- recorders -----------------------------------------------------------------------------

    def _recordings(self, one: ExecutionRecorder, other: ExecutionRecorder) -> Iterator[str]:
        ours, theirs = one.entries, other.entries
        if len(ours) != len(theirs):
            yield _line("entries.length", len(ours), len(theirs))
        for position, (mine, yours) in enumerate(zip(ours, theirs, strict=False), 1):
            where = f"entries[{position}]."
            if mine.kind != yours.kind:
                yield _line(f"{where}kind", mine.kind, yours.kind)
                continue
            left, right = _fields(mine), _fields(yours)
            names = [n for n in left if n != "at" and n not in self._tolerances.figures]
            yield from self._exactly(names, left, right, where)
            yield from self._nearly(left, right, where)

    # -- fields --------------------------------------------------------------------------------

    def _exactly(
        self, names: Any, ours: Mapping[str, Any], theirs: Mapping[str, Any], where: str
    ) -> Iterator[str]:
        for name in names:
            if name in self._tolerances.figures or name in self._tolerances.ignore:
                continue
            if ours[name] != theirs[name]:
                yield _line(f"{where}{name}", ours[name], theirs[name])

    def _nearly(
        self, ours: Mapping[str, Any], theirs: Mapping[str, Any], where: str
    ) -> Iterator[str]:
        for name, tolerance in self._tolerances.figures.items():
            if name in self._tolerances.ignore or name not in ours:
                continue
            mine, yours = ours[name], theirs[name]
            if not tolerance.allows(mine, yours):
                yield _line(f"{where}{name}", mine, yours)


def _by_task(run: BenchmarkExecution) -> dict[tuple[str, int], TaskExecution]:
    return {(each.task_id, each.repeat): each for each in run.task_executions}


def _fields(noun: Noun) -> dict[str, Any]:
    return {name: getattr(noun, name) for name in type(noun).model_fields}


def _judgement(score: Score | None) -> dict[str, float] | None:
    """The points of each criterion; how they are explained may change."""
    if score is None:
        return None
    return {"normalized": score.normalized} | {each.name: each.points for each in score.criteria}


def _in_order(calls: tuple[ModelCall | ToolCall, ...]) -> list[str]:
    return [identity_of_call(call) for call in sorted(calls, key=lambda each: each.number)]


def identity_of_call(call: ModelCall | ToolCall) -> str:
    """What the same calls have in common: whom they ask, what, and how it goes."""
    if isinstance(call, ModelCall):
        return f"{one_line(call.model, 100)} {call.digest or '-'} {call.refused or call.status}"
    ending = call.refused or ("succeeded" if call.succeeded else "failed")
    return f"{one_line(call.name, 100)} {call.digest or '-'} {ending}"


def _presence(there: bool) -> str:
    return "present" if there else "missing"


def _line(where: str, one: Any, other: Any) -> str:
    return f"{where}: {shown(one)} != {shown(other)}"


def shown(value: Any) -> str:
    """A value as a line may hold it: ASCII, and not for ever."""
    text = ascii(getattr(value, "value", value))
    return text if len(text) <= _VALUE_CHARACTERS else text[: _VALUE_CHARACTERS - 3] + "..."
