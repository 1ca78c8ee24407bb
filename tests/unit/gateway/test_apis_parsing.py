"""What an agent may ask by each API: nothing that costs or reaches what is not metered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain import Api
from runner.gateway.apis import limited, parse, prepared
from runner.gateway.apis.strict_json import MAX_DEPTH
from runner.gateway.calls import ModelRequest, Refused

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
RESPONSES = {"model": "m", "input": "Hello"}
MESSAGES = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]}
EMBEDDINGS = {"model": "m", "input": "Hello"}
BODIES = {
    Api.CHAT: CHAT,
    Api.RESPONSES: RESPONSES,
    Api.MESSAGES: MESSAGES,
    Api.EMBEDDINGS: EMBEDDINGS,
}
PIXEL = "data:image/png;base64,iVBORw0KGgo="


def read(api: Api, body: object, **headers: str) -> ModelRequest:
    return parse(api, json.dumps(body).encode(), headers)


def refusal(api: Api, body: object) -> Refused:
    with pytest.raises(Refused) as caught:
        read(api, body)
    return caught.value


def outcome(api: Api, body: object) -> ModelRequest | Refused:
    try:
        return read(api, body)
    except Refused as refused:
        return refused


def chat_with(*parts: object, **fields: object) -> dict[str, Any]:
    return {**CHAT, "messages": [{"role": "user", "content": list(parts)}], **fields}


def messages_with(*blocks: object, **fields: object) -> dict[str, Any]:
    return {**MESSAGES, "messages": [{"role": "user", "content": list(blocks)}], **fields}


def responses_with(*items: object, **fields: object) -> dict[str, Any]:
    return {**RESPONSES, "input": list(items), **fields}


# -- JSON that has one meaning ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"{} {}",
        b'\xef\xbb\xbf{"model": "m"}',
        b'{"model": "\xff"}',
        '{"model": "m"}'.encode("utf-16"),
        b'{"model": "a", "model": "b"}',
        b'{"messages": [{"role": "user", "role": "system"}]}',
        b'{"temperature": NaN}',
        b'{"temperature": Infinity}',
        b'{"temperature": -Infinity}',
        b'{"temperature": 1e999}',
        b'{"seed": ' + b"9" * 5_000 + b"}",
        b'{"model": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}",
        b'{"a": 01}',
        b"{'a': 1}",
    ],
)
@pytest.mark.parametrize("api", Api)
def test_json_that_two_parsers_could_read_in_two_ways_is_refused(api, raw):
    with pytest.raises(Refused) as caught:
        parse(api, raw, {})
    assert (caught.value.status, caught.value.code) == (400, "invalid_json")


def test_nesting_within_the_limit_is_read():
    nested: object = "x"
    for _ in range(MAX_DEPTH - 8):
        nested = [nested]
    tool = {"type": "function", "function": {"name": "f", "parameters": {"a": nested}}}
    assert read(Api.CHAT, {**CHAT, "tools": [tool]}).texts


_KEYS = st.sampled_from(
    [
        "model",
        "messages",
        "input",
        "role",
        "content",
        "type",
        "text",
        "tools",
        "function",
        "functions",
        "name",
        "arguments",
        "tool_calls",
        "image_url",
        "url",
        "file",
        "file_id",
        "source",
        "data",
        "max_tokens",
        "max_completion_tokens",
        "n",
        "stream",
        "stream_options",
        "system",
        "thinking",
        "budget_tokens",
        "include",
        "output",
        "summary",
        "temperature",
        "seed",
        "cache_control",
        "ttl",
        "output_config",
        "custom",
        "parameters",
        "response_format",
        "tool_use_id",
        "dimensions",
        "encoding_format",
        "service_tier",
        "modalities",
        "id",
    ]
) | st.text(max_size=4)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=12,
)
KINDS = st.sampled_from(
    [
        "text",
        "image_url",
        "file",
        "input_audio",
        "function",
        "custom",
        "message",
        "function_call",
        "reasoning",
        "function_call_output",
        "input_text",
        "input_image",
        "input_file",
        "image",
        "document",
        "tool_use",
        "tool_result",
        "thinking",
        "redacted_thinking",
        "search_result",
        "base64",
        "url",
        "content",
        "item_reference",
    ]
)
TYPED = st.builds(
    lambda kind, rest: {**rest, "type": kind},
    KINDS | JSON,
    st.dictionaries(_KEYS, JSON, max_size=4),
)


@given(api=st.sampled_from(Api), body=JSON | st.dictionaries(_KEYS, JSON | st.lists(TYPED)))
def test_no_json_at_all_raises_anything_but_a_refusal(api, body):
    request = outcome(api, body)
    if isinstance(request, Refused):
        assert 400 <= request.status < 500
        assert request.message.isprintable()
    else:
        limited(prepared(request), 5)


@given(
    api=st.sampled_from(Api),
    fields=st.dictionaries(_KEYS, JSON | st.lists(TYPED, max_size=3), max_size=3),
    parts=st.lists(TYPED, max_size=3),
)
def test_no_field_beside_a_good_request_raises_anything_but_a_refusal(api, fields, parts):
    good = {
        Api.CHAT: chat_with(*parts),
        Api.RESPONSES: responses_with({"role": "user", "content": parts}),
        Api.MESSAGES: messages_with(*parts),
        Api.EMBEDDINGS: EMBEDDINGS,
    }[api]
    request = outcome(api, {**good, **fields})
    if not isinstance(request, Refused):
        limited(prepared(request), 5)
        assert all(isinstance(text, str) for text in request.texts)
        assert request.tokens_besides >= 0


@given(raw=st.binary(max_size=64))
def test_no_bytes_at_all_raise_anything_but_a_refusal(raw):
    with pytest.raises(Refused):
        parse(Api.CHAT, raw, {})


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("api", Api)
@pytest.mark.parametrize("name", ["best_of", "speed", "inference_geo", "x\n\x1b[31m", "provider"])
def test_a_field_that_we_do_not_know_is_refused_by_name(api, name):
    refused = refusal(api, {**BODIES[api], name: 1})
    assert (refused.status, refused.code) == (400, "unsupported_parameter")
    assert name.split("\n", maxsplit=1)[0] in refused.message
    assert refused.message.isprintable()


NETWORK = [
    (Api.CHAT, {**CHAT, "tools": [{"type": "web_search"}]}),
    (Api.CHAT, {**CHAT, "tools": [{"function": {"name": "f"}}]}),
    (Api.CHAT, chat_with({"type": "image_url", "image_url": {"url": "https://a.test/x.png"}})),
    (Api.CHAT, chat_with({"type": "image_url", "image_url": {"url": " data:image/png,x"}})),
    (Api.CHAT, chat_with({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}})),
    (Api.CHAT, chat_with({"type": "file", "file": {"file_id": "file-1"}})),
    (Api.CHAT, chat_with({"type": "file", "file": {"file_data": "https://a.test/x.pdf"}})),
    *(
        (Api.RESPONSES, {**RESPONSES, "tools": [{"type": kind}]})
        for kind in [
            "web_search",
            "web_search_preview",
            "file_search",
            "code_interpreter",
            "image_generation",
            "mcp",
            "local_shell",
            "shell",
            "computer_use_preview",
        ]
    ),
    (
        Api.RESPONSES,
        {
            **RESPONSES,
            "tools": [{"type": "function", "name": "f", "allowed_callers": ["programmatic"]}],
        },
    ),
    (Api.RESPONSES, responses_with({"type": "item_reference", "id": "x"})),
    *(
        (Api.RESPONSES, responses_with({"role": "user", "content": [part]}))
        for part in (
            {"type": "input_image", "image_url": "https://a.test/x.png"},
            {"type": "input_image", "file_id": "file-1"},
            {"type": "input_file", "file_id": "file-1"},
            {"type": "input_file", "file_url": "https://a.test/x.pdf"},
        )
    ),
    *(
        (Api.MESSAGES, {**MESSAGES, "tools": [{"type": kind, "name": "x"}]})
        for kind in [
            "web_search_20250305",
            "web_fetch_20250910",
            "code_execution_20250825",
            "mcp_toolset",
            "tool_search_tool_regex_20251119",
            "bash_20250124x",
        ]
    ),
    (Api.MESSAGES, {**MESSAGES, "mcp_servers": [{"type": "url", "url": "https://a.test"}]}),
    (Api.MESSAGES, {**MESSAGES, "container": "c"}),
    (
        Api.MESSAGES,
        {**MESSAGES, "tools": [{"name": "f", "allowed_callers": ["code_execution_20250825"]}]},
    ),
    *(
        (Api.MESSAGES, messages_with({"type": kind, "source": source}))
        for kind in ("image", "document")
        for source in (
            {"type": "url", "url": "https://a.test/x"},
            {"type": "file", "file_id": "f"},
        )
    ),
    (
        Api.MESSAGES,
        messages_with(
            {
                "type": "tool_result",
                "tool_use_id": "t",
                "content": [{"type": "image", "source": {"type": "url", "url": "https://a.test"}}],
            }
        ),
    ),
]


@pytest.mark.parametrize(("api", "body"), NETWORK)
def test_what_a_provider_would_fetch_or_run_is_refused(api, body):
    refused = refusal(api, body)
    assert (refused.status, refused.code) == (400, "reaches_network")


UNSUPPORTED = [
    (Api.CHAT, {**CHAT, "web_search_options": {}}),
    (Api.CHAT, {**CHAT, "store": True}),
    (Api.CHAT, {**CHAT, "service_tier": "priority"}),
    (Api.CHAT, {**CHAT, "modalities": ["text", "audio"]}),
    (Api.CHAT, {**CHAT, "prediction": {"type": "content", "content": "x"}}),
    (Api.CHAT, {**CHAT, "stream": True, "stream_options": {"surprise": 1}}),
    (Api.CHAT, {**CHAT, "messages": [{"role": "assistant", "audio": {"id": "a"}}]}),
    (Api.CHAT, chat_with({"type": "video_url", "video_url": {"url": "data:,"}})),
    (Api.RESPONSES, {**RESPONSES, "previous_response_id": "resp_1"}),
    (Api.RESPONSES, {**RESPONSES, "conversation": "conv_1"}),
    (Api.RESPONSES, {**RESPONSES, "background": True}),
    (Api.RESPONSES, {**RESPONSES, "store": True}),
    (Api.RESPONSES, {**RESPONSES, "prompt": {"id": "pmpt_1"}}),
    (Api.RESPONSES, {**RESPONSES, "include": ["web_search_call.action.sources"]}),
    (Api.RESPONSES, {**RESPONSES, "service_tier": "flex"}),
    (Api.RESPONSES, {**RESPONSES, "reasoning": {"effort": "low", "mode": "pro"}}),
    (Api.RESPONSES, responses_with({"type": "web_search_call", "id": "x"})),
    (Api.RESPONSES, responses_with({"type": ["message"]})),
    (Api.MESSAGES, {**MESSAGES, "cache_control": {"type": "ephemeral", "ttl": "1h"}}),
    (Api.MESSAGES, messages_with({"type": "container_upload", "file_id": "f"})),
    (Api.MESSAGES, messages_with({"type": "server_tool_use", "id": "x"})),
]


@pytest.mark.parametrize(("api", "body"), UNSUPPORTED)
def test_what_is_kept_by_a_provider_or_costs_more_is_refused(api, body):
    refused = refusal(api, body)
    assert (refused.status, refused.code) == (400, "unsupported_parameter")


INVALID = [
    (Api.CHAT, {"messages": CHAT["messages"]}),
    (Api.CHAT, {**CHAT, "model": ""}),
    (Api.CHAT, {**CHAT, "model": "a\nb"}),
    (Api.CHAT, {**CHAT, "model": "m" * 300}),
    (Api.CHAT, {**CHAT, "messages": []}),
    (Api.CHAT, {**CHAT, "messages": "Hello"}),
    (Api.CHAT, {**CHAT, "messages": [{"role": "root", "content": "x"}]}),
    (Api.CHAT, {**CHAT, "max_tokens": 0}),
    (Api.CHAT, {**CHAT, "max_tokens": -5}),
    (Api.CHAT, {**CHAT, "max_tokens": True}),
    (Api.CHAT, {**CHAT, "max_tokens": 1.5}),
    (Api.CHAT, {**CHAT, "max_completion_tokens": "7"}),
    (Api.CHAT, {**CHAT, "n": 0}),
    (Api.CHAT, {**CHAT, "n": 10_000}),
    (Api.CHAT, {**CHAT, "stream": "yes"}),
    (Api.CHAT, {**CHAT, "tools": [{"type": "function"}]}),
    (Api.RESPONSES, {"model": "m"}),
    (Api.RESPONSES, {**RESPONSES, "tools": [{"type": "function"}]}),
    (Api.MESSAGES, {**MESSAGES, "max_tokens": None}),
    (Api.MESSAGES, {**MESSAGES, "max_tokens": 0}),
    (Api.EMBEDDINGS, {**EMBEDDINGS, "input": []}),
    (Api.EMBEDDINGS, {**EMBEDDINGS, "input": [True]}),
    (Api.EMBEDDINGS, {**EMBEDDINGS, "input": ["x"] * 2_049}),
    (Api.EMBEDDINGS, {**EMBEDDINGS, "input": {"a": 1}}),
]


@pytest.mark.parametrize(("api", "body"), INVALID)
def test_what_has_not_the_form_of_its_api_is_refused(api, body):
    refused = refusal(api, body)
    assert (refused.status, refused.code) == (400, "invalid_request")


# -- what passes, and what is read of it -----------------------------------------------------------


def test_a_chat_with_all_that_an_agent_sends_back_is_read_whole():
    call = {"id": "c", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
    answer = {"role": "assistant", "content": None, "refusal": None, "audio": None}
    body = {
        **CHAT,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Look"}], "name": "Ann"},
            {**answer, "annotations": [], "function_call": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "3"},
        ],
        "tools": [{"type": "function", "function": {"name": "add", "parameters": {}}}],
        "response_format": {"type": "json_object"},
        "n": 3,
        "max_tokens": 10,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    request = read(Api.CHAT, body)
    assert request.body == body
    assert list(request.texts) == [
        "Be brief.",
        "Ann",
        "Look",
        "add",
        '{"a":1}',
        "3",
        '{"name":"add","parameters":{}}',
        '{"type":"json_object"}',
    ]
    assert (request.messages, request.choices, request.max_output_tokens) == (4, 3, 10)
    assert request.streamed
    assert request.wants_usage
    assert request.deterministic


def test_images_and_files_within_the_request_pass_and_are_assumed_to_take_tokens():
    image = {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}}
    file = {"type": "file", "file": {"file_data": "data:application/pdf;base64," + "A" * 4_000}}
    none, one, both = (
        read(Api.CHAT, chat_with(*parts)).tokens_besides for parts in ([], [image], [image, file])
    )
    assert none == 0 < one < both - 999


@pytest.mark.parametrize("kind", ["bash_20250124", "text_editor_20250728", "memory_20250818"])
def test_tools_of_anthropic_that_the_agent_runs_itself_pass(kind):
    request = read(Api.MESSAGES, {**MESSAGES, "tools": [{"type": kind, "name": "t"}]})
    assert request.tokens_besides > 0


def test_messages_are_read_whole():
    body = {
        **MESSAGES,
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": [
            {"role": "user", "content": "Add"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "Hm", "signature": "s" * 999},
                    {"type": "tool_use", "id": "t", "name": "add", "input": {"type": "x"}},
                ],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "t", "content": "3"}],
            },
        ],
        "thinking": {"type": "enabled", "budget_tokens": 1024},
    }
    request = read(Api.MESSAGES, body, **{"Anthropic-Version": "2023-06-01"})
    assert list(request.texts) == ["Be brief.", "Add", "Hm", "add", '{"type":"x"}', "3"]
    assert request.messages == 4
    assert request.version == "2023-06-01"


@pytest.mark.parametrize("said", ["2023-06-01\r\nx-evil: 1", "latest", "", "2023-06-01 "])
def test_a_version_that_is_none_is_not_passed_on(said):
    assert read(Api.MESSAGES, MESSAGES, **{"anthropic-version": said}).version == ""


def test_responses_are_read_whole():
    body = responses_with(
        {"role": "user", "content": "Add"},
        {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "Hm"}]},
        {
            "type": "function_call",
            "call_id": "c",
            "name": "add",
            "arguments": "{}",
            "caller": {"type": "direct"},
            "namespace": None,
            "async_": None,
        },
        {"type": "function_call_output", "call_id": "c", "output": "3"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Now?"}]},
        instructions="Be brief.",
        include=["reasoning.encrypted_content"],
        previous_response_id=None,
        max_output_tokens=9,
    )
    request = read(Api.RESPONSES, body)
    assert list(request.texts) == ["Be brief.", "Add", "Hm", "add", "{}", "3", "Now?"]
    assert (request.messages, request.max_output_tokens) == (6, 9)


@pytest.mark.parametrize(
    ("given_input", "texts", "tokens"),
    [
        ("Hello", ["Hello"], 0),
        (["a", "b"], ["a", "b"], 0),
        ([1, 2, 3], [], 3),
        ([[1, 2], [3]], [], 3),
    ],
)
def test_embeddings_are_of_texts_or_tokens(given_input, texts, tokens):
    request = read(Api.EMBEDDINGS, {**EMBEDDINGS, "input": given_input})
    assert (list(request.texts), request.tokens_besides, request.messages) == (texts, tokens, 0)


@pytest.mark.parametrize(
    ("fields", "same"),
    [
        ({"temperature": 0}, True),
        ({"temperature": 0.0}, True),
        ({"seed": 7}, True),
        ({}, False),
        ({"temperature": 0.1}, False),
        ({"temperature": False}, False),
    ],
)
def test_temperature_0_or_a_seed_makes_a_chat_deterministic(fields, same):
    assert read(Api.CHAT, {**CHAT, **fields}).deterministic is same


# -- what goes upstream ----------------------------------------------------------------------------


def test_a_chat_stream_tells_its_usage_upstream_whatever_the_agent_asked_for():
    request = read(Api.CHAT, {**CHAT, "stream": True, "stream_options": {"include_usage": False}})
    assert prepared(request).body["stream_options"] == {"include_usage": True}
    assert request.body["stream_options"] == {"include_usage": False}
    assert not request.wants_usage
    assert "stream_options" not in prepared(read(Api.CHAT, CHAT)).body


def test_no_provider_keeps_a_response():
    assert prepared(read(Api.RESPONSES, RESPONSES)).body["store"] is False


@pytest.mark.parametrize(
    ("fields", "provider", "expected"),
    [
        ({}, "openai", {"max_completion_tokens": 10}),
        ({}, "local", {"max_tokens": 10}),
        ({"max_tokens": 99}, "openai", {"max_tokens": 10}),
        ({"max_completion_tokens": 99}, "local", {"max_completion_tokens": 10}),
        (
            {"max_tokens": 4, "max_completion_tokens": 99},
            "",
            {"max_tokens": 4, "max_completion_tokens": 10},
        ),
        ({"max_tokens": 7}, "", {"max_tokens": 7}),
        ({"n": 3}, "local", {"max_tokens": 3, "n": 3}),
    ],
)
def test_the_output_of_a_chat_is_limited_by_the_name_that_the_agent_used(
    fields, provider, expected
):
    request = limited(read(Api.CHAT, {**CHAT, **fields}), 10, provider)
    assert request.body == {**CHAT, **expected}
    assert (request.max_output_tokens or 0) * request.choices <= 10


def test_the_output_of_the_other_apis_is_limited():
    assert limited(read(Api.RESPONSES, RESPONSES), 10).body["max_output_tokens"] == 10
    assert limited(read(Api.MESSAGES, MESSAGES), 10).body["max_tokens"] == 10
    thinking = {
        **MESSAGES,
        "max_tokens": 9_000,
        "thinking": {"type": "enabled", "budget_tokens": 8_000},
    }
    request = limited(read(Api.MESSAGES, thinking), 2_000)
    assert request.body["thinking"] == {"type": "enabled", "budget_tokens": 1_999}
    embeddings = read(Api.EMBEDDINGS, EMBEDDINGS)
    assert limited(embeddings, 10) == embeddings
