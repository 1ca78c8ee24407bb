"""Takes out of a text what looks like a key, and cuts it to a size that a trace may hold."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

STARS = "**********"
MOST_CHARACTERS = 100_000
"""Of one text."""
_OVERLAP = 4096
"""Read beyond the cut, so that a key that lies across it is known."""
_DEEPEST = 20

_KEYS = re.compile(
    # An attempt's own; then those of the usual providers. Each part is linear.
    r"at-[0-9a-f]{32}"
    r"|\bsk-[A-Za-z0-9_-]{8,}"
    r"|\b(?:ghp|gho|ghu|ghs|ghr)_[A-Za-z0-9]{20,}"
    r"|\bxox[abprs]-[A-Za-z0-9-]{10,}"
    r"|\bAKIA[0-9A-Z]{16}\b"
    r"|\bAIza[0-9A-Za-z_-]{30,}"
    r"|(?<=[Bb]earer )[A-Za-z0-9._~+/=-]{8,}"
    r"|(?<=BEARER )[A-Za-z0-9._~+/=-]{8,}"
)


def without_keys(text: str) -> str:
    """`text` with stars for all that looks like a key."""
    return _KEYS.sub(STARS, text)


def kept_text(text: str) -> str:
    """`text` as a trace may hold it: without keys, at most `MOST_CHARACTERS` of it."""
    shown = without_keys(text[: MOST_CHARACTERS + _OVERLAP])
    left_out = len(text) - MOST_CHARACTERS
    if left_out <= 0:
        return shown
    return f"{shown[:MOST_CHARACTERS]} [cut: some {left_out} characters more]"


def kept_value(value: Any, depth: int = _DEEPEST) -> Any:
    """A JSON value whose texts, and names, are as `kept_text` has them."""
    if isinstance(value, str):
        return kept_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping | list | tuple) and not depth:
        return "[cut: nested too deep]"
    if isinstance(value, Mapping):
        return {kept_text(str(k)): kept_value(v, depth - 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [kept_value(each, depth - 1) for each in value]
    return value
