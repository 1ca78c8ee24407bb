"""What a scripted model says, in the form of the API that was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from runner.domain import Api
from runner.gateway.calls import ModelRequest
from runner.gateway.upstreams.said import Json, Said
from runner.gateway.upstreams.said_in_chat import chat, chat_stream
from runner.gateway.upstreams.said_in_messages import messages, messages_stream
from runner.gateway.upstreams.said_in_responses import responses, responses_stream

_WHOLES: Mapping[Api, Callable[[ModelRequest, str, Said], Json]] = {
    Api.CHAT: chat,
    Api.RESPONSES: responses,
    Api.MESSAGES: messages,
}
_STREAMS: Mapping[Api, Callable[[ModelRequest, str, Said, int], Iterator[bytes]]] = {
    Api.CHAT: chat_stream,
    Api.RESPONSES: responses_stream,
    Api.MESSAGES: messages_stream,
}


def whole(request: ModelRequest, model: str, said: Said) -> Json:
    """The answer as one object."""
    return _WHOLES[request.api](request, model, said)


def events(request: ModelRequest, model: str, said: Said, pieces: int) -> list[bytes]:
    """The answer as a stream, an event a chunk; its text comes in at most so many pieces."""
    return list(_STREAMS[request.api](request, model, said, pieces))
