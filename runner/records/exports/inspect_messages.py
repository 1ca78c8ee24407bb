"""Messages and events as `inspect_ai` has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from runner.domain.gateway import Api, ModelCall, ToolCall
from runner.records.answers import said, tool_answer
from runner.records.conversation import AskedTool, Turn, told
from runner.records.encoding import json_text
from runner.records.exchanges import RecordedExchange, loaded_json
from runner.records.exports.chosen import Chosen, model_name, without_none
from runner.records.redaction import kept_text, kept_value

Json = dict[str, Any]
_ROLES = ("system", "user", "assistant", "tool")
_STOPS = {
    "stop": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "completed": "stop",
    "length": "max_tokens",
    "max_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "incomplete": "max_tokens",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "content_filter",
}
"""How providers name it, and how Inspect does."""


def sample_messages(chosen: Chosen, exchanges: Mapping[int, RecordedExchange]) -> list[Json]:
    """The conversation of the last call that was answered, for agents send all of it each time;
    where none was, the prompt. The attempt's answer ends it.
    """
    execution = chosen.execution
    turns: list[Turn] = []
    for call in sorted(execution.model_calls, key=lambda each: each.number, reverse=True):
        exchange = exchanges.get(call.number)
        if exchange and call.api is not Api.EMBEDDINGS and (answer := said(exchange)):
            turns = [*told(exchange), *answer]
            break
    turns = turns or [Turn(role="user", text=execution.input)]
    if execution.output and turns[-1].text != execution.output:
        turns.append(Turn(role="assistant", text=execution.output))
    return [message(turn) for turn in turns]


def message(turn: Turn) -> Json:
    """A chat message. The reasoning of a model stands before what it says."""
    role = turn.role if turn.role in _ROLES else "user"
    text = kept_text(turn.text)
    if role == "tool":
        return {"role": "tool", "content": text, "tool_call_id": kept_text(turn.answers) or None}
    if role != "assistant":
        return {"role": role, "content": text, "source": "input"}
    calls = [tool_call(call, position) for position, call in enumerate(turn.tool_calls, 1)]
    return without_none(
        {
            "role": "assistant",
            "content": _with_reasoning(text, turn.reasoning),
            "source": "generate",
            "tool_calls": calls or None,
        }
    )


def _with_reasoning(text: str, reasoning: str) -> str | list[Json]:
    if not reasoning:
        return text
    return [
        {"type": "reasoning", "reasoning": kept_text(reasoning)},
        {"type": "text", "text": text},
    ]


def tool_call(call: AskedTool, position: int) -> Json:
    """What a model asked for."""
    arguments = loaded_json(call.arguments) if call.arguments else {}
    right = isinstance(arguments, dict)
    return without_none(
        {
            "id": kept_text(call.call_id) or f"call_{position}",
            "function": kept_text(call.name),
            "arguments": kept_value(arguments) if right else {},
            "parse_error": None if right else f"not an object: {kept_text(call.arguments)}",
        }
    )


def model_usage(calls: list[ModelCall]) -> Json:
    """Tokens and cost of some calls together; a cost that is unknown is absent."""
    counted = [call for call in calls if call.token_source]
    costs = [call.cost_usd for call in counted if call.cost_usd is not None]
    tokens_input = sum(call.tokens_input for call in counted)
    tokens_output = sum(call.tokens_output for call in counted)
    return without_none(
        {
            "input_tokens": tokens_input,
            "output_tokens": tokens_output,
            "total_tokens": tokens_input + tokens_output,
            "total_cost": sum(costs) if costs and len(costs) == len(counted) else None,
        }
    )


def usage_by_model(calls: list[ModelCall]) -> dict[str, Json]:
    """`model_usage` for each model that was called."""
    counted = [call for call in calls if call.token_source]
    names = sorted({model_name(call) for call in counted})
    return {n: model_usage([call for call in counted if model_name(call) == n]) for n in names}


def events(chosen: Chosen, exchanges: Mapping[int, RecordedExchange]) -> Iterator[Json]:
    """Each call, as the gateway saw it."""
    start = chosen.execution.started_at
    for call in chosen.calls():
        at = moment(call.start_unix_nanos)
        base = {
            "timestamp": at.isoformat(),
            "working_start": max((at - start).total_seconds(), 0.0),
            "working_time": call.seconds,
            "completed": moment(call.start_unix_nanos + round(call.seconds * 1e9)).isoformat(),
        }
        exchange = exchanges.get(call.number)
        if isinstance(call, ModelCall):
            yield base | _model_event(call, exchange)
        else:
            yield base | _tool_event(call, exchange)


def _model_event(call: ModelCall, exchange: RecordedExchange | None) -> Json:
    turns = said(exchange) if exchange else ()
    failure = call.refused or (str(call.status) if call.status >= 400 else None)
    output = {
        "model": model_name(call),
        "choices": [
            {"message": message(turn), "stop_reason": stop_reason(call)}
            for turn in turns
            if turn.role == "assistant"
        ],
        "completion": kept_text("\n".join(turn.text for turn in turns if turn.text)),
        "usage": model_usage([call]) if call.token_source else None,
        "time": call.seconds,
    }
    return without_none(
        {
            "event": "model",
            "model": model_name(call),
            "input": [message(turn) for turn in told(exchange)] if exchange else [],
            "tools": [],
            "tool_choice": "auto",
            "config": {},
            "output": without_none(output),
            "retries": call.retries or None,
            "error": failure,
            "cache": "read" if call.cached else None,
            "metadata": {
                "number": call.number,
                "api": call.api.value,
                "digest": call.digest,
                "token_source": call.token_source and call.token_source.value,
                "waited_seconds": call.waited_seconds,
                "first_chunk_seconds": call.first_chunk_seconds,
                "aborted": call.aborted,
            },
        }
    )


def stop_reason(call: ModelCall) -> str:
    """In Inspect's words."""
    return _STOPS.get(next(iter(call.finish_reasons), ""), "unknown")


def _tool_event(call: ToolCall, exchange: RecordedExchange | None) -> Json:
    result, error = tool_answer(exchange) if exchange else (call.result, call.error)
    given = exchange.request.get("arguments") if exchange else call.arguments
    arguments = kept_value(given)
    failure = {
        "type": "limit" if call.refused == "tool_calls_exceeded" else "unknown",
        "message": kept_text(error or call.error or call.refused),
    }
    return without_none(
        {
            "event": "tool",
            "type": "function",
            "id": f"call_{call.number}",
            "function": kept_text(call.name)[:200],
            "arguments": arguments if isinstance(arguments, dict) else {"arguments": arguments},
            "result": _result(result) if call.succeeded else "",
            "error": None if call.succeeded else failure,
            "failed": not call.succeeded,
            "metadata": {
                "number": call.number,
                "via": call.via,
                "digest": call.digest,
                "cached": call.cached,
            },
        }
    )


def _result(result: Any) -> str:
    return kept_text(result) if isinstance(result, str) else json_text(kept_value(result))


def moment(unix_nanos: int) -> datetime:
    """Aware."""
    return datetime.fromtimestamp(unix_nanos / 1e9, UTC)
