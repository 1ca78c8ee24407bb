"""What a scripted model says, as Anthropic's messages have it."""

from __future__ import annotations

import json
from collections.abc import Iterator

from runner.gateway.apis.checks import compact
from runner.gateway.calls import ModelRequest
from runner.gateway.upstreams.said import Json, Said, id_of, named_event, pieces_of


def _message_reason(said: Said) -> str:
    return "max_tokens" if said.cut_short else "tool_use" if said.calls else "end_turn"


def _message_blocks(request: ModelRequest, said: Said) -> list[Json]:
    calls = [
        {
            "type": "tool_use",
            "id": id_of("toolu_", request, place),
            "name": call.name,
            "input": json.loads(call.arguments),
        }
        for place, call in enumerate(said.calls)
    ]
    text = {"type": "text", "text": said.text}
    return [text, *calls] if said.text or not calls else [*calls]


def messages(request: ModelRequest, model: str, said: Said) -> Json:
    """The answer as one object."""
    answer: Json = {
        "id": id_of("msg_", request),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": _message_blocks(request, said),
        "stop_reason": _message_reason(said),
        "stop_sequence": None,
    }
    if said.usage is not None:
        answer["usage"] = {"input_tokens": said.usage[0], "output_tokens": said.usage[1]}
    return answer


def messages_stream(request: ModelRequest, model: str, said: Said, pieces: int) -> Iterator[bytes]:
    """The answer as a stream."""
    answer = messages(request, model, said)
    usage = answer.get("usage")
    begun = {**answer, "content": [], "stop_reason": None}
    if usage:
        begun["usage"] = {**usage, "output_tokens": 1}
    yield named_event({"type": "message_start", "message": begun})
    for place, block in enumerate(answer["content"]):
        yield from _block_events(place, block, pieces)
    end: Json = {
        "type": "message_delta",
        "delta": {"stop_reason": answer["stop_reason"], "stop_sequence": None},
    }
    if usage:
        end["usage"] = {"output_tokens": usage["output_tokens"]}
    yield named_event(end)
    yield named_event({"type": "message_stop"})


def _block_events(place: int, block: Json, pieces: int) -> Iterator[bytes]:
    if block["type"] == "text":
        empty: Json = {"text": ""}
        deltas = [{"type": "text_delta", "text": part} for part in pieces_of(block["text"], pieces)]
    else:
        empty = {"input": {}}
        written = pieces_of(compact(block["input"]), pieces)
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in written]
    start = {"type": "content_block_start", "index": place, "content_block": {**block, **empty}}
    yield named_event(start)
    for delta in deltas:
        yield named_event({"type": "content_block_delta", "index": place, "delta": delta})
    yield named_event({"type": "content_block_stop", "index": place})
