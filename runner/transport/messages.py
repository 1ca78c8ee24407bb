"""What the shim says in its JSON frames, parsed under a schema before anybody trusts it."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runner.errors import ProtocolViolation

Count = Annotated[int, Field(ge=0, lt=2**63)]
"""Of bytes or files; what a file system or a pipe can hold."""


class Message(BaseModel):
    """A JSON payload; unknown fields are refused, like everything that no shim sends."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Hello(Message):
    """The shim has started."""

    protocol: int
    python: str = Field(max_length=20)
    pid: int
    identity: str = Field(max_length=4000)
    """Lines of /proc/self/status, `Name: values`."""
    mounts: tuple[tuple[str, str, str], ...] = Field(max_length=100)
    """Mount point, file system type and options of each mount."""
    interfaces: tuple[str, ...]


class Started(Message):
    """The agent's command has been executed."""

    pid: int
    identity: str = Field(max_length=4000)
    """As in `Hello`, of the agent just before its command took over."""


class Usage(Message):
    """What the agent wrote, and where there is no room left."""

    totals: dict[str, Count] = Field(default_factory=dict, alias="bytes", max_length=10)
    full: tuple[str, ...] = Field(default=(), max_length=20)


class Exited(Usage):
    """The agent's first process has ended."""

    exit_code: Annotated[int, Field(ge=0, le=255)] | None
    signal: Annotated[int, Field(ge=1, le=127)] | None


class Stopped(Usage):
    """All of the agent's processes were killed."""

    remaining: Count


class Failed(Message):
    """The agent's command could not be executed."""

    error: str


class Dialed(Message):
    """The outcome of a connection inside the container; no error: it is open."""

    error: str = ""


class File(Message):
    """An entry of the output directory; its bytes follow unless it was skipped."""

    path: str = Field(min_length=1, max_length=20_000)
    """A character for each byte of the name: no encoding holds for what an agent writes."""
    size: Count
    skipped: str = ""


class Collected(Message):
    """The output directory has been walked."""

    truncated: str = ""


class CgroupFiles(Message):
    """The text of each cgroup file that exists."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, str]


M = TypeVar("M", bound=Message)


def parse(kind: type[M], payload: bytes) -> M:
    """The message in `payload`; raises ProtocolViolation when it is not one of `kind`."""
    try:
        return kind.model_validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ProtocolViolation(f"a malformed {kind.__name__} frame: {first['type']}") from error


def identity_fields(identity: str) -> dict[str, str]:
    """Lines `Name: values` as a mapping."""
    pairs = (line.partition(":") for line in identity.splitlines())
    return {name: values.strip() for name, _, values in pairs}
