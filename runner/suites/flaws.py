"""What is wrong with a well-formed task: keys that no answer can earn, or that any answer does."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple, assert_never

import re2
from pydantic import JsonValue

from runner.domain import (
    ChoiceCriterion,
    Criterion,
    ExactCriterion,
    JsonSubsetCriterion,
    Limits,
    NumericCriterion,
    RegexCriterion,
)
from runner.suites.entries import TaskEntry

_PROMPT_BYTES = Limits().input_bytes
_PATTERN_CHARACTERS = 1000
_LARGEST_EXACT = 2**53
"""From here on floats, which numeric answers are read as, skip integers."""
_NONSENSE = "zqx 31415926.5 \u2603 I do not know"
"""An answer that is right nowhere; a pattern that takes it takes anything."""


class Flaw(NamedTuple):
    """One mistake of a suite's author."""

    field: str
    problem: str
    fix: str


def flaws_of(entry: TaskEntry) -> Iterator[Flaw]:
    """All mistakes in a task that its types do not rule out."""
    yield from _flaws_of_prompt(entry.prompt)
    yield from _flaws_of_limits(entry)
    yield from _flaws_of_tools(entry)
    yield from _flaws_of_key(entry.criteria)
    for index, criterion in enumerate(entry.criteria):
        for field, problem, fix in _flaws_of_criterion(criterion):
            yield Flaw(f"criteria.{index}.{field}", problem, fix)


def _flaws_of_prompt(text: str) -> Iterator[Flaw]:
    if _blank(text):
        yield Flaw("prompt", "is empty", "write what the agent is asked")
    if (size := len(text.encode())) > _PROMPT_BYTES:
        yield Flaw("prompt", f"is {size} bytes long", f"shorten it to {_PROMPT_BYTES} bytes")


def _flaws_of_limits(entry: TaskEntry) -> Iterator[Flaw]:
    for name, value in entry.limits.given().items():
        if not math.isfinite(value):
            yield Flaw(f"limits.{name}", "is not a finite number", "give a number, or leave it out")


def _flaws_of_tools(entry: TaskEntry) -> Iterator[Flaw]:
    """Whether a setup fits its tool, only the gateway can tell: it checks when a run is planned."""
    for name, count in Counter(entry.tools).items():
        if count > 1:
            yield Flaw("tools", f"names {name!r} {count} times", "name each tool once")
    for name in entry.tool_setups:
        if name not in entry.tools:
            problem = f"sets up {name!r}, which is not among the task's tools"
            yield Flaw("tool_setups", problem, "add it to tools, or remove its setup")


def _flaws_of_key(criteria: tuple[Criterion, ...]) -> Iterator[Flaw]:
    for name, count in Counter(criterion.name for criterion in criteria).items():
        if count > 1:
            yield Flaw("criteria", f"has {count} criteria named {name!r}", "name each differently")
    if all(isinstance(c, RegexCriterion) and c.match == "absent" for c in criteria):
        fix = "add a criterion that a right answer meets"
        yield Flaw("criteria", "only says what must be absent", fix)


def _flaws_of_criterion(criterion: Criterion) -> Iterator[Flaw]:
    match criterion:
        case ExactCriterion():
            if _blank(criterion.expected):
                yield Flaw("expected", "is empty, and empty answers score 0", "give a text")
        case NumericCriterion():
            if abs(criterion.expected) >= _LARGEST_EXACT:
                fix = "ask for a remainder, or use the scorer 'exact'"
                yield Flaw("expected", "has more digits than a float keeps", fix)
        case ChoiceCriterion():
            yield from _flaws_of_choice(criterion)
        case RegexCriterion():
            yield from _flaws_of_regex(criterion)
        case JsonSubsetCriterion():
            yield from _flaws_of_json(criterion.expected)
        case _:
            assert_never(criterion)


def _flaws_of_choice(criterion: ChoiceCriterion) -> Iterator[Flaw]:
    choices = [" ".join(choice.split()).casefold() for choice in criterion.choices]
    if len(choices) < 2 or any(map(_blank, choices)):
        yield Flaw("choices", "needs two or more choices, none empty", "list what can be chosen")
    if len(set(choices)) < len(choices):
        yield Flaw("choices", "has two that differ at most in case", "make each choice distinct")
    if criterion.expected not in criterion.choices:
        problem = f"is {criterion.expected!r}, which is not among the choices"
        yield Flaw("expected", problem, "use one of them, spelt the same")


def _flaws_of_regex(criterion: RegexCriterion) -> Iterator[Flaw]:
    if len(criterion.pattern) > _PATTERN_CHARACTERS:
        fix = f"shorten it to {_PATTERN_CHARACTERS} characters"
        yield Flaw("pattern", "is too long", fix)
        return
    try:
        pattern = re2.compile(criterion.pattern, _quiet())
    except re2.error as error:
        yield Flaw("pattern", f"is not RE2 syntax: {_reason(error)}", "correct it: no look-around")
        return
    finds = pattern.fullmatch if criterion.match == "full" else pattern.search
    if finds("") or (criterion.match != "absent" and finds(_NONSENSE)):
        yield Flaw("pattern", "matches an empty or a nonsense answer", "ask for something definite")


def _flaws_of_json(expected: JsonValue) -> Iterator[Flaw]:
    if _asks_for_nothing(expected):
        yield Flaw("expected", "is met by any object", "name a key and its value")
    if not all(map(math.isfinite, _numbers(expected))):
        yield Flaw("expected", "holds a number that JSON does not have", "use finite numbers")


def _asks_for_nothing(expected: JsonValue) -> bool:
    match expected:
        case dict():
            return all(map(_asks_for_nothing, expected.values()))
        case list():
            return bool(expected) and all(map(_asks_for_nothing, expected))
        case _:
            return False


def _numbers(expected: JsonValue) -> Iterator[int | float]:
    match expected:
        case dict():
            for value in expected.values():
                yield from _numbers(value)
        case list():
            for value in expected:
                yield from _numbers(value)
        case int() | float():
            yield expected


def _quiet() -> re2.Options:
    options = re2.Options()
    options.log_errors = False
    return options


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else ""
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)


def _blank(text: str) -> bool:
    """Whether nobody sees anything of it: white space, controls, zero-width marks."""
    return all(unicodedata.category(character)[0] in "CZ" for character in text)
