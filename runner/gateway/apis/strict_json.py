"""Hostile bytes become a JSON object that has one meaning, or a Refused."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, NoReturn

from runner.gateway.calls import Refused

MAX_DEPTH = 64
MAX_BRACKETS = 200_000
"""In the whole body, those in texts too: an empty object takes thirty times its bytes of memory."""
MAX_DIGITS = 32
"""Of a number without a point: longer ones are slow to read, and no field of any API is."""


def load_object(raw: bytes) -> dict[str, Any]:
    """The object that `raw` is; raises Refused (400, invalid_json).

    Two parsers must not read two things in it, since the provider's is another: names that come
    twice, NaN and Infinity, halves of surrogate pairs and deep nesting are refused.
    """
    if raw.count(b"{") + raw.count(b"[") > MAX_BRACKETS:
        raise _invalid("it has too many objects and lists")
    try:
        value = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_constant,
        )
    except UnicodeDecodeError:
        raise _invalid("it is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise _invalid(f"{error.msg} at character {error.pos}") from None
    except RecursionError:
        raise _invalid("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise _invalid("it is not an object")
    _check(value, strings=b"\\u" in raw)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise _invalid("an object has the same name twice")
    return members


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise _invalid("a number has too many digits")
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise _invalid("a number is too large")
    return number


def _constant(name: str) -> NoReturn:
    raise _invalid(f"{name} is not JSON")


def _check(value: dict[str, Any], *, strings: bool) -> None:
    """Goes through it level by level, without recursion."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [part for whole in level for part in _parts(whole)]
        if strings and any(isinstance(part, str) and _broken(part) for part in level):
            raise _invalid("a string holds half of a surrogate pair")
        level = [part for part in level if isinstance(part, dict | list)]
        if not level:
            return
    raise _invalid("it is nested too deeply")


def _parts(whole: dict[str, Any] | list[Any]) -> Iterator[Any]:
    if isinstance(whole, dict):
        yield from whole
        yield from whole.values()
    else:
        yield from whole


def _broken(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _invalid(problem: str) -> Refused:
    return Refused(400, "invalid_json", f"the request's body is not valid JSON: {problem}")
