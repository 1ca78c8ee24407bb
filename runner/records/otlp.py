"""One attempt as an OpenTelemetry trace in OTLP-JSON, one `TracesData` a line.

https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding: ids in hex, 64-bit integers as
strings, enumerations as numbers, names in lowerCamelCase.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from runner.domain import ExecutionStatus, Reply, ResourceUsage, Score, TaskExecution
from runner.domain.base import Noun
from runner.domain.trace import trace_id_of
from runner.records import semconv
from runner.records.call_spans import call_spans, extent_of_calls
from runner.records.call_texts import CallTexts
from runner.records.durable import json_bytes
from runner.records.encoding import (
    Json,
    attributes,
    event,
    json_text,
    nanos,
    span_id,
    unix_nanos,
)
from runner.records.redaction import without_keys

_UINT64_MAX = 2**64 - 1
_CLAIMS_KEPT = 50
_CLAIM_CHARACTERS = 200
_SANDBOX_FIELDS = ("container_name", "image_id", "engine_version", "runtime", "tier")
_ASK = "ask"
"""The stage in which the agent runs, and so calls."""


class TracedAgent(Noun):
    """Whose trace it is."""

    name: str
    version: str
    runner_version: str


def trace_lines(
    execution: TaskExecution,
    reply: Reply | None,
    agent: TracedAgent,
    texts: CallTexts | None = CallTexts(),  # noqa: B008 - empty, and never written to
) -> bytes:
    """The lines of `trace.otlp.jsonl`: today one, which also viewers without JSONL can open.

    `texts` is what was said in the attempt's calls. None: no message, argument or result is told.
    """
    return json_bytes(_traces_data(execution, reply, agent, texts)) + b"\n"


def _traces_data(
    execution: TaskExecution, reply: Reply | None, agent: TracedAgent, texts: CallTexts | None
) -> Json:
    root = _root_span(execution, reply, agent, texts)
    stages = list(_stage_spans(execution, root))
    asking = next((each for each in stages if each["name"] == _ASK), root)
    calls = call_spans(execution, root["traceId"], asking["spanId"], texts)
    scope = {"name": semconv.SCOPE_NAME, "version": agent.runner_version}
    spans = [root, *stages, *calls]
    scope_spans = {"scope": scope, "spans": spans, "schemaUrl": semconv.SCHEMA_URL}
    resource = {"attributes": attributes(_resource(execution, agent))}
    return {
        "resourceSpans": [
            {"resource": resource, "scopeSpans": [scope_spans], "schemaUrl": semconv.SCHEMA_URL}
        ]
    }


def _resource(execution: TaskExecution, agent: TracedAgent) -> Json:
    return {
        semconv.SERVICE_NAME: semconv.SERVICE_NAME_VALUE,
        semconv.SERVICE_VERSION: agent.runner_version,
        semconv.AGENT_NAME: agent.name,
        semconv.AGENT_VERSION: agent.version,
        semconv.RUN_ID: execution.run_id,
        semconv.SUBMISSION_ID: execution.submission_id,
        semconv.TASK_ID: execution.task_id,
        semconv.TASK_CATEGORY: execution.category.value,
        semconv.REPEAT: execution.repeat,
        semconv.ATTEMPT: execution.attempt,
    }


# -- spans ---------------------------------------------------------------------------------------


def _root_span(
    execution: TaskExecution, reply: Reply | None, agent: TracedAgent, texts: CallTexts | None
) -> Json:
    trace_id = execution.trace_id or trace_id_of(
        execution.run_id, execution.task_id, execution.repeat, execution.attempt
    )
    start, end = _extent(execution)
    span = {
        "traceId": trace_id,
        "spanId": span_id(trace_id, "root"),
        "name": f"{semconv.INVOKE_AGENT} {agent.name}",
        "kind": semconv.KIND_CLIENT,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(end),
        "attributes": attributes(_root_attributes(execution, reply, agent)),
        "events": _events(execution, str(end), texts),
    }
    return span | _status(execution)


def _extent(execution: TaskExecution) -> tuple[int, int]:
    """From the first to the last moment recorded; it holds even when the clock was set back."""
    stages = [(s.start_unix_nanos, s.start_unix_nanos + nanos(s.seconds)) for s in execution.stages]
    steps = [*stages, *extent_of_calls(execution)]
    start = min([unix_nanos(execution.started_at), *(start for start, _ in steps)])
    end = max([unix_nanos(execution.finished_at), start, *(end for _, end in steps)])
    return max(start, 0), min(end, _UINT64_MAX)


def _stage_spans(execution: TaskExecution, root: Json) -> Iterable[Json]:
    for position, stage in enumerate(execution.stages):
        yield {
            "traceId": root["traceId"],
            "spanId": span_id(root["traceId"], f"{position}\0{stage.name}"),
            "parentSpanId": root["spanId"],
            "name": stage.name,
            "kind": semconv.KIND_INTERNAL,
            "startTimeUnixNano": str(stage.start_unix_nanos),
            "endTimeUnixNano": str(stage.start_unix_nanos + nanos(stage.seconds)),
            "attributes": attributes({semconv.STAGE: stage.name}),
        }


def _status(execution: TaskExecution) -> Json:
    if execution.status is ExecutionStatus.COMPLETED:
        return {}
    return {"status": {"code": semconv.STATUS_ERROR, "message": _error_message(execution)}}


def _error_message(execution: TaskExecution) -> str:
    parts = (_error_type(execution), execution.failure_detail)
    return ": ".join(part for part in parts if part)


def _error_type(execution: TaskExecution) -> str:
    return (execution.failure_reason or execution.status).value


# -- attributes ----------------------------------------------------------------------------------


def _root_attributes(execution: TaskExecution, reply: Reply | None, agent: TracedAgent) -> Json:
    return (
        _operation(execution, agent)
        | _ending(execution, reply)
        | _usage(execution.resource_usage)
        | _sandbox(execution)
        | _claims(execution.claims)
    )


def _operation(execution: TaskExecution, agent: TracedAgent) -> Json:
    return {
        semconv.OPERATION_NAME: semconv.INVOKE_AGENT,
        semconv.PROVIDER_NAME: semconv.PROVIDER_NAME_VALUE,
        semconv.AGENT_ID: execution.submission_id,
        semconv.AGENT_NAME: agent.name,
        semconv.AGENT_VERSION: agent.version,
        semconv.REQUEST_SEED: execution.seed,
    }


def _ending(execution: TaskExecution, reply: Reply | None) -> Json:
    failed = execution.status is not ExecutionStatus.COMPLETED
    return {
        semconv.STATUS: execution.status.value,
        semconv.FAILURE_REASON: execution.failure_reason and execution.failure_reason.value,
        semconv.ERROR_TYPE: _error_type(execution) if failed else None,
        semconv.EXIT_CODE: execution.exit_code,
        semconv.SIGNAL: execution.signal,
        semconv.OUTPUT_TRUNCATED: execution.output_truncated,
        semconv.CONFIRMED_DEAD: execution.agent_confirmed_dead,
    } | (_reply(reply) if reply else {})


def _reply(reply: Reply) -> Json:
    return {
        semconv.ENDING: reply.ending.kind.value,
        semconv.OUTPUT_BYTES: reply.output_bytes,
        semconv.STDOUT_BYTES: reply.stdout_bytes,
        semconv.STDERR_BYTES: reply.stderr_bytes,
    }


def _usage(usage: ResourceUsage) -> Json:
    measured = {semconv.USAGE_PREFIX + name: value for name, value in usage.model_dump().items()}
    tokens = {
        semconv.USAGE_INPUT_TOKENS: usage.tokens_input,
        semconv.USAGE_OUTPUT_TOKENS: usage.tokens_output,
    }
    return measured | (tokens if usage.tokens_total else {})


def _sandbox(execution: TaskExecution) -> Json:
    facts = execution.sandbox
    if facts is None:
        return {}
    return {semconv.SANDBOX_PREFIX + name: getattr(facts, name) for name in _SANDBOX_FIELDS}


def _claims(claims: Mapping[str, int | float | str]) -> Json:
    """What the agent says of itself, cut to a size that cannot bury the rest."""
    kept = list(claims.items())[:_CLAIMS_KEPT]
    return {
        semconv.CLAIM_PREFIX + name[:_CLAIM_CHARACTERS]: (
            value[:_CLAIM_CHARACTERS] if isinstance(value, str) else value
        )
        for name, value in kept
    }


# -- events --------------------------------------------------------------------------------------


def _events(execution: TaskExecution, moment: str, texts: CallTexts | None) -> list[Json]:
    """What the agent was told and said, then the judgement of each criterion and of the whole."""
    messages = _messages(execution) if texts is not None else _operation_names()
    details = event(semconv.OPERATION_DETAILS_EVENT, moment, messages)
    results = _evaluations(execution.score) if execution.score else ()
    return [details, *(event(semconv.EVALUATION_EVENT, moment, each) for each in results)]


def _messages(execution: TaskExecution) -> Json:
    told = {"role": "user", "parts": [_text_part(execution.input)]}
    said = {
        "role": "assistant",
        "parts": [_text_part(execution.output)],
        "finish_reason": _finish_reason(execution),
    }
    return _operation_names() | {
        semconv.INPUT_MESSAGES: json_text([told]),
        semconv.OUTPUT_MESSAGES: json_text([said]),
    }


def _text_part(text: str) -> Json:
    return {"type": "text", "content": without_keys(text)}


def _operation_names() -> Json:
    return {
        semconv.OPERATION_NAME: semconv.INVOKE_AGENT,
        semconv.PROVIDER_NAME: semconv.PROVIDER_NAME_VALUE,
    }


def _finish_reason(execution: TaskExecution) -> str:
    if execution.output_truncated:
        return "length"
    return "stop" if execution.status is ExecutionStatus.COMPLETED else "error"


def _evaluations(score: Score) -> Iterable[Json]:
    for criterion in score.criteria:
        yield _evaluation(criterion.name, criterion.points) | {
            semconv.EVALUATION_EXPLANATION: criterion.detail or None
        }
    yield _evaluation("total", score.normalized / 100)


def _evaluation(name: str, points: float) -> Json:
    return {
        semconv.EVALUATION_NAME: name,
        semconv.EVALUATION_SCORE_VALUE: float(points),
        semconv.EVALUATION_SCORE_LABEL: _label(points),
    }


def _label(points: float) -> str:
    if points >= 1:
        return "pass"
    return "partial" if points > 0 else "fail"
