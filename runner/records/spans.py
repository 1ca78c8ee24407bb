"""Reads `trace.otlp.jsonl` back into spans; a damaged line is an error that names it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runner.domain.trace import (
    AttributeValue,
    TraceEvaluation,
    TraceEvent,
    TraceMessage,
    TraceSpan,
)
from runner.errors import UsageError
from runner.records import semconv


def load_trace(path: Path) -> tuple[TraceSpan, ...]:
    """All spans of a trace file, in the order of the file; raises UsageError."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {(error.strerror or str(error)).lower()}",
            remedy="`agenttrace runs show RUN` lists the attempts that have a trace",
        ) from error
    return tuple(span for number, line in enumerate(lines, 1) for span in _line(path, number, line))


def _line(path: Path, number: int, line: bytes) -> list[TraceSpan]:
    if not line.strip():
        return []
    try:
        return list(_spans(json.loads(line)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"{path}: line {number} is not an OTLP-JSON trace ({type(error).__name__})",
            remedy="the file was damaged after it was written; see execution.json beside it",
        ) from error


def _spans(data: dict[str, Any]) -> Iterator[TraceSpan]:
    for resource in data["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            yield from map(_span, scope["spans"])


def _span(span: dict[str, Any]) -> TraceSpan:
    status = span.get("status", {})
    return TraceSpan(
        trace_id=span["traceId"],
        span_id=span["spanId"],
        parent_span_id=span.get("parentSpanId", ""),
        name=span["name"],
        start_unix_nanos=int(span["startTimeUnixNano"]),
        end_unix_nanos=int(span["endTimeUnixNano"]),
        attributes=_attributes(span),
        events=tuple(map(_event, span.get("events", ()))),
        failed=status.get("code") == semconv.STATUS_ERROR,
        failure=status.get("message", ""),
    )


def _event(event: dict[str, Any]) -> TraceEvent:
    attributes = _attributes(event)
    return TraceEvent(
        name=event["name"],
        unix_nanos=int(event["timeUnixNano"]),
        attributes=attributes,
        messages=tuple(_messages(attributes)),
        evaluation=_evaluation(attributes) if event["name"] == semconv.EVALUATION_EVENT else None,
    )


def _messages(attributes: dict[str, AttributeValue]) -> Iterator[TraceMessage]:
    for name in (semconv.INPUT_MESSAGES, semconv.OUTPUT_MESSAGES):
        for message in json.loads(str(attributes.get(name, "[]"))):
            text = "\n".join(filter(None, map(_part_text, message["parts"])))
            yield TraceMessage(role=message["role"], text=text)


def _part_text(part: dict[str, Any]) -> str:
    """A part of a message as a person reads it."""
    match part:
        case {"type": "tool_call", "name": str(name), "arguments": str(arguments)}:
            return f"calls {name}({arguments})"
        case {"type": "tool_call_response", "response": str(response)}:
            return response
        case {"type": "reasoning", "content": str(content)}:
            return f"(reasoning) {content}"
        case _:
            return str(part.get("content", ""))


def _evaluation(attributes: dict[str, AttributeValue]) -> TraceEvaluation:
    return TraceEvaluation(
        name=str(attributes[semconv.EVALUATION_NAME]),
        points=float(attributes[semconv.EVALUATION_SCORE_VALUE]),
        label=str(attributes.get(semconv.EVALUATION_SCORE_LABEL, "")),
        explanation=str(attributes.get(semconv.EVALUATION_EXPLANATION, "")),
    )


def _attributes(holder: dict[str, Any]) -> dict[str, AttributeValue]:
    return {each["key"]: _value(each["value"]) for each in holder.get("attributes", ())}


def _value(value: dict[str, Any]) -> AttributeValue:
    match value:
        case {"boolValue": bool(given)}:
            return given
        case {"intValue": given}:
            return int(given)
        case {"doubleValue": given}:
            return float(given)
        case {"stringValue": str(given)}:
            return given
        case {"arrayValue": {"values": list(given)}}:
            return json.dumps([_value(each) for each in given])
        case _:
            return json.dumps(value)
