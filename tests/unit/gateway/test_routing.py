"""A model's name leads to the upstream that has it, if agents may call it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import pytest

from runner.domain import Api
from runner.gateway.calls import ModelRequest, Progress, Refused, UpstreamReply
from runner.gateway.upstreams.routing import Upstreams
from runner.gateway.upstreams.scripted import ScriptedUpstream, load_script

OPENAI = frozenset({Api.CHAT, Api.RESPONSES, Api.EMBEDDINGS})


class Named:
    """An upstream that is only asked who it is."""

    counts_as_we_do = False

    def __init__(self, name: str, apis: frozenset[Api] = OPENAI) -> None:
        self.name = name
        self.provider = name
        self.apis = apis

    def send(
        self, request: ModelRequest, progress: Progress
    ) -> AbstractAsyncContextManager[UpstreamReply]:
        raise NotImplementedError


ALL = [
    ScriptedUpstream(load_script()),
    Named("openai"),
    Named("router"),
    Named("anthropic", frozenset({Api.MESSAGES})),
]


def asked(model: str, api: Api = Api.CHAT) -> ModelRequest:
    return ModelRequest(api=api, model=model, body={"model": model, "x": 1})


def routed(model: str, *allowed: str, api: Api = Api.CHAT) -> tuple[str, str]:
    upstream, request = Upstreams(ALL, allowed).route(asked(model, api))
    assert request.model == model
    assert request.body["x"] == 1
    return upstream.name, request.body["model"]


def refusal(model: str, *allowed: str, api: Api = Api.CHAT) -> Refused:
    with pytest.raises(Refused) as caught:
        Upstreams(ALL, allowed).route(asked(model, api))
    return caught.value


@pytest.mark.parametrize(
    ("model", "allowed", "expected"),
    [
        ("openai/gpt-4o", ["openai/gpt-4o"], ("openai", "gpt-4o")),
        ("gpt-4o", ["openai/gpt-4o"], ("openai", "gpt-4o")),
        ("gpt-4o", ["openai/*", "router/*"], ("openai", "gpt-4o")),
        ("gpt-4o", ["router/*"], ("router", "gpt-4o")),
        ("meta/llama", ["router/meta/*"], ("router", "meta/llama")),
        ("openai/gpt-4o", ["router/openai/*"], ("router", "openai/gpt-4o")),
        ("agenttrace/scripted", ["agenttrace/scripted"], ("agenttrace", "scripted")),
        ("scripted", ["agenttrace/scripted"], ("agenttrace", "scripted")),
    ],
)
def test_a_model_goes_to_the_first_upstream_where_it_is_allowed(model, allowed, expected):
    assert routed(model, *allowed) == expected


def test_the_api_decides_between_upstreams_that_may_both_have_it():
    assert routed("claude-x", "openai/*", "anthropic/*", api=Api.MESSAGES)[0] == "anthropic"


@pytest.mark.parametrize(
    ("model", "allowed", "status", "code"),
    [
        ("openai/gpt-4o", ["openai/gpt-4o-mini"], 403, "model_not_allowed"),
        ("openai/gpt-4o", [], 403, "model_not_allowed"),
        ("gpt-4o", ["openai/gpt-4o-mini"], 404, "model_not_found"),
        ("nowhere/gpt-4o", ["openai/gpt-*"], 404, "model_not_found"),
        ("openai/", ["openai/x"], 404, "model_not_found"),
        ("../gpt-4o", ["openai/gpt*"], 404, "model_not_found"),
        ("GPT-4O", ["openai/gpt-4o"], 404, "model_not_found"),
        ("[a]*\x1b", ["openai/a"], 404, "model_not_found"),
    ],
)
def test_all_else_is_refused(model, allowed, status, code):
    refused = refusal(model, *allowed)
    assert (refused.status, refused.code) == (status, code)
    assert refused.message.isprintable()


def test_a_model_at_another_api_is_refused_with_where_it_is():
    refused = refusal("anthropic/claude-x", "anthropic/*")
    assert (refused.status, refused.code) == (400, "wrong_api")
    assert "/v1/messages" in refused.message


def test_models_with_known_names_are_listed_with_their_owners():
    upstreams = Upstreams(
        ALL, ["agenttrace/scripted", "openai/gpt-4o", "openai/*", "nowhere/x", "openai/gpt-4o"]
    )
    assert upstreams.models() == ["agenttrace/scripted", "openai/gpt-4o"]
    assert upstreams.owner("agenttrace/scripted") == "agenttrace (no language model)"
    assert upstreams.owner("openai/gpt-4o") == "openai"
