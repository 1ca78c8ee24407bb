from __future__ import annotations

import base64
import json
import string
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1 import trace_pb2

from runner.domain import (
    CriterionScore,
    ExecutionStatus,
    FailureReason,
    Score,
    Stage,
    TaskExecution,
)
from runner.domain.trace import trace_id_of
from runner.errors import UsageError
from runner.records import load_trace, semconv
from runner.records.otlp import TracedAgent, trace_lines
from tests.unit.records.nouns import NANOS, RUN_ID, STARTED, execution, reply

AGENT = TracedAgent(name="echo", version="1.2.3", runner_version="0.1.0")
ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=40)


def lines(
    of: TaskExecution | None = None, *, agent: TracedAgent = AGENT, **answered: Any
) -> list[str]:
    data = trace_lines(of or execution(), reply(**answered), agent)
    assert data.endswith(b"\n")
    return data.decode("utf-8").splitlines()


def parsed(line: str) -> trace_pb2.TracesData:
    """By the official parser. Protobuf's own JSON has base64 where OTLP-JSON has hex."""
    data = json.loads(line)
    for span in all_spans(data):
        for name in {"traceId", "spanId", "parentSpanId"} & span.keys():
            span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    traces = trace_pb2.TracesData()
    json_format.Parse(json.dumps(data), traces)
    return traces


def all_spans(data: dict[str, Any]) -> list[dict[str, Any]]:
    return [s for r in data["resourceSpans"] for sc in r["scopeSpans"] for s in sc["spans"]]


def root(of: TaskExecution | None = None, **answered: Any) -> dict[str, Any]:
    [first, *_] = all_spans(json.loads(lines(of, **answered)[0]))
    return first


def attributes(holder: dict[str, Any]) -> dict[str, Any]:
    return {each["key"]: next(iter(each["value"].values())) for each in holder["attributes"]}


def test_round_trip_through_the_official_parser() -> None:
    [line] = lines()
    traces = parsed(line)
    [resource_spans] = traces.resource_spans
    [scope_spans] = resource_spans.scope_spans
    assert resource_spans.schema_url == scope_spans.schema_url == semconv.SCHEMA_URL
    first, *stages = scope_spans.spans
    assert first.trace_id.hex() == trace_id_of(RUN_ID, "reasoning-1", 1, 1)
    assert first.name == "invoke_agent echo"
    assert first.kind == trace_pb2.Span.SPAN_KIND_CLIENT
    assert first.end_time_unix_nano - first.start_time_unix_nano == 2_000_000_000
    assert [stage.name for stage in stages] == ["create", "ask"]
    assert all(stage.parent_span_id == first.span_id for stage in stages)
    assert all(stage.trace_id == first.trace_id for stage in stages)
    assert stages[1].start_time_unix_nano == NANOS + 250_000_000
    assert stages[1].end_time_unix_nano == NANOS + 750_000_000
    assert len({span.span_id for span in scope_spans.spans}) == 3


def test_ids_are_hex_and_nanos_are_strings() -> None:
    for span in all_spans(json.loads(lines()[0])):
        assert len(span["traceId"]) == 32
        assert len(span["spanId"]) == 16
        assert set(span["traceId"] + span["spanId"]) <= set(string.hexdigits.lower())
        assert isinstance(span["startTimeUnixNano"], str)
        assert isinstance(span["endTimeUnixNano"], str)
    assert "parentSpanId" not in root()


def test_the_file_is_what_jaeger_uploads() -> None:
    """Its `readJsonFile` parses the whole file or else each line, and wants `resourceSpans`."""
    data = trace_lines(execution(), reply(), AGENT)
    assert list(json.loads(data)) == ["resourceSpans"]
    assert all(list(json.loads(line)) == ["resourceSpans"] for line in data.splitlines())


def test_resource_and_operation_names() -> None:
    data = json.loads(lines()[0])
    resource = attributes(data["resourceSpans"][0]["resource"])
    assert resource["service.name"] == "agenttrace-runner"
    assert resource["service.version"] == "0.1.0"
    assert resource["gen_ai.agent.name"] == "echo"
    assert resource["gen_ai.agent.version"] == "1.2.3"
    assert resource["agenttrace.run.id"] == RUN_ID
    given_names = attributes(root())
    assert given_names["gen_ai.operation.name"] == "invoke_agent"
    assert given_names["agenttrace.usage.memory_peak_mb"] == 12.0
    assert given_names["agenttrace.usage.execution_time_seconds"] == 0.5
    assert given_names["agenttrace.sandbox.tier"] == "runc"
    assert given_names["agenttrace.ending"] == "answered"
    assert "error.type" not in given_names
    assert "gen_ai.usage.input_tokens" not in given_names, "unknown is not zero"


def test_the_output_and_each_score_are_events() -> None:
    details, *evaluations = root()["events"]
    assert details["name"] == "gen_ai.client.inference.operation.details"
    [said] = json.loads(attributes(details)["gen_ai.output.messages"])
    assert said == {
        "role": "assistant",
        "parts": [{"type": "text", "content": "42"}],
        "finish_reason": "stop",
    }
    [told] = json.loads(attributes(details)["gen_ai.input.messages"])
    assert told["parts"][0]["content"] == "What is it?"
    assert {each["name"] for each in evaluations} == {"gen_ai.evaluation.result"}
    found = [
        (
            attributes(each)["gen_ai.evaluation.name"],
            attributes(each)["gen_ai.evaluation.score.value"],
            attributes(each)["gen_ai.evaluation.score.label"],
        )
        for each in evaluations
    ]
    assert found == [("answer", 1.0, "pass"), ("form", 0.5, "partial"), ("total", 0.75, "partial")]


def test_a_failure_has_a_type_and_a_status() -> None:
    failed = execution(
        status=ExecutionStatus.RESOURCE_EXCEEDED,
        failure_reason=FailureReason.MEMORY_EXCEEDED,
        failure_detail="1 oom kill at 512 MiB",
        score=None,
        exit_code=137,
    )
    span = root(failed)
    assert span["status"] == {"code": 2, "message": "memory_exceeded: 1 oom kill at 512 MiB"}
    assert attributes(span)["error.type"] == "memory_exceeded"
    assert attributes(span)["agenttrace.exit_code"] == "137"
    [details] = span["events"]
    assert json.loads(attributes(details)["gen_ai.output.messages"])[0]["finish_reason"] == "error"
    assert parsed(lines(failed)[0]).resource_spans[0].scope_spans[0].spans[0].status.code == 2


def test_a_cancelled_attempt_without_reply() -> None:
    data = trace_lines(execution(status=ExecutionStatus.CANCELLED, stages=()), None, AGENT)
    parsed(data.decode())
    [span] = all_spans(json.loads(data))
    assert attributes(span)["error.type"] == "cancelled"


def test_a_truncated_output_says_so() -> None:
    [details, *_] = root(execution(output_truncated=True))["events"]
    assert json.loads(attributes(details)["gen_ai.output.messages"])[0]["finish_reason"] == "length"


def test_trace_ids_tell_attempts_apart_and_stay() -> None:
    assert trace_id_of("r", "t", 1, 1) == "d89d9a7e4d770d07458d96fe3de14f29"
    ids = {trace_id_of("r", "t", r, a) for r in range(20) for a in range(20)}
    assert len(ids) == 400
    assert lines() == lines()


def test_a_clock_set_back_gives_no_negative_span() -> None:
    back = execution(
        finished_at=STARTED - timedelta(hours=1),
        stages=(Stage(name="ask", start_unix_nanos=NANOS - 10, seconds=1.0),),
    )
    span = root(back)
    assert int(span["startTimeUnixNano"]) == NANOS - 10
    assert int(span["endTimeUnixNano"]) == NANOS - 10 + 1_000_000_000


def test_claims_are_kept_as_claims_and_cut() -> None:
    claims = {f"n{number}": "x" * 10_000 for number in range(500)} | {"tokens": 10**30}
    kept = {k for k in attributes(root(execution(claims=claims))) if "claim" in k}
    assert len(kept) == 50
    assert len(lines(execution(claims=claims))[0]) < 30_000
    big = attributes(root(execution(claims={"a": 2**63, "b": float("inf"), "c": -1})))
    assert big["agenttrace.claim.a"] == "0x8000000000000000"
    assert big["agenttrace.claim.b"] == "inf"
    assert big["agenttrace.claim.c"] == "-1"


@given(
    output=ANY_TEXT,
    detail=ANY_TEXT,
    name=ANY_TEXT,
    claims=st.dictionaries(ANY_TEXT, st.integers() | st.floats() | ANY_TEXT, max_size=4),
)
def test_whatever_the_agent_writes_the_line_is_valid(
    output: str, detail: str, name: str, claims: dict[str, int | float | str]
) -> None:
    score = Score(
        raw=0,
        maximum=1,
        criteria=(CriterionScore(name="a", scorer="exact", weight=1, points=0, detail=detail),),
    )
    hostile = execution(output=output, failure_detail=detail, claims=claims, score=score)
    agent = TracedAgent(name=name, version=name, runner_version="0")
    data = trace_lines(hostile, reply(), agent)
    assert data.count(b"\n") == 1
    line = data.decode("utf-8", "strict")
    parsed(line)
    [details, *_] = all_spans(json.loads(line))[0]["events"]
    [said] = json.loads(attributes(details)["gen_ai.output.messages"])
    assert said["parts"][0]["content"] == output


def test_spans_read_back(tmp_path: Path) -> None:
    path = tmp_path / "trace.otlp.jsonl"
    path.write_bytes(trace_lines(execution(claims={"t": 3}), reply(), AGENT))
    first, *stages = load_trace(path)
    assert first.parent_span_id == ""
    assert first.seconds == 2.0
    assert first.attributes["agenttrace.claim.t"] == 3
    assert first.attributes["agenttrace.output.truncated"] is False
    assert [event.name for event in first.events].count("gen_ai.evaluation.result") == 3
    assert [stage.parent_span_id for stage in stages] == [first.span_id] * 2
    assert not first.failed


@pytest.mark.parametrize(
    "damage",
    [
        b"{",
        b"[]",
        b"null",
        b'{"resourceSpans": 1}',
        b"\xff",
        b'{"resourceSpans": [{}]}',
        b"9" * 9999,
        b"[" * 100_000,
    ],
)
def test_a_damaged_trace_is_a_clear_error(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "trace.otlp.jsonl"
    path.write_bytes(trace_lines(execution(), reply(), AGENT) + damage)
    with pytest.raises(UsageError, match="line 2 is not an OTLP-JSON trace"):
        load_trace(path)
    with pytest.raises(UsageError, match="cannot read"):
        load_trace(tmp_path / "none")


def test_emission_is_cheap() -> None:
    big = execution(output="x" * 50_000)
    trace_lines(big, reply(), AGENT)
    start = time.process_time()
    for _ in range(50):
        trace_lines(big, reply(), AGENT)
    assert (time.process_time() - start) / 50 < 0.01
