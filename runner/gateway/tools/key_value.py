"""A store of JSON values by key, as an agent's memory or as the task's own data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, JsonValue, model_validator

from runner.domain import ToolAnswer, ToolDefinition
from runner.gateway.tools.setup import ToolSetup

_KEY_CHARACTERS = 200
_KEYS = 1_000
_VALUE_BYTES = 16 * 1024
_TOTAL_BYTES = 1024 * 1024
_LISTED = 100

Key = Annotated[str, Field(min_length=1, max_length=_KEY_CHARACTERS)]

_DEFINITION = ToolDefinition(
    name="key_value",
    description=(
        "Stores JSON values by key. Operations: get (a key's value), set (a key to a value), "
        "delete (a key), list (the keys, in order, that begin with a prefix)."
    ),
    parameters={
        "type": "object",
        "properties": {
            "operation": {"type": "string", "enum": ["get", "set", "delete", "list"]},
            "key": {
                "type": "string",
                "minLength": 1,
                "maxLength": _KEY_CHARACTERS,
                "description": "For get, set and delete",
            },
            "value": {"description": "For set: any JSON value"},
            "prefix": {
                "type": "string",
                "maxLength": _KEY_CHARACTERS,
                "description": "For list; left out: all keys",
            },
            "offset": {
                "type": "integer",
                "minimum": 0,
                "maximum": _KEYS,
                "description": f"For list: how many keys to skip; at most {_LISTED} are listed",
            },
        },
        "required": ["operation"],
        "additionalProperties": False,
    },
)


class KeyValueSetup(ToolSetup):
    """What the store holds at first."""

    data: dict[Key, JsonValue] = Field(default_factory=dict, max_length=_KEYS)

    @model_validator(mode="after")
    def _fits(self) -> KeyValueSetup:
        if any(_size(value) > _VALUE_BYTES for value in self.data.values()):
            raise ValueError(f"a value in data is larger than {_VALUE_BYTES} bytes of JSON")
        if sum(_entry_size(*entry) for entry in self.data.items()) > _TOTAL_BYTES:
            raise ValueError(f"data is larger than {_TOTAL_BYTES} bytes of JSON")
        return self


class KeyValue:
    """Values by key (`runner.ports.Tool`)."""

    def __init__(self, setup: KeyValueSetup) -> None:
        self._data = dict(setup.data)
        self._bytes = sum(_entry_size(*entry) for entry in self._data.items())

    @property
    def definition(self) -> ToolDefinition:
        """What the agent is told of it."""
        return _DEFINITION

    @property
    def cacheable(self) -> bool:
        """False: what it says depends on what was set."""
        return False

    async def call(self, arguments: Mapping[str, JsonValue]) -> ToolAnswer:
        """What `operation` gives."""
        operation = arguments["operation"]
        if operation == "list":
            return self._list(str(arguments.get("prefix", "")), arguments.get("offset", 0))
        if "key" not in arguments:
            return ToolAnswer(error=f"{operation} needs a key")
        key = str(arguments["key"])
        if operation == "set":
            return self._set(key, arguments)
        if key not in self._data:
            return ToolAnswer(error="there is no such key")
        return self._delete(key) if operation == "delete" else self._get(key)

    def _get(self, key: str) -> ToolAnswer:
        return ToolAnswer(result={"value": self._data[key]})

    def _set(self, key: str, arguments: Mapping[str, JsonValue]) -> ToolAnswer:
        if "value" not in arguments:
            return ToolAnswer(error="set needs a value")
        value = arguments["value"]
        if _size(value) > _VALUE_BYTES:
            return ToolAnswer(error=f"a value is at most {_VALUE_BYTES} bytes of JSON")
        if key not in self._data and len(self._data) >= _KEYS:
            return ToolAnswer(error=f"the store is full: it has {_KEYS} keys")
        grown = self._bytes + _entry_size(key, value) - self._held(key)
        if grown > _TOTAL_BYTES:
            return ToolAnswer(error=f"the store is full: it holds {_TOTAL_BYTES} bytes")
        self._data[key], self._bytes = value, grown
        return ToolAnswer(result={"stored": True})

    def _delete(self, key: str) -> ToolAnswer:
        self._bytes -= self._held(key)
        del self._data[key]
        return ToolAnswer(result={"deleted": True})

    def _list(self, prefix: str, offset: JsonValue) -> ToolAnswer:
        keys = sorted(key for key in self._data if key.startswith(prefix))
        start = int(offset) if isinstance(offset, int | float) else 0
        page: list[JsonValue] = [*keys[start : start + _LISTED]]
        return ToolAnswer(result={"keys": page, "total": len(keys)})

    def _held(self, key: str) -> int:
        return _entry_size(key, self._data[key]) if key in self._data else 0


def _entry_size(key: str, value: JsonValue) -> int:
    return len(key.encode()) + _size(value)


def _size(value: JsonValue) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode())
