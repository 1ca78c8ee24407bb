"""The model APIs: what an agent may ask by each, and how its answers are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from runner.domain import Api
from runner.gateway.apis import chat, embeddings, messages, responses
from runner.gateway.apis.checks import Fields
from runner.gateway.apis.meters import meter
from runner.gateway.apis.strict_json import load_object
from runner.gateway.calls import ModelRequest

__all__ = ["limited", "meter", "parse", "prepared"]


class _Prepare(Protocol):
    def __call__(self, body: Fields, *, streamed: bool) -> dict[str, Any]: ...


@dataclass(frozen=True, kw_only=True)
class _Form:
    parse: Callable[[dict[str, Any], Mapping[str, str]], ModelRequest]
    prepared: _Prepare
    with_limit: Callable[[Fields, int, str], dict[str, Any]]


_FORMS = {
    Api.CHAT: _Form(parse=chat.parse, prepared=chat.prepared, with_limit=chat.with_limit),
    Api.RESPONSES: _Form(
        parse=responses.parse, prepared=responses.prepared, with_limit=responses.with_limit
    ),
    Api.EMBEDDINGS: _Form(
        parse=embeddings.parse, prepared=embeddings.prepared, with_limit=embeddings.with_limit
    ),
    Api.MESSAGES: _Form(
        parse=messages.parse, prepared=messages.prepared, with_limit=messages.with_limit
    ),
}


def parse(api: Api, raw: bytes, headers: Mapping[str, str]) -> ModelRequest:
    """The checked request that `raw` is; its body is as the agent sent it. Raises Refused."""
    return _FORMS[api].parse(load_object(raw), headers)


def prepared(request: ModelRequest) -> ModelRequest:
    """The request as it goes upstream: nothing is stored there, and streams tell their usage."""
    body = _FORMS[request.api].prepared(request.body, streamed=request.streamed)
    return replace(request, body=body)


def limited(request: ModelRequest, tokens: int, provider: str = "") -> ModelRequest:
    """The request with at most `tokens` (at least one a choice) of output, all choices together.

    One that asks for less stays as it is, and so do embeddings, which have no output.
    """
    each = max(1, tokens // request.choices)
    if request.api is Api.EMBEDDINGS or each >= (request.max_output_tokens or each + 1):
        return request
    body = _FORMS[request.api].with_limit(request.body, each, provider)
    return replace(request, body=body, max_output_tokens=each)
