"""What a scripted model says, as OpenAI's responses have it."""

from __future__ import annotations

from collections.abc import Iterator

from runner.gateway.calls import ModelRequest
from runner.gateway.upstreams.said import Json, Said, id_of, named_event, pieces_of


def _response(request: ModelRequest, model: str, output: list[Json], said: Said | None) -> Json:
    """`said` None: it has only begun."""
    status = "in_progress" if said is None else "incomplete" if said.cut_short else "completed"
    cut = {"reason": "max_output_tokens"} if status == "incomplete" else None
    usage = None
    if said is not None and said.usage is not None:
        taken, given = said.usage
        usage = {
            "input_tokens": taken,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": given,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": taken + given,
        }
    return {
        "id": id_of("resp_", request),
        "object": "response",
        "created_at": 0,
        "status": status,
        "error": None,
        "incomplete_details": cut,
        "instructions": request.body.get("instructions"),
        "metadata": {},
        "model": model,
        "output": output,
        "parallel_tool_calls": True,
        "temperature": request.body.get("temperature"),
        "tool_choice": request.body.get("tool_choice") or "auto",
        "tools": request.body.get("tools") or [],
        "top_p": request.body.get("top_p"),
        "usage": usage,
    }


def _response_items(request: ModelRequest, said: Said) -> list[Json]:
    message = {
        "id": id_of("msg_", request),
        "type": "message",
        "status": "incomplete" if said.cut_short else "completed",
        "role": "assistant",
        "content": [_output_text(said.text)],
    }
    calls = [
        {
            "id": id_of("fc_", request, place),
            "type": "function_call",
            "status": "completed",
            "call_id": id_of("call_", request, place),
            "name": call.name,
            "arguments": call.arguments,
        }
        for place, call in enumerate(said.calls)
    ]
    return [message, *calls] if said.text or not calls else [*calls]


def _output_text(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def responses(request: ModelRequest, model: str, said: Said) -> Json:
    """The answer as one object."""
    return _response(request, model, _response_items(request, said), said)


def responses_stream(request: ModelRequest, model: str, said: Said, pieces: int) -> Iterator[bytes]:
    """The answer as a stream."""
    items = _response_items(request, said)
    begun = _response(request, model, [], None)
    ended = _response(request, model, items, said)
    told: list[Json] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
    ]
    for place, item in enumerate(items):
        told += _item_events(place, item, pieces)
    kind = "response.incomplete" if said.cut_short else "response.completed"
    told.append({"type": kind, "response": ended})
    for number, event in enumerate(told):
        yield named_event({**event, "sequence_number": number})


def _item_events(place: int, item: Json, pieces: int) -> list[Json]:
    at = {"item_id": item["id"], "output_index": place}
    if item["type"] == "message":
        empty: Json = {"content": []}
        inner = _text_events(at, item["content"][0], pieces)
    else:
        empty = {"arguments": ""}
        inner = _argument_events(at, item, pieces)
    begun = {**item, **empty, "status": "in_progress"}
    return [
        {"type": "response.output_item.added", "output_index": place, "item": begun},
        *inner,
        {"type": "response.output_item.done", "output_index": place, "item": item},
    ]


def _text_events(at: Json, part: Json, pieces: int) -> list[Json]:
    at = {**at, "content_index": 0}
    text = part["text"]
    return [
        {"type": "response.content_part.added", **at, "part": _output_text("")},
        *(
            {"type": "response.output_text.delta", **at, "delta": piece, "logprobs": []}
            for piece in pieces_of(text, pieces)
        ),
        {"type": "response.output_text.done", **at, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **at, "part": part},
    ]


def _argument_events(at: Json, item: Json, pieces: int) -> list[Json]:
    kind = "response.function_call_arguments"
    done = {"name": item["name"], "arguments": item["arguments"]}
    deltas = [
        {"type": f"{kind}.delta", **at, "delta": piece}
        for piece in pieces_of(item["arguments"], pieces)
    ]
    return [*deltas, {"type": f"{kind}.done", **at, **done}]
