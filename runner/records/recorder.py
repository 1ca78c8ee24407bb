"""Records what an agent does, call by call, in a file that reads back as it was written."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AwareDatetime, Field, JsonValue, ValidationError

from runner.domain.base import Noun
from runner.domain.text import one_line
from runner.errors import UsageError
from runner.records.durable import replace_synced, storing

VERSION: Literal[1] = 1
E = TypeVar("E", "AgentInvocation", "RecordedToolCall", "RecordedModelCall")


class AgentInvocation(Noun):
    """An agent was asked, and answered."""

    kind: Literal["agent"] = "agent"
    agent: str
    input: JsonValue
    output: JsonValue
    error: str = ""
    """Why there is no output; empty: there is one."""
    seconds: float | None = Field(default=None, ge=0)
    at: AwareDatetime
    details: dict[str, JsonValue] = Field(default_factory=dict)


class RecordedToolCall(Noun):
    """A tool was called."""

    kind: Literal["tool"] = "tool"
    tool: str
    arguments: JsonValue
    result: JsonValue
    error: str = ""
    seconds: float | None = Field(default=None, ge=0)
    at: AwareDatetime
    details: dict[str, JsonValue] = Field(default_factory=dict)


class RecordedModelCall(Noun):
    """A model was called."""

    kind: Literal["model"] = "model"
    model: str
    request: JsonValue
    response: JsonValue
    error: str = ""
    tokens_input: int | None = Field(default=None, ge=0)
    tokens_output: int | None = Field(default=None, ge=0)
    cost_usd: float | None = Field(default=None, ge=0)
    """None: unknown, which is not zero."""
    seconds: float | None = Field(default=None, ge=0)
    at: AwareDatetime
    details: dict[str, JsonValue] = Field(default_factory=dict)


Entry = Annotated[
    AgentInvocation | RecordedToolCall | RecordedModelCall, Field(discriminator="kind")
]


class Recording(Noun):
    """What a recorder's file holds."""

    version: Literal[1] = VERSION
    entries: tuple[Entry, ...] = ()


class ExecutionRecorder:
    """Notes invocations and calls in the order in which they are told to it.

    Each `record_...` raises UsageError for what JSON cannot hold. Not for several threads at once.
    """

    def __init__(self) -> None:
        self._entries: list[AgentInvocation | RecordedToolCall | RecordedModelCall] = []

    @property
    def entries(self) -> tuple[AgentInvocation | RecordedToolCall | RecordedModelCall, ...]:
        """All that was recorded, oldest first."""
        return tuple(self._entries)

    def record_agent_invocation(
        self,
        agent: str,
        input: Any,  # noqa: A002 - what it is
        output: Any = None,
        **more: Any,
    ) -> AgentInvocation:
        """Notes that an agent was asked; `more` are further fields of `AgentInvocation`."""
        return self._note(AgentInvocation, agent=agent, input=input, output=output, **more)

    def record_tool_call(
        self, tool: str, arguments: Any, result: Any = None, **more: Any
    ) -> RecordedToolCall:
        """Notes that a tool was called; `more` are further fields of `RecordedToolCall`."""
        return self._note(RecordedToolCall, tool=tool, arguments=arguments, result=result, **more)

    def record_model_call(
        self, model: str, request: Any, response: Any = None, **more: Any
    ) -> RecordedModelCall:
        """Notes that a model was called; `more` are further fields of `RecordedModelCall`."""
        return self._note(
            RecordedModelCall, model=model, request=request, response=response, **more
        )

    def save_to_file(self, path: str | Path) -> None:
        """Writes a file that readers see whole or not at all; raises StorageFailed."""
        path = Path(path)
        recording = Recording(entries=self.entries)
        # By `json`, in ASCII: pydantic's own writing loses half a surrogate pair in a name.
        text = json.dumps(recording.model_dump(), indent=2, default=datetime.isoformat)
        with storing(path):
            replace_synced(path, text.encode("ascii") + b"\n")

    @classmethod
    def load_from_file(cls, path: str | Path) -> ExecutionRecorder:
        """A recorder that goes on where that of the file ended; raises UsageError."""
        recorder = cls()
        recorder._entries.extend(_read(Path(path)).entries)
        return recorder

    def _note(self, noun: type[E], **fields: Any) -> E:
        plain = {name: _plain(value, name) for name, value in fields.items() if name != "at"}
        try:
            entry = noun.model_validate(plain | {"at": fields.get("at") or datetime.now(UTC)})
        except ValidationError as error:
            raise UsageError(f"this cannot be recorded: {_first(error)}") from error
        self._entries.append(entry)
        return entry


def _plain(value: Any, name: str) -> Any:
    """What a file gives back for `value`: a copy that nobody changes later."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{name} cannot be recorded: {one_line(str(error), 100)}",
            remedy="give what JSON can hold: text, numbers, lists, mappings with text as keys",
        ) from error


def _read(path: Path) -> Recording:
    remedy = "give a file that ExecutionRecorder.save_to_file has written"
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"cannot read {path}: {reason}", remedy=remedy) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON", remedy=remedy) from error
    version = data.get("version") if isinstance(data, dict) else None
    if version != VERSION:
        what = one_line(repr(version), 50)
        raise UsageError(f"{path} is a recording of version {what}, not {VERSION}", remedy=remedy)
    try:
        return Recording.model_validate(data)
    except ValidationError as error:
        raise UsageError(f"{path} is damaged at {_first(error)}", remedy=remedy) from error


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
