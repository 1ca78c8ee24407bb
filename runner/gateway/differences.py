"""What differs between two requests, shown to a person; both are hostile, large and deep."""

from __future__ import annotations

import bisect
import difflib
import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, zip_longest
from typing import Any

from runner.domain import Divergence
from runner.domain.text import one_line

_SHOWN = 60
"""Characters of a value in one line."""
_BEFORE = 20
"""Characters shown before the place where two long texts differ."""
_CONTEXT = 3
"""Lines shown before the first difference, and at most so many equal ones on end after it."""
_LINES = 200
"""Of each request, compared from the first difference on: comparing takes their square."""
_DEEPEST = 20
"""Levels that are indented; what is deeper stands below them."""


class _Absent:
    def __repr__(self) -> str:
        return "(absent)"


_ABSENT = _Absent()


# -- one line -------------------------------------------------------------------------------------

_Path = tuple["_Path", str] | None
"""From its end to the beginning, so that going a level down costs the same at any depth."""


def first_difference(recorded: Mapping[str, Any], requested: Mapping[str, Any]) -> str:
    """Where the two differ first, and both values, on one line; empty: nowhere."""
    stack: list[tuple[_Path, Any, Any]] = [(None, recorded, requested)]
    while stack:
        path, left, right = stack.pop()
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            keys = sorted(left.keys() | right.keys(), reverse=True)
            stack += [
                ((path, f".{key}"), left.get(key, _ABSENT), right.get(key, _ABSENT)) for key in keys
            ]
        elif _is_list(left) and _is_list(right):
            pairs = enumerate(zip_longest(left, right, fillvalue=_ABSENT))
            stack += reversed([((path, f"[{index}]"), *pair) for index, pair in pairs])
        elif not _same(left, right):
            return f"{_name(path)}: {_both(left, right)}"
    return ""


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _same(left: object, right: object) -> bool:
    """As JSON has it: 1, 1.0 and true are three values."""
    return type(left) is type(right) and left == right


def _name(path: _Path) -> str:
    steps: list[str] = []
    while path is not None:
        path, step = path
        steps.append(step)
    return one_line("".join(reversed(steps)).removeprefix(".") or "the request", 200)


def _both(left: object, right: object) -> str:
    if isinstance(left, str) and isinstance(right, str):
        alike = _alike(left, right)
        if alike > _BEFORE:
            start = alike - _BEFORE
            left, right = left[start:], right[start:]
            shown = f"recorded ...{_shown(left)}, requested ...{_shown(right)}"
            return f"{shown} (from character {alike + 1} on)"
    return f"recorded {_shown(left)}, requested {_shown(right)}"


def _shown(value: object) -> str:
    if value is _ABSENT:
        return repr(_ABSENT)
    if isinstance(value, Mapping):
        return f"an object of {len(value)} fields"
    if _is_list(value):
        return f"a list of {len(value)}"  # type: ignore[arg-type]
    if isinstance(value, str):
        return f'"{one_line(value, _SHOWN)}"'
    return one_line(json.dumps(value), _SHOWN)


def _alike(left: str, right: str) -> int:
    """How many characters both begin with."""
    shorter = min(len(left), len(right))
    return bisect.bisect_left(
        range(shorter), x=True, key=lambda end: left[: end + 1] != right[: end + 1]
    )


# -- beside each other ----------------------------------------------------------------------------


def side_by_side(divergence: Divergence, width: int) -> list[tuple[str, str]]:
    """Lines of what was recorded (left) and requested (right), each in half of `width`.

    From shortly before the first difference on, at most a few hundred; equal where both are
    alike, empty on one side where there is nothing beside it. Plain text: nothing in it can
    steer a terminal.
    """
    column = max((width - 3) // 2, 10)
    recorded = divergence.recorded
    before, left, right = _windows(
        iter(()) if recorded is None else _pretty(recorded), _pretty(divergence.requested)
    )
    rows = [(line, line) for line in before] + list(_rows(left, right))
    return [_cut(*row, column) for row in rows]


def _windows(left: Iterator[str], right: Iterator[str]) -> tuple[list[str], list[str], list[str]]:
    """The last lines that both begin with, and so many of each from there on."""
    before: deque[str] = deque(maxlen=_CONTEXT)
    for pair in zip_longest(left, right):
        if pair[0] != pair[1]:
            first, second = ([] if line is None else [line] for line in pair)
            return (
                list(before),
                first + list(islice(left, _LINES - 1)),
                second + list(islice(right, _LINES - 1)),
            )
        before.append(str(pair[0]))
    return list(before), [], []


def _rows(left: list[str], right: list[str]) -> Iterator[tuple[str, str]]:
    matcher = difflib.SequenceMatcher(None, left, right, autojunk=False)
    for tag, left_from, left_to, right_from, right_to in matcher.get_opcodes():
        lines, others = left[left_from:left_to], right[right_from:right_to]
        if tag == "equal" and len(lines) > 2 * _CONTEXT:
            skipped = f"... {len(lines) - 2 * _CONTEXT} lines alike"
            lines = others = [*lines[:_CONTEXT], skipped, *lines[-_CONTEXT:]]
        yield from zip_longest(lines, others, fillvalue="")


def _cut(left: str, right: str, column: int) -> tuple[str, str]:
    """Both within their columns; where they differ late, from shortly before that place on."""
    start = 0
    if left != right and left and right:
        alike = _alike(left, right)
        start = max(alike - column // 2, 0) if max(len(left), len(right)) > column else 0
    if not start:
        return one_line(left, column), one_line(right, column)
    return tuple(f"...{one_line(line[start:], column - 3)}" for line in (left, right))  # type: ignore[return-value]


def _pretty(value: Mapping[str, Any]) -> Iterator[str]:
    """Lines of indented JSON without commas, keys sorted; made as they are asked for."""
    opened: list[tuple[Iterator[tuple[str, Any]], str]] = [(iter([("", value)]), "")]
    while opened:
        entries, closing = opened[-1]
        indent = "  " * min(len(opened) - 1, _DEEPEST)
        for label, each in entries:
            if isinstance(each, Mapping) and each:
                yield f"{indent}{label}{{"
                opened.append((_fields(each), "}"))
                break
            if _is_list(each) and each:
                yield f"{indent}{label}["
                opened.append(((("", item) for item in each), "]"))
                break
            yield f"{indent}{label}{json.dumps(each, ensure_ascii=False)}"
        else:
            opened.pop()
            if closing:
                yield f"{indent[2:]}{closing}"


def _fields(mapping: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key in sorted(mapping):
        yield f"{json.dumps(key, ensure_ascii=False)}: ", mapping[key]
