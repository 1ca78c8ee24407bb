"""JSON subset: the answer is one JSON document that contains the expected value."""

from __future__ import annotations

import json
import re
from typing import Never

from pydantic import JsonValue

from runner.domain import JsonSubsetCriterion
from runner.scoring.verdict import Verdict, hit, miss

_FENCED = re.compile(r"```(?:json)?[ \t]*\r?\n(?P<body>.*)\n[ \t]*```", re.DOTALL | re.IGNORECASE)
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)
_DEEPEST = 100
"""Levels of nesting; the parser recurses, so it must not be the answer that says how deep."""
_MOST_DIGITS = 400
"""No longer integer equals a float; Python takes quadratic time to read one."""


class _AmbiguousJsonError(ValueError):
    """Readable by Python's parser, but not JSON with one meaning (RFC 8259, I-JSON)."""


def judge_json_subset(text: str, criterion: JsonSubsetCriterion) -> Verdict:
    """Parses strictly; extra keys of objects count for nothing, or against the answer."""
    if _too_deep(document := _without_fence(text)):
        return miss("JSON nested too deeply")
    try:
        actual = _parsed(document)
    except ValueError:
        return miss("not one strict JSON document")
    if _contains(actual, criterion.expected, exact_keys=criterion.extra_keys == "refused"):
        return hit("contains the expected value")
    return miss("does not contain the expected value")


def _without_fence(text: str) -> str:
    fenced = _FENCED.fullmatch(text)
    return fenced["body"] if fenced else text


def _too_deep(document: str) -> bool:
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(document):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth > _DEEPEST:
            return True
    return False


def _parsed(document: str) -> JsonValue:
    value: JsonValue = json.loads(
        document,
        object_pairs_hook=_without_duplicates,
        parse_int=_integer,
        parse_constant=_no_constant,
    )
    return value


def _without_duplicates(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _AmbiguousJsonError("a key occurs twice")
    return found


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float("nan")  # equals nothing


def _no_constant(name: str) -> Never:
    raise _AmbiguousJsonError(f"{name} is not JSON")


def _contains(actual: JsonValue, expected: JsonValue, *, exact_keys: bool) -> bool:
    """Recurses as deep as `expected`, which is the suite's."""
    match expected:
        case dict():
            return (
                isinstance(actual, dict)
                and (not exact_keys or len(actual) == len(expected))
                and all(
                    key in actual and _contains(actual[key], value, exact_keys=exact_keys)
                    for key, value in expected.items()
                )
            )
        case list():
            return (
                isinstance(actual, list)
                and len(actual) == len(expected)
                and all(
                    _contains(mine, theirs, exact_keys=exact_keys)
                    for mine, theirs in zip(actual, expected, strict=True)
                )
            )
        case bool() | None:
            return actual is expected
        case int() | float():
            is_number = isinstance(actual, int | float) and not isinstance(actual, bool)
            return is_number and actual == expected
        case str():
            return isinstance(actual, str) and actual == expected
