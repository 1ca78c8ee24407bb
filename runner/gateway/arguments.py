"""What an agent hands to a tool: hostile JSON, checked for size, shape and schema."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from pydantic import JsonValue

_ARGUMENT_BYTES = 256 * 1024
ESCAPED_BYTES = 2 * 1024 * 1024
"""Before they are parsed: the largest that a tool takes, escaped."""
_DEEPEST = 32
_VALUES = 2_000
"""Checking a schema takes microseconds for each."""
_ECHO_CHARACTERS = 40
_EXPECTATION_CHARACTERS = 200


class Unfit(Exception):
    """Arguments that no tool is called with; the text is one line for the agent."""


def check_shape(arguments: JsonValue) -> dict[str, JsonValue]:
    """`arguments`, an object of JSON that is neither too deep nor too large; raises Unfit."""
    if not isinstance(arguments, dict):
        raise Unfit("arguments must be a JSON object")
    _check_depth_and_number(arguments)
    try:
        size = len(json.dumps(arguments, ensure_ascii=False, allow_nan=False).encode())
    except ValueError:
        raise Unfit("arguments hold what JSON or UTF-8 cannot: NaN, or half a character") from None
    if size > _ARGUMENT_BYTES:
        raise Unfit(f"arguments are larger than {_ARGUMENT_BYTES} bytes")
    return arguments


def validator_of(schema: Mapping[str, Any]) -> Draft202012Validator:
    """Checks arguments against the schema of one tool, which we trust."""
    return Draft202012Validator(schema)


def check_schema(arguments: JsonValue, validator: Draft202012Validator) -> None:
    """Raises Unfit, saying where and what was expected."""
    error = best_match(validator.iter_errors(arguments))
    if error is not None:
        raise Unfit(f"{_where(error.absolute_path)} {_expectation(error)}")


def echo(text: object) -> str:
    """Something hostile, as part of one line."""
    return repr(str(text)[:_ECHO_CHARACTERS]).encode("ascii", "backslashreplace").decode()


def _where(path: Iterable[str | int]) -> str:
    steps = [step if isinstance(step, int) else _name(step) for step in path]
    return ".".join(map(str, ["arguments", *steps[:8]]))


def _name(step: str) -> str:
    return step if step.isidentifier() and step.isascii() and len(step) <= 40 else echo(step)


def _expectation(error: ValidationError) -> str:
    allowed: Any = error.validator_value
    match error.validator:
        case "type":
            names = [allowed] if isinstance(allowed, str) else allowed
            return f"must be of type {' or '.join(names)}"
        case "required":
            given = error.instance if isinstance(error.instance, dict) else {}
            return f"must have {' and '.join(repr(key) for key in allowed if key not in given)}"
        case "additionalProperties":
            return f"must not have {echo(_stray(error))}"
        case "enum":
            return f"must be one of {json.dumps(allowed)}"[:_EXPECTATION_CHARACTERS]
        case keyword:
            return f"must meet {keyword}: {json.dumps(allowed)}"[:_EXPECTATION_CHARACTERS]


def _stray(error: ValidationError) -> str:
    schema: Any = error.schema
    known: Mapping[str, Any] = schema.get("properties", {})
    given: Mapping[str, Any] = error.instance if isinstance(error.instance, dict) else {}
    return next((key for key in given if key not in known), "")


def _check_depth_and_number(arguments: JsonValue) -> None:
    """Level by level: what is nested deeper than Python's stack must not get onto it."""
    level: Sequence[JsonValue] = [arguments]
    left = _VALUES
    for _ in range(_DEEPEST + 1):
        children = (child for each in level for child in _children(each))
        level = list(itertools.islice(children, left + 1))
        left -= len(level)
        if left < 0:
            raise Unfit(f"arguments have more than {_VALUES} values")
        if not level:
            return
    raise Unfit(f"arguments are nested more than {_DEEPEST} deep")


def _children(value: JsonValue) -> Iterable[JsonValue]:
    match value:
        case dict():
            return value.values()
        case list():
            return value
        case _:
            return ()
