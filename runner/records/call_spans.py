"""The spans of an attempt's calls of models and tools, as the gateway saw them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from runner.domain.execution import TaskExecution
from runner.domain.gateway import Api, ModelCall, ToolCall
from runner.records import semconv
from runner.records.call_texts import CallTexts
from runner.records.encoding import Json, attributes, event, json_text, nanos, span_id
from runner.records.redaction import kept_value, without_keys

_NAME_CHARACTERS = 200
_FIRST_ERROR_STATUS = 400


def call_spans(
    execution: TaskExecution, trace_id: str, parent_id: str, texts: CallTexts | None
) -> Iterator[Json]:
    """Those of all calls, by their number; `texts` is what was said in them. None: it is not to be
    told.
    """
    calls: list[ModelCall | ToolCall] = [*execution.model_calls, *execution.tool_calls]
    for call in sorted(calls, key=lambda each: each.number):
        end = call.start_unix_nanos + nanos(call.seconds)
        values = _values(call, texts)
        span = {
            "traceId": trace_id,
            "spanId": span_id(trace_id, f"call\0{call.number}"),
            "parentSpanId": parent_id,
            "name": _name(call),
            "kind": semconv.KIND_CLIENT if isinstance(call, ModelCall) else semconv.KIND_INTERNAL,
            "startTimeUnixNano": str(max(call.start_unix_nanos, 0)),
            "endTimeUnixNano": str(max(end, 0)),
            "attributes": attributes(values),
            "events": list(_events(call, texts, str(max(end, 0)))),
        }
        yield span | _status(call)


def extent_of_calls(execution: TaskExecution) -> Iterable[tuple[int, int]]:
    """When each began and ended, in nanoseconds since the epoch."""
    calls: list[ModelCall | ToolCall] = [*execution.model_calls, *execution.tool_calls]
    for call in calls:
        yield call.start_unix_nanos, call.start_unix_nanos + nanos(call.seconds)


def failure_of(call: ModelCall | ToolCall) -> str:
    """`error.type` of a call; empty: it was answered. An agent that goes away is no failure."""
    match call:
        case ModelCall() if call.refused or call.status >= _FIRST_ERROR_STATUS:
            return call.refused or str(call.status)
        case ToolCall() if not call.succeeded:
            return call.refused or semconv.TOOL_ERROR
        case _:
            return ""


def _name(call: ModelCall | ToolCall) -> str:
    what = call.model if isinstance(call, ModelCall) else call.name
    return f"{_operation(call)} {_cut(what)}".rstrip()


def _cut(name: str) -> str:
    """A name that the agent chose."""
    return without_keys(name[:_NAME_CHARACTERS])


def _operation(call: ModelCall | ToolCall) -> str:
    if isinstance(call, ToolCall):
        return semconv.EXECUTE_TOOL
    return semconv.EMBEDDINGS if call.api is Api.EMBEDDINGS else semconv.CHAT


def _status(call: ModelCall | ToolCall) -> Json:
    failure = failure_of(call)
    if not failure:
        return {}
    detail = without_keys(call.error) if isinstance(call, ToolCall) else ""
    message = ": ".join(part for part in (failure, detail) if part)
    return {"status": {"code": semconv.STATUS_ERROR, "message": message}}


# -- attributes ----------------------------------------------------------------------------------


def _values(call: ModelCall | ToolCall, texts: CallTexts | None) -> Json:
    own = _of_model(call) if isinstance(call, ModelCall) else _of_tool(call, texts)
    return own | {
        semconv.OPERATION_NAME: _operation(call),
        semconv.ERROR_TYPE: failure_of(call) or None,
        semconv.CALL_NUMBER: call.number,
        semconv.CALL_DIGEST: call.digest or None,
        semconv.CALL_REFUSED: call.refused or None,
        semconv.CALL_CACHED: call.cached,
    }


def _of_model(call: ModelCall) -> Json:
    counted = call.token_source is not None
    return {
        semconv.PROVIDER_NAME: call.upstream or semconv.PROVIDER_NAME_VALUE,
        semconv.REQUEST_MODEL: _cut(call.model),
        semconv.FINISH_REASONS: list(call.finish_reasons) or None,
        semconv.USAGE_INPUT_TOKENS: call.tokens_input if counted else None,
        semconv.USAGE_OUTPUT_TOKENS: call.tokens_output if counted else None,
        semconv.CALL_API: call.api.value,
        semconv.CALL_STATUS: call.status,
        semconv.CALL_TOKEN_SOURCE: call.token_source and call.token_source.value,
        semconv.CALL_COST: call.cost_usd,
        semconv.CALL_FIRST_CHUNK_SECONDS: call.first_chunk_seconds,
        semconv.CALL_WAITED_SECONDS: call.waited_seconds,
        semconv.CALL_RETRIES: call.retries,
        semconv.CALL_STREAMED: call.streamed,
        semconv.CALL_ABORTED: call.aborted,
        semconv.CALL_REQUEST_BYTES: call.request_bytes,
        semconv.CALL_RESPONSE_BYTES: call.response_bytes,
    }


def _of_tool(call: ToolCall, texts: CallTexts | None) -> Json:
    return {
        semconv.TOOL_NAME: _cut(call.name),
        semconv.TOOL_TYPE: semconv.TOOL_TYPE_VALUE,
        semconv.TOOL_VIA: call.via,
        semconv.TOOL_SUCCEEDED: call.succeeded,
    } | (_told_to_tool(call, texts) if texts is not None else {})


def _told_to_tool(call: ToolCall, texts: CallTexts) -> Json:
    found = texts.of_tool(call.number)
    arguments, result = found or (kept_value(call.arguments), kept_value(call.result))
    return {
        semconv.TOOL_ARGUMENTS: json_text(arguments),
        semconv.TOOL_RESULT: json_text(result) if call.succeeded else None,
    }


def _events(call: ModelCall | ToolCall, texts: CallTexts | None, moment: str) -> Iterator[Json]:
    if texts is None or isinstance(call, ToolCall):
        return
    if found := texts.of_model(call.number):
        yield event(semconv.OPERATION_DETAILS_EVENT, moment, found)
