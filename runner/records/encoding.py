"""How values are written in OTLP-JSON: attributes, events, ids and moments."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

Json = dict[str, Any]
"""A JSON object; nothing but this room's own output."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INT64_MAX = 2**63 - 1
_HEX_CHARACTERS = 200


def attributes(values: Mapping[str, Any]) -> list[Json]:
    """Those that have a value; None is absent."""
    return [{"key": key, "value": _any_value(v)} for key, v in values.items() if v is not None]


def _any_value(value: str | float | bool | Sequence[str]) -> Json:
    """OTLP's AnyValue. A number that its types cannot hold is kept as text."""
    match value:
        case bool():
            return {"boolValue": value}
        case int() if -_INT64_MAX <= value <= _INT64_MAX:
            return {"intValue": str(value)}
        case float() if math.isfinite(value):
            return {"doubleValue": value}
        case int():
            return {"stringValue": hex(value)[:_HEX_CHARACTERS]}  # str() refuses huge ones
        case list() | tuple():
            return {"arrayValue": {"values": [_any_value(each) for each in value]}}
        case _:
            return {"stringValue": str(value)}


def event(name: str, moment: str, values: Mapping[str, Any]) -> Json:
    """Something that happened at `moment`, in nanoseconds."""
    return {"name": name, "timeUnixNano": moment, "attributes": attributes(values)}


def json_text(value: object) -> str:
    """A structure as an attribute has it."""
    # Escaped to ASCII, so that a lone surrogate in it stays what the agent wrote.
    return json.dumps(value, separators=(",", ":"))


def span_id(trace_id: str, name: str) -> str:
    """16 hex digits; `name` tells the spans of a trace apart."""
    return hashlib.sha256(f"{trace_id}\0{name}".encode("utf-8", "replace")).hexdigest()[:16]


def unix_nanos(moment: datetime) -> int:
    """Since the epoch."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def nanos(seconds: float) -> int:
    """A duration."""
    return round(seconds * 1e9)
