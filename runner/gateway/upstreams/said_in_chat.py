"""What a scripted model says, as OpenAI's chat completions have it."""

from __future__ import annotations

from collections.abc import Iterator

from runner.gateway.calls import ModelRequest
from runner.gateway.upstreams.said import Json, Said, data_event, id_of, pieces_of


def _chat_usage(said: Said) -> Json | None:
    if said.usage is None:
        return None
    taken, given = said.usage
    return {"prompt_tokens": taken, "completion_tokens": given, "total_tokens": taken + given}


def _chat_reason(said: Said) -> str:
    return "length" if said.cut_short else "tool_calls" if said.calls else "stop"


def _chat_calls(request: ModelRequest, said: Said, choice: int) -> list[Json]:
    return [
        {
            "id": id_of("call_", request, choice, place),
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for place, call in enumerate(said.calls)
    ]


def chat(request: ModelRequest, model: str, said: Said) -> Json:
    """The answer as one object."""

    def choice(number: int) -> Json:
        message: Json = {"role": "assistant", "content": said.text or None}
        if said.calls:
            message["tool_calls"] = _chat_calls(request, said, number)
        return {
            "index": number,
            "message": message,
            "logprobs": None,
            "finish_reason": _chat_reason(said),
        }

    answer: Json = {
        "id": id_of("chatcmpl-", request),
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [choice(number) for number in range(request.choices)],
    }
    usage = _chat_usage(said)
    return {**answer, "usage": usage} if usage else answer


def chat_stream(request: ModelRequest, model: str, said: Said, pieces: int) -> Iterator[bytes]:
    """The answer as a stream."""
    base = {
        "id": id_of("chatcmpl-", request),
        "object": "chat.completion.chunk",
        "created": 0,
        "model": model,
    }

    def chunk(number: int, delta: Json, reason: str | None = None) -> bytes:
        choice = {"index": number, "delta": delta, "logprobs": None, "finish_reason": reason}
        return data_event({**base, "choices": [choice]})

    for number in range(request.choices):
        yield chunk(number, {"role": "assistant", "content": ""})
        for piece in pieces_of(said.text, pieces):
            yield chunk(number, {"content": piece})
        for place, call in enumerate(_chat_calls(request, said, number)):
            yield chunk(number, {"tool_calls": [{"index": place, **call}]})
        yield chunk(number, {}, _chat_reason(said))
    if usage := _chat_usage(said):
        yield data_event({**base, "choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"
