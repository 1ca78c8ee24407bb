"""Values as logs may show them: plain data, cut to size, without what only its owner may know.

What is secret is known by its type (pydantic's secrets), by its place in a URL, or by the name it
stands under (`Authorization`, `api_key`); a secret that is an ordinary string in an ordinary text
cannot be known, so credentials never leave their type except where they are sent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from itertools import islice
from typing import Any, TypeAlias

from pydantic import BaseModel, Secret, SecretBytes, SecretStr

from runner.domain.text import ELLIPSIS

Plain: TypeAlias = "str | int | float | list[Plain] | dict[str, Plain] | None"
"""What JSON can say."""

STARS = "**********"
MOST_CHARACTERS = 2000
"""Of one string."""
MOST_ITEMS = 100
"""Of one list or mapping."""
DEEPEST = 8
"""Levels of nesting; also what ends a structure that contains itself."""

_SECRET_TYPES = (SecretStr, SecretBytes, Secret)
_SECRET_NAMES = (
    "authorization",
    "cookie",
    "api_key",
    "apikey",
    "password",
    "passwd",
    "secret",
    "token",
)
"""How the names of secrets end, lower case, with `_` for `-`."""
_SEGMENTS = r"(?:(?:(?!://)[^\s@])*+@)"
_USERINFO = re.compile(
    # `user:password@` up to the last `@`, slashes included, as SQLAlchemy reads a database's URL;
    # or a lone user, which may be a token. Possessive, and never past the next `://`: linear.
    rf"(://[^\s:/?#@]*+:){_SEGMENTS}++|(://)[^\s:/?#@]*+@{_SEGMENTS}*+"
)


def redacted(value: object, depth: int = DEEPEST) -> Plain:
    """`value` as plain data without secrets, at most `depth` levels deep."""
    if isinstance(value, _SECRET_TYPES):
        return STARS
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if has_structure(value):
        return _redacted_parts(value, depth - 1) if depth else ELLIPSIS
    return shown_text(value if isinstance(value, str | bytes) else str(value))


def redacted_fields(parts: Mapping[Any, object], depth: int = DEEPEST) -> dict[str, Plain]:
    """The same of what has names."""
    return {
        _name(name): STARS if _names_a_secret(name, part) else redacted(part, depth)
        for name, part in islice(parts.items(), MOST_ITEMS)
    }


def shown_text(text: str | bytes) -> str:
    """`text` without the passwords of its URLs, cut to `MOST_CHARACTERS`."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    text = without_userinfo(text)
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + ELLIPSIS


def without_userinfo(text: str) -> str:
    """`text` with stars for the password, or the lone user name, of every URL in it."""
    return _USERINFO.sub(rf"\1\2{STARS}@", text) if "://" in text else text


def has_structure(value: object) -> bool:
    """Whether a secret may stand in `value` under a name, or in one of its parts."""
    return _by_name(value) is not None or (
        isinstance(value, Collection) and not isinstance(value, str | bytes)
    )


def _redacted_parts(value: object, depth: int) -> Plain:
    if (named := _by_name(value)) is not None:
        return redacted_fields(named, depth)
    items = value if isinstance(value, Collection) else ()
    return [_item(item, depth) for item in islice(items, MOST_ITEMS)]


def _by_name(value: object) -> Mapping[Any, object] | None:
    """The parts of what has named parts; those that its type hides from `repr` are left out."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, BaseModel):
        known = type(value).model_fields
        return {name: part for name, part in value if name not in known or known[name].repr}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value) if field.repr}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):  # SQLAlchemy's URL is one
        return dict(value._asdict())
    return None


def _item(item: object, depth: int) -> Plain:
    """One of a list; headers also come as pairs."""
    match item:
        case (str() | bytes() as name, part) if _names_a_secret(name, part):
            return [_name(name), STARS]
    return redacted(item, depth)


def _name(name: object) -> str:
    return STARS if isinstance(name, _SECRET_TYPES) else shown_text(_text(name))


def _names_a_secret(name: object, part: object) -> bool:
    """A number under `token` counts something: the claims of a job, the words of a model."""
    plain = _text(name).lower().replace("-", "_")
    if part is None or (plain.endswith("token") and isinstance(part, int)):
        return False
    return plain.endswith(_SECRET_NAMES)


def _text(name: object) -> str:
    return name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else str(name)
