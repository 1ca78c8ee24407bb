"""Meters read usage, texts and finish reasons of any answer, and never raise or change one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain import Api, TokenSource
from runner.gateway.apis import meter
from runner.gateway.apis.sse import LONGEST_LINE
from runner.gateway.calls import Meter, ModelRequest, Usage


def meter_of(api: Api, *, streamed: bool = False, wants_usage: bool = True) -> Meter:
    return meter(
        ModelRequest(api=api, model="m", body={}, streamed=streamed, wants_usage=wants_usage)
    )


def passed(reader: Meter, *chunks: bytes) -> bytes:
    return b"".join([*map(reader.feed, chunks), reader.end()])


def read_whole(api: Api, answer: object) -> Meter:
    reader = meter_of(api)
    raw = json.dumps(answer).encode()
    assert passed(reader, raw[:7], raw[7:]) == raw
    return reader


def stream(*events: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def used(taken: int, given: int, **cached: int) -> Usage:
    return Usage(tokens_input=taken, tokens_output=given, source=TokenSource.PROVIDER, **cached)


CALL = {"index": 0, "id": "c", "function": {"name": "add", "arguments": '{"a"'}}
CHAT_USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
CHAT_EVENTS = [
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hel"}}]},
    {"choices": [{"index": 1, "delta": {"content": "Bye"}}]},
    {"choices": [{"index": 0, "delta": {"content": "lo"}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": [CALL]}}]},
    {
        "choices": [
            {"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}}
        ]
    },
    {"choices": [{"index": 1, "delta": {}, "finish_reason": "stop"}], "usage": None},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
]
USAGE_EVENT = {"choices": [], "usage": CHAT_USAGE}
DONE = b"data: [DONE]\n\n"


def test_a_chat_is_read_whole():
    message = {"content": "Hello", "reasoning_content": "Hm", "tool_calls": [CALL]}
    told = {"cached_tokens": 5, "cache_write_tokens": 2, "audio_tokens": 3}
    details = {"prompt_tokens_details": told}
    reader = read_whole(
        Api.CHAT,
        {
            "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
            "usage": {**CHAT_USAGE, **details},
        },
    )
    assert reader.usage == used(9, 4, tokens_cached=5, tokens_cache_written=2, tokens_audio=3)
    assert list(reader.texts) == ["Hello", "Hm", "add", '{"a"']
    assert reader.finish_reasons == ("tool_calls",)


@pytest.mark.parametrize("size", [1, 2, 7, 64, 10_000])
def test_a_chat_stream_is_read_however_it_is_cut(size):
    raw = stream(*CHAT_EVENTS, USAGE_EVENT) + DONE
    reader = meter_of(Api.CHAT, streamed=True)
    chunks = [raw[start : start + size] for start in range(0, len(raw), size)]
    assert [reader.feed(chunk) for chunk in chunks] == chunks
    assert reader.end() == b""
    assert reader.usage == used(9, 4)
    assert sorted(reader.texts) == sorted(["Hello", "Bye", "add", '{"a":1}'])
    assert reader.finish_reasons == ("tool_calls", "stop")


@pytest.mark.parametrize("size", [1, 3, 50, 10_000])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_the_usage_that_an_agent_did_not_ask_for_is_left_out_of_its_stream(size, newline):
    before = stream(*CHAT_EVENTS).replace(b"\n", newline)
    after = (b": ping\n\n" + DONE).replace(b"\n", newline)
    raw = before + stream(USAGE_EVENT).replace(b"\n", newline) + after
    reader = meter_of(Api.CHAT, streamed=True, wants_usage=False)
    chunks = [raw[start : start + size] for start in range(0, len(raw), size)]
    assert passed(reader, *chunks) == before + after
    assert reader.usage == used(9, 4)


def test_a_last_line_without_an_end_is_passed_on():
    reader = meter_of(Api.CHAT, streamed=True, wants_usage=False)
    assert passed(reader, b"data: {", b'"x": 1}') == b'data: {"x": 1}'


def test_a_line_that_is_too_long_is_passed_on_and_not_kept():
    reader = meter_of(Api.CHAT, streamed=True, wants_usage=False)
    piece = b"x" * (LONGEST_LINE // 2)
    out = [
        reader.feed(chunk)
        for chunk in (b"data: ", piece, piece, piece, b"y\n", stream(USAGE_EVENT))
    ]
    assert b"".join(out) == b"data: " + piece * 3 + b"y\n"
    assert reader.usage == used(9, 4)


def test_responses_are_read():
    output = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm"}]},
        {"type": "message", "content": [{"type": "output_text", "text": "Hello"}]},
        {"type": "function_call", "name": "add", "arguments": "{}"},
    ]
    usage = {"input_tokens": 9, "output_tokens": 4, "input_tokens_details": {"cached_tokens": 2}}
    whole = {"status": "completed", "output": output, "usage": usage}
    reader = read_whole(Api.RESPONSES, whole)
    assert reader.usage == used(9, 4, tokens_cached=2)
    assert sorted(reader.texts) == sorted(["Hm", "Hello", "add", "{}"])
    assert reader.finish_reasons == ("completed",)

    reader = meter_of(Api.RESPONSES, streamed=True)
    at = {"output_index": 0, "content_index": 0}
    raw = stream(
        {"type": "response.output_text.delta", **at, "delta": "Hel"},
        {"type": "response.output_text.delta", **at, "delta": "lo"},
        {"type": "response.output_item.added", "output_index": 1, "item": {"name": "add"}},
        {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "{}"},
        {
            "type": "response.incomplete",
            "response": {
                **whole,
                "status": "incomplete",
                "incomplete_details": {"reason": "max_output_tokens"},
            },
        },
    )
    assert passed(reader, raw) == raw
    assert reader.usage == used(9, 4, tokens_cached=2)
    assert sorted(reader.texts) == sorted(["Hello", "add", "{}"])
    assert reader.finish_reasons == ("max_output_tokens",)


def test_messages_are_read_with_what_was_cached():
    usage = {
        "input_tokens": 3,
        "cache_read_input_tokens": 10,
        "cache_creation_input_tokens": 20,
        "output_tokens": 4,
    }
    expected = used(33, 4, tokens_cached=10, tokens_cache_written=20)
    content = [
        {"type": "thinking", "thinking": "Hm"},
        {"type": "text", "text": "Hello"},
        {"type": "tool_use", "name": "add", "input": {"a": 1}},
    ]
    reader = read_whole(
        Api.MESSAGES, {"content": content, "stop_reason": "tool_use", "usage": usage}
    )
    assert reader.usage == expected
    assert list(reader.texts) == ["Hm", "Hello", "add", '{"a":1}']
    assert reader.finish_reasons == ("tool_use",)

    reader = meter_of(Api.MESSAGES, streamed=True)
    reader.feed(
        stream({"type": "message_start", "message": {"usage": {**usage, "output_tokens": 1}}})
    )
    assert reader.usage is None  # what it has begun with is not what it will have used
    for delta in ({"text": "Hel"}, {"text": "lo"}, {"partial_json": "{}"}, {"thinking": "Hm"}):
        reader.feed(stream({"type": "content_block_delta", "index": 0, "delta": delta}))
    end = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"output_tokens": 4},
    }
    reader.feed(stream(end))
    assert reader.usage == expected
    assert sorted(reader.texts) == sorted(["Hello", "{}", "Hm"])
    assert reader.finish_reasons == ("end_turn",)


def test_embeddings_have_input_alone():
    answer = {"data": [{"embedding": [0.5]}], "usage": {"prompt_tokens": 7, "total_tokens": 7}}
    assert read_whole(Api.EMBEDDINGS, answer).usage == used(7, 0)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        [],
        "many",
        {"prompt_tokens": 1},
        {"prompt_tokens": -1, "completion_tokens": 1},
        {"prompt_tokens": True, "completion_tokens": 1},
        {"prompt_tokens": 1.5, "completion_tokens": 1},
        {"prompt_tokens": 10**12, "completion_tokens": 1},
        {"prompt_tokens": "9", "completion_tokens": 1},
    ],
)
def test_a_usage_that_makes_no_sense_is_none(usage):
    assert read_whole(Api.CHAT, {"choices": [], "usage": usage}).usage is None


def test_finish_reasons_are_cut():
    choices = [{"index": n, "finish_reason": "x" * 10_000} for n in range(1_000)]
    reasons = read_whole(Api.CHAT, {"choices": choices}).finish_reasons
    assert len(reasons) <= 128
    assert max(map(len, reasons)) <= 64
    (odd,) = read_whole(Api.CHAT, {"choices": [{"finish_reason": "a\ud800\x1b"}]}).finish_reasons
    assert odd.isprintable()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "delta",
                    "message",
                    "index",
                    "content",
                    "tool_calls",
                    "function",
                    "name",
                    "usage",
                    "prompt_tokens",
                    "completion_tokens",
                    "finish_reason",
                    "type",
                    "item",
                    "response",
                    "output",
                    "output_index",
                    "summary",
                    "input",
                    "content_block",
                    "text",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)
TYPES = st.sampled_from(
    [
        "response.completed",
        "response.x.delta",
        "response.output_item.added",
        "message_start",
        "content_block_start",
        "content_block_delta",
        "message_delta",
    ]
)


@given(
    api=st.sampled_from(Api),
    streamed=st.booleans(),
    wants_usage=st.booleans(),
    events=st.lists(
        st.binary(max_size=30)
        | JSON.map(lambda value: b"data: " + json.dumps(value).encode() + b"\n")
        | st.builds(
            lambda kind, rest: stream({**(rest if isinstance(rest, dict) else {}), "type": kind}),
            TYPES,
            JSON,
        ),
        max_size=6,
    ),
)
def test_nothing_that_an_upstream_sends_makes_a_meter_raise(api, streamed, wants_usage, events):
    reader = meter_of(api, streamed=streamed, wants_usage=wants_usage)
    out = passed(reader, *events)
    if not streamed or wants_usage or api is not Api.CHAT:
        assert out == b"".join(events)
    assert all(isinstance(text, str) for text in reader.texts)
    assert reader.usage is None or reader.usage.tokens >= 0
    assert all(len(reason) <= 64 for reason in reader.finish_reasons)
