"""What the setup of every tool may hold, whichever tool it is."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class Fault(StrEnum):
    """What becomes of one call of a flaky tool."""

    OK = "ok"
    ERROR = "error"
    """An error; the tool is not called."""
    TIMEOUT = "timeout"
    """The error of a call that took too long; the tool is not called."""
    MALFORMED = "malformed"
    """The tool is called; its result comes as a text, cut in the middle."""
    SLOW = "slow"
    """The tool is called, `slow_seconds` late."""


class ToolSetup(BaseModel):
    """Settings of one tool in one task; subclasses add what the tool's world holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flaky: tuple[Fault, ...] = Field(default=(), max_length=1000)
    """What becomes of the first, second, ... call; the last holds for all further ones."""
    flaky_then: Fault | None = None
    """What becomes of the calls after those of `flaky`, instead of its last."""
    slow_seconds: float = Field(default=1.0, ge=0, le=5)
