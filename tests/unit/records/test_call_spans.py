"""Every call of a model or a tool is a span, with OpenTelemetry's names and what was said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain import Api, TokenSource
from runner.domain.gateway import EXCHANGES
from runner.domain.trace import TraceSpan
from runner.records import RunDirectory, call_texts, load_trace, redaction
from runner.records.call_texts import CallTexts
from runner.records.exchanges import RecordedExchange, read_exchanges
from runner.records.otlp import trace_lines
from tests.unit.records.calls import (
    KEY,
    QUESTION,
    calling,
    exchange,
    exchanges,
    model_call,
    tool_call,
    write_exchanges,
)
from tests.unit.records.nouns import RUN_ID, execution, plan, reply
from tests.unit.records.test_otlp import AGENT, ANY_TEXT, all_spans, attributes, parsed


def kept(root: Path, *given: Any, messages: bool = True, **changes: Any) -> tuple[TraceSpan, ...]:
    """The spans of an attempt as a run directory keeps them, its exchanges with it."""
    directory = RunDirectory(root, RUN_ID, trace_messages=messages)
    directory.begin(plan())
    staging = directory.staging()
    write_exchanges(staging.parent / EXCHANGES, *given)
    path = directory.keep(calling(**changes), reply(), staging)
    directory.close()
    return load_trace(path / "trace.otlp.jsonl")


def calls_of(spans: tuple[TraceSpan, ...]) -> list[TraceSpan]:
    return [span for span in spans if "agenttrace.call.number" in span.attributes]


def test_calls_are_spans_of_the_stage_in_which_the_agent_runs(tmp_path: Path) -> None:
    spans = kept(tmp_path)
    ask = next(span for span in spans if span.name == "ask")
    calls = calls_of(spans)
    assert [call.name for call in calls] == [
        *("chat gpt-4o-mini", "execute_tool calculator", "chat gpt-4o-mini")
    ]
    assert {call.parent_span_id for call in calls} == {ask.span_id}
    assert len({span.span_id for span in spans}) == len(spans)


def test_without_that_stage_they_are_the_roots_own() -> None:
    data = trace_lines(calling(stages=()), reply(), AGENT)
    root, *calls = all_spans(json.loads(data))
    assert len(calls) == 3
    assert {call["parentSpanId"] for call in calls} == {root["spanId"]}


def test_the_names_are_opentelemetrys_and_the_official_parser_reads_them() -> None:
    [line] = trace_lines(calling(), reply(), AGENT).decode().splitlines()
    parsed(line)
    first, tool, _ = all_spans(json.loads(line))[-3:]
    values = attributes(first)
    assert values["gen_ai.operation.name"] == "chat"
    assert values["gen_ai.request.model"] == "gpt-4o-mini"
    assert values["gen_ai.provider.name"] == "openai"
    assert values["gen_ai.usage.input_tokens"] == "12"
    assert values["gen_ai.usage.output_tokens"] == "3"
    assert values["gen_ai.response.finish_reasons"] == {"values": [{"stringValue": "tool_calls"}]}
    assert values["agenttrace.call.cost_usd"] == 0.000125
    assert values["agenttrace.call.token_source"] == "provider"
    assert values["agenttrace.call.first_chunk_seconds"] == 0.002
    assert values["agenttrace.call.number"] == "1"
    assert values["agenttrace.call.digest"] == f"{1:064x}"
    assert "error.type" not in values
    assert (first["kind"], tool["kind"]) == (3, 1)
    assert attributes(tool)["gen_ai.operation.name"] == "execute_tool"
    assert attributes(tool)["gen_ai.tool.name"] == "calculator"


def test_what_was_said_is_told_from_the_exchanges(tmp_path: Path) -> None:
    first, tool, third = calls_of(kept(tmp_path))
    assert [(m.role, m.text) for m in first.events[0].messages] == [
        ("user", "What is 6*7?"),
        ("assistant", 'calls calculator({"expression":"6*7"})'),
    ]
    assert tool.attributes["gen_ai.tool.call.arguments"] == '{"expression":"6*7"}'
    assert tool.attributes["gen_ai.tool.call.result"] == "42"
    assert [m.text for m in third.events[0].messages][-2:] == ["42", "It is 42."]


def test_where_texts_are_not_wanted_none_is_told(tmp_path: Path) -> None:
    spans = kept(tmp_path, messages=False)
    told = [message for span in spans for event in span.events for message in event.messages]
    assert told == []
    text = (tmp_path / RUN_ID / "tasks/reasoning-1/1-1/trace.otlp.jsonl").read_text()
    assert "What is" not in text
    assert "6*7" not in text
    assert len(calls_of(spans)) == 3
    assert (tmp_path / RUN_ID / "tasks/reasoning-1/1-1" / EXCHANGES).exists(), "it is kept"


def test_without_exchanges_the_short_form_of_a_tools_call_is_told() -> None:
    data = trace_lines(calling(), reply(), AGENT)
    tool = all_spans(json.loads(data))[-2]
    assert attributes(tool)["gen_ai.tool.call.arguments"] == '{"expression":"6*7"}'


def test_failures_have_a_type_and_departures_do_not() -> None:
    failing = calling(
        model_calls=(
            model_call(1, status=429, refused="budget_exceeded", token_source=None, cost_usd=None),
            model_call(2, status=500),
            model_call(3, aborted=True),
            model_call(4, api=Api.EMBEDDINGS, model="embed"),
        ),
        tool_calls=(
            tool_call(5, succeeded=False, error="division by zero", result=None),
            tool_call(6, succeeded=False, refused="tool_calls_exceeded"),
        ),
    )
    data = json.loads(trace_lines(failing, reply(), AGENT))
    spans = all_spans(data)[-6:]
    types = [attributes(span).get("error.type") for span in spans]
    assert types == ["budget_exceeded", "500", None, None, "tool_error", "tool_calls_exceeded"]
    assert spans[4]["status"] == {"code": 2, "message": "tool_error: division by zero"}
    assert "gen_ai.usage.input_tokens" not in attributes(spans[0]), "nothing was counted"
    assert "agenttrace.call.cost_usd" not in attributes(spans[0]), "unknown is not zero"
    assert attributes(spans[2])["agenttrace.call.aborted"] is True
    assert spans[3]["name"] == "embeddings embed"


def test_the_root_covers_a_call_that_the_clock_put_outside() -> None:
    late = calling(model_calls=(model_call(1, start_unix_nanos=2 * 10**18, seconds=1.0),))
    root, *_ = all_spans(json.loads(trace_lines(late, reply(), AGENT)))
    assert int(root["endTimeUnixNano"]) == 2 * 10**18 + 10**9


def test_keys_are_taken_out(tmp_path: Path) -> None:
    said = f"my key is {KEY}, sk-abcdefgh1234 and Authorization: Bearer abc.def-ghi1234"
    body = {"messages": [QUESTION | {"content": said}]}
    answer = {"choices": [{"message": {"role": "assistant", "content": said}}]}
    secret_tool = exchanges()[1].model_copy(
        update={"request": {"name": "kv", "arguments": {"value": KEY, KEY: 1}}}
    )
    spans = kept(
        tmp_path, exchange(1, Api.CHAT, body, answer), secret_tool, output=said, input=said
    )
    text = json.dumps([span.model_dump(mode="json") for span in spans])
    assert "my key is **********, ********** and Authorization: Bearer **********" in text
    for key in (KEY, "sk-abcdefgh1234", "abc.def-ghi1234"):
        assert key not in text
    assert redaction.without_keys("risk-free at-home task-oriented") == (
        "risk-free at-home task-oriented"
    )


def test_texts_are_cut_where_they_bury_the_rest(tmp_path: Path, monkeypatch: Any) -> None:
    body = {"messages": [QUESTION | {"content": "x" * 200_000}]}
    first, *_ = calls_of(kept(tmp_path / "a", exchange(1, Api.CHAT, body, {})))
    [told] = first.events[0].messages
    assert told.text.endswith("[cut: some 100000 characters more]")
    assert len(told.text) < 101_000

    monkeypatch.setattr(call_texts, "CALL_CHARACTERS", 600)
    many = {"messages": [QUESTION | {"content": f"message {n}"} for n in range(50)]}
    first, *_ = calls_of(kept(tmp_path / "b", exchange(1, Api.CHAT, many, {})))
    texts = [message.text for message in first.events[0].messages]
    assert texts[-1] == "message 49", "the later ones tell more"
    assert first.events[0].attributes["agenttrace.messages.left_out"] == 50 - len(texts)

    monkeypatch.setattr(call_texts, "TRACE_CHARACTERS", 700)
    path = write_exchanges(
        tmp_path / "c", exchange(1, Api.CHAT, many, {}), exchange(2, Api.CHAT, many, {})
    )
    texts_of = CallTexts(read_exchanges(path))
    sizes = [len(texts_of.of_model(n)["gen_ai.input.messages"]) for n in (1, 2)]
    assert sizes[0] > sizes[1] * 3


def test_a_key_that_lies_across_the_cut_is_known() -> None:
    text = "x" * (redaction.MOST_CHARACTERS - 10) + KEY + "y" * 10_000
    assert "at-0123" not in redaction.kept_text(text)


def test_an_attempt_without_calls_is_traced_as_ever() -> None:
    assert len(all_spans(json.loads(trace_lines(execution(), reply(), AGENT)))) == 3


def test_hostile_names_are_cut() -> None:
    long = calling(
        model_calls=(model_call(1, model="m" * 10_000, token_source=TokenSource.ESTIMATE),)
    )
    span = all_spans(json.loads(trace_lines(long, reply(), AGENT)))[-2]
    assert len(span["name"]) == len("chat ") + 200


@given(
    name=ANY_TEXT,
    refused=ANY_TEXT,
    reasons=st.lists(ANY_TEXT, max_size=3),
    said=ANY_TEXT,
    arguments=st.dictionaries(ANY_TEXT, ANY_TEXT, max_size=2),
)
def test_whatever_the_agent_calls_the_line_is_valid_and_reads_back(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    refused: str,
    reasons: list[str],
    said: str,
    arguments: dict[str, str],
) -> None:
    hostile = calling(
        model_calls=(model_call(1, model=name, refused=refused, finish_reasons=tuple(reasons)),),
        tool_calls=(tool_call(2, name=name, arguments=arguments, error=said, succeeded=False),),
    )
    body = {"messages": [{"role": said, "content": said, "tool_calls": [{"id": said}]}]}
    request = {"api": Api.CHAT.value, "body": body}
    texts = CallTexts([RecordedExchange(number=1, kind="model", request=request)])
    data = trace_lines(hostile, reply(), AGENT, texts)
    assert data.count(b"\n") == 1
    parsed(data.decode("utf-8", "strict"))
    path = tmp_path_factory.mktemp("trace") / "trace.otlp.jsonl"
    path.write_bytes(data)
    assert len(load_trace(path)) == 5


def test_names_may_hold_keys_as_well() -> None:
    named = calling(model_calls=(model_call(1, model=KEY),), tool_calls=(tool_call(2, name=KEY),))
    assert KEY.encode() not in trace_lines(named, reply(), AGENT)
