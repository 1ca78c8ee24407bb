"""What happened within an attempt, as spans; and how a trace is named."""

from __future__ import annotations

import hashlib

from pydantic import Field

from runner.domain.base import Noun

AttributeValue = str | int | float | bool
"""What a span's attribute may be; structures are kept as JSON text."""


def trace_id_of(run_id: str, task_id: str, repeat: int, attempt: int) -> str:
    """The trace of one attempt: 32 hex digits, the same whenever and wherever it is asked for."""
    identity = "\0".join((run_id, task_id, str(repeat), str(attempt)))
    return hashlib.sha256(identity.encode("utf-8", "replace")).hexdigest()[:32]


class TraceMessage(Noun):
    """What was said to the agent, or by it."""

    role: str
    text: str


class TraceEvaluation(Noun):
    """The judgement of one criterion, or of the whole answer."""

    name: str
    points: float
    """0 to 1."""
    label: str = ""
    explanation: str = ""


class TraceEvent(Noun):
    """Something that happened at one moment of a span."""

    name: str
    unix_nanos: int
    attributes: dict[str, AttributeValue] = Field(default_factory=dict)
    messages: tuple[TraceMessage, ...] = ()
    """What was said, where the event tells."""
    evaluation: TraceEvaluation | None = None
    """The judgement, where the event is one."""


class TraceSpan(Noun):
    """A step of an attempt."""

    trace_id: str
    span_id: str
    parent_span_id: str = ""
    """Empty: the root."""
    name: str
    start_unix_nanos: int
    end_unix_nanos: int
    attributes: dict[str, AttributeValue] = Field(default_factory=dict)
    events: tuple[TraceEvent, ...] = ()
    failed: bool = False
    failure: str = ""
    """The status message of a failed span."""

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.end_unix_nanos - self.start_unix_nanos) / 1e9
