"""What a model said, put together again from an answer in one piece or from a stream."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from runner.domain.gateway import Api
from runner.records.conversation import (
    Turn,
    block_turns,
    chat_turn,
    first_object,
    item_turns,
    objects,
    text_of,
)
from runner.records.exchanges import RecordedExchange, loaded_json

Json = dict[str, Any]


def said(exchange: RecordedExchange) -> tuple[Turn, ...]:
    """The messages of an answer: one for each choice, or item; none where there was an error."""
    if not exchange.answered:
        return ()
    body = exchange.answer
    if _is_stream(exchange, body):
        return tuple(_streamed(exchange.api, list(_events(body))))
    return tuple(_whole(exchange.api, first_object(loaded_json(body))))


def tool_answer(exchange: RecordedExchange) -> tuple[Any, str]:
    """The result of a tool's exchange, and its error; both as they were sent."""
    body = exchange.answer
    answer = loaded_json(body)
    if isinstance(answer, dict) and answer.keys() & {"result", "error"}:
        return answer.get("result"), text_of(answer.get("error"))
    return (body if answer is None else answer), ""


def _whole(api: str, answer: Json) -> Iterable[Turn]:
    match api:
        case Api.CHAT:
            choices = objects(answer.get("choices"))
            return [chat_turn(_assistant(first_object(each.get("message")))) for each in choices]
        case Api.MESSAGES:
            return block_turns("assistant", answer.get("content"))
        case Api.RESPONSES:
            return item_turns(answer.get("output"))
        case _:
            return ()


def _assistant(message: Json) -> Json:
    return {"role": "assistant"} | message


# -- streams -------------------------------------------------------------------------------------


def _is_stream(exchange: RecordedExchange, body: str) -> bool:
    kind = exchange.content_type.partition(";")[0].strip().lower()
    return kind == "text/event-stream" or body.startswith(("data:", "event:"))


def _events(body: str) -> Iterator[Json]:
    """The JSON objects of a stream of server-sent events."""
    for line in body.splitlines():
        if line.startswith("data:") and isinstance(data := loaded_json(line[5:]), dict):
            yield data


def _streamed(api: str, events: list[Json]) -> Iterable[Turn]:
    match api:
        case Api.CHAT:
            return _chat_stream(events)
        case Api.MESSAGES:
            return block_turns("assistant", _blocks(events))
        case Api.RESPONSES:
            return _response_stream(events)
        case _:
            return ()


def _chat_stream(events: list[Json]) -> Iterator[Turn]:
    deltas: dict[int, list[Json]] = defaultdict(list)
    for event in events:
        for choice in objects(event.get("choices")):
            deltas[_index(choice)].append(first_object(choice.get("delta")))
    for _, parts in sorted(deltas.items()):
        message = {
            "role": "assistant",
            "tool_calls": _joined_calls(parts),
        } | {name: _joined(parts, name) for name in ("content", "refusal", "reasoning_content")}
        yield chat_turn(message)


def _joined_calls(deltas: list[Json]) -> list[Json]:
    calls: dict[int, list[Json]] = defaultdict(list)
    for delta in deltas:
        for call in objects(delta.get("tool_calls")):
            calls[_index(call)].append(call)
    return [_joined_call(parts) for _, parts in sorted(calls.items())]


def _joined_call(parts: list[Json]) -> Json:
    functions = [first_object(part.get("function")) for part in parts]
    function = {name: _joined(functions, name) for name in ("name", "arguments")}
    return {"id": next((part["id"] for part in parts if part.get("id")), ""), "function": function}


def _blocks(events: list[Json]) -> list[Json]:
    blocks: dict[int, Json] = {}
    changes: dict[int, list[Json]] = defaultdict(list)
    for event in events:
        match event.get("type"):
            case "content_block_start":
                blocks[_index(event)] = first_object(event.get("content_block"))
            case "content_block_delta":
                changes[_index(event)].append(first_object(event.get("delta")))
    for index, block in blocks.items():
        deltas = changes[index]
        for name in ("text", "thinking"):
            if name in block:
                block[name] = text_of(block[name]) + _joined(deltas, name)
        if arguments := _joined(deltas, "partial_json"):
            block["input"] = arguments
    return [block for _, block in sorted(blocks.items())]


def _response_stream(events: list[Json]) -> Iterable[Turn]:
    """The whole response stands in its last event; of one that broke off, the text until then."""
    ends = [first_object(each.get("response")) for each in events]
    for end in reversed(ends):
        if output := end.get("output"):
            return item_turns(output)
    deltas = [each for each in events if each.get("type") == "response.output_text.delta"]
    text = _joined(deltas, "delta")
    return (Turn(role="assistant", text=text),) if text else ()


def _joined(parts: list[Json], name: str) -> str:
    return "".join(text_of(part.get(name)) for part in parts)


def _index(holder: Json) -> int:
    index = holder.get("index")
    return index if isinstance(index, int) else 0
