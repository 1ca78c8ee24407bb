"""What was said is found in each API's form, in one piece or streamed, and in no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain import Api
from runner.gateway.exchanges import ExchangeLog
from runner.records.answers import said, tool_answer
from runner.records.conversation import AskedTool, Turn, told
from runner.records.exchanges import RecordedExchange, read_exchanges
from tests.unit.records.calls import exchange, exchanges, stream, write_exchanges

NAMES = (
    *("messages", "role", "content", "type", "text", "tool_calls", "function", "input", "choices"),
    *("message", "delta", "index", "output", "id", "name", "arguments", "system"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(NAMES),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def read(*given: Any, tmp_path: Path) -> list[RecordedExchange]:
    return list(read_exchanges(write_exchanges(tmp_path / "exchanges.jsonl", *given)))


def recorded(api: Api, body: Any, answer: Any, **changes: Any) -> RecordedExchange:
    made = exchange(1, api, body, answer, **changes)
    return RecordedExchange.model_validate_json(made.model_dump_json())


def test_a_chat_with_tools_and_a_stream(tmp_path: Path) -> None:
    first, tool, third = read(tmp_path=tmp_path)
    calculator = AskedTool(call_id="call_a", name="calculator", arguments='{"expression":"6*7"}')
    assert told(first) == (Turn(role="user", text="What is 6*7?"),)
    assert said(first) == (Turn(role="assistant", tool_calls=(calculator,)),)
    assert tool_answer(tool) == (42, "")
    assert told(third)[2] == Turn(role="tool", text="42", answers="call_a")
    assert said(third) == (Turn(role="assistant", text="It is 42."),)
    assert first.tokens_cached == 4


def test_a_streamed_tool_call_is_put_together() -> None:
    def part(call: dict[str, Any]) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0} | call]}}]}

    chunks = stream(
        part({"id": "c1", "function": {"name": "find", "arguments": ""}}),
        part({"function": {"arguments": '{"q":'}}),
        part({"function": {"arguments": '"x"}'}}),
    )
    [turn] = said(recorded(Api.CHAT, {}, "", content_type="text/event-stream", chunks=chunks))
    assert turn.tool_calls == (AskedTool(call_id="c1", name="find", arguments='{"q":"x"}'),)


def test_anthropic_messages_in_one_piece() -> None:
    body = {
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f"}]},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t", "content": "done"},
                    {"type": "text", "text": "Go on"},
                    {"type": "image", "source": {}},
                ],
            },
        ],
    }
    answer = {"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Yes"}]}
    found = recorded(Api.MESSAGES, body, answer)
    assert [(turn.role, turn.text) for turn in told(found)] == [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", ""),
        ("tool", "done"),
        ("user", "Go on"),
    ]
    assert said(found) == (Turn(role="assistant", text="Yes", reasoning="hm"),)


def test_an_anthropic_stream() -> None:
    def delta(index: int, **values: str) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": index, "delta": values}

    def start(index: int, **block: Any) -> dict[str, Any]:
        return {"type": "content_block_start", "index": index, "content_block": block}

    chunks = stream(
        {"type": "message_start", "message": {}},
        start(0, type="text", text=""),
        delta(0, type="text_delta", text="Let me "),
        delta(0, type="text_delta", text="see"),
        start(1, type="tool_use", id="t1", name="f", input={}),
        delta(1, type="input_json_delta", partial_json='{"a"'),
        delta(1, type="input_json_delta", partial_json=":1}"),
    )
    found = recorded(Api.MESSAGES, {}, "", content_type="text/event-stream", chunks=chunks)
    called = AskedTool(call_id="t1", name="f", arguments='{"a":1}')
    assert said(found) == (Turn(role="assistant", text="Let me see", tool_calls=(called,)),)


OUTPUT: list[dict[str, Any]] = [
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
    {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Yes"}]},
]


@pytest.mark.parametrize("streamed", [False, True])
def test_responses(streamed: bool) -> None:
    body = {
        "instructions": "Be brief.",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            {"type": "function_call_output", "call_id": "c", "output": "7"},
        ],
    }
    if streamed:
        chunks = stream({"type": "response.completed", "response": {"output": OUTPUT}})
        found = recorded(Api.RESPONSES, body, "", content_type="text/event-stream", chunks=chunks)
    else:
        found = recorded(Api.RESPONSES, body, {"output": OUTPUT})
    assert [(turn.role, turn.text, turn.answers) for turn in told(found)] == [
        ("system", "Be brief.", ""),
        ("user", "Hi", ""),
        ("tool", "7", "c"),
    ]
    reasoned, called, answered = said(found)
    assert reasoned.reasoning == "hm"
    assert called.tool_calls == (AskedTool(call_id="c", name="f", arguments="{}"),)
    assert answered.text == "Yes"


def test_a_response_that_broke_off_keeps_what_was_said() -> None:
    chunks = stream(
        {"type": "response.output_text.delta", "delta": "Ye"},
        {"type": "response.output_text.delta", "delta": "s"},
    )
    found = recorded(Api.RESPONSES, {"input": "Hi"}, "", chunks=chunks)
    assert told(found) == (Turn(role="user", text="Hi"),)
    assert said(found) == (Turn(role="assistant", text="Yes"),)


def test_embeddings_are_told_and_say_nothing() -> None:
    found = recorded(Api.EMBEDDINGS, {"input": ["a", "b"]}, {"data": [{"embedding": [0.1]}]})
    assert [turn.text for turn in told(found)] == ["a", "b"]
    assert said(found) == ()


@pytest.mark.parametrize("changes", [{"status": 500}, {"refused": "budget_exceeded"}])
def test_an_error_is_no_answer(changes: dict[str, Any]) -> None:
    answer = {"choices": [{"message": {"content": "an error"}}]}
    assert said(recorded(Api.CHAT, {}, answer, **changes)) == ()


@given(api=st.sampled_from(list(Api)), body=JSON, answer=JSON, streamed=st.booleans())
def test_whatever_stands_in_an_exchange_nothing_is_raised(
    api: Api, body: Any, answer: Any, streamed: bool
) -> None:
    chunks = stream(answer) if streamed else (json.dumps(answer),)
    found = RecordedExchange(
        number=1, kind="model", request={"api": api.value, "body": body}, chunks=chunks
    )
    assert all(isinstance(turn.text, str) for turn in (*told(found), *said(found)))


def test_damaged_lines_hide_no_others(tmp_path: Path) -> None:
    path = write_exchanges(tmp_path / "exchanges.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b'{"number":1,' + lines[0] + b"[" * 100_000 + b"\n" + lines[1] + lines[2][:40])
    assert [each.number for each in read_exchanges(path)] == [2]
    assert list(read_exchanges(tmp_path / "nothing.jsonl")) == []


def test_a_line_too_long_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = exchanges()[0].model_copy(update={"number": 9, "chunks": ("x" * 5000,)})
    path = write_exchanges(tmp_path / "exchanges.jsonl", long, *exchanges())
    monkeypatch.setattr("runner.records.exchanges._LINE_BYTES", 2000)
    assert [each.number for each in read_exchanges(path)] == [1, 2, 3]
    monkeypatch.setattr("runner.records.exchanges._FILE_BYTES", 1)
    assert [each.number for each in read_exchanges(path)] == []


def test_what_the_gateway_itself_writes_is_read(tmp_path: Path) -> None:
    log = ExchangeLog(tmp_path / "exchanges.jsonl")
    hostile = exchange(4, Api.CHAT, {"messages": [{"role": "user", "content": "\ud800"}]}, "")
    for each in (*exchanges(), hostile):
        log.write(each)
    log.close()
    found = list(read_exchanges(tmp_path / "exchanges.jsonl"))
    assert [each.number for each in found] == [1, 2, 3, 4]
    assert told(found[3]) == (Turn(role="user", text="\ud800"),)
    assert said(found[2]) == (Turn(role="assistant", text="It is 42."),)
