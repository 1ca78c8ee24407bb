"""Attempts that called models and tools, and the files of their exchanges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runner.domain import (
    Api,
    ExecutionStatus,
    FailureReason,
    ModelCall,
    ResourceUsage,
    TaskExecution,
    TokenSource,
    ToolCall,
)
from runner.domain.gateway import EXCHANGES
from runner.gateway.calls import Exchange
from runner.records import RunDirectory
from tests.unit.records.nouns import NANOS, RUN_ID, benchmark, execution, plan, reply, task

KEY = "at-" + "0123456789abcdef" * 2
ASK = NANOS + 250_000_000


def model_call(number: int = 1, **changes: Any) -> ModelCall:
    fields: dict[str, Any] = {
        "number": number,
        "api": Api.CHAT,
        "model": "gpt-4o-mini",
        "upstream": "openai",
        "status": 200,
        "start_unix_nanos": ASK + number * 10_000_000,
        "seconds": 0.005,
        "first_chunk_seconds": 0.002,
        "tokens_input": 12,
        "tokens_output": 3,
        "token_source": TokenSource.PROVIDER,
        "cost_usd": 0.000125,
        "finish_reasons": ("stop",),
        "request_bytes": 100,
        "response_bytes": 50,
        "digest": f"{number:064x}",
    }
    return ModelCall(**(fields | changes))


def tool_call(number: int = 2, **changes: Any) -> ToolCall:
    fields: dict[str, Any] = {
        "number": number,
        "name": "calculator",
        "via": "http",
        "arguments": {"expression": "6*7"},
        "result": 42,
        "succeeded": True,
        "start_unix_nanos": ASK + number * 10_000_000,
        "seconds": 0.001,
        "digest": f"{number:064x}",
    }
    return ToolCall(**(fields | changes))


def calling(**changes: Any) -> TaskExecution:
    """Asks a model, which asks for a tool, calls that, and tells the model what came of it."""
    fields: dict[str, Any] = {
        "model_calls": (
            model_call(1, finish_reasons=("tool_calls",)),
            model_call(3, streamed=True),
        ),
        "tool_calls": (tool_call(2),),
        "resource_usage": ResourceUsage(
            execution_time_seconds=0.5,
            tokens_input=24,
            tokens_output=6,
            tool_calls_count=1,
            api_calls_count=2,
            cost_usd=0.00025,
            token_source=TokenSource.PROVIDER,
        ),
    }
    return execution(**(fields | changes))


def exchange(number: int, api: Api, body: dict[str, Any], answer: Any, **changes: Any) -> Exchange:
    fields: dict[str, Any] = {
        "number": number,
        "kind": "model",
        "digest": f"{number:064x}",
        "request": {"api": api.value, "body": body},
        "status": 200,
        "content_type": "application/json",
        "chunks": (answer if isinstance(answer, str) else json.dumps(answer),),
    }
    return Exchange(**(fields | changes))


QUESTION: dict[str, Any] = {"role": "user", "content": "What is 6*7?"}
ASKED: dict[str, Any] = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {
            "id": "call_a",
            "type": "function",
            "function": {"name": "calculator", "arguments": '{"expression":"6*7"}'},
        }
    ],
}
TOLD: dict[str, Any] = {"role": "tool", "tool_call_id": "call_a", "content": "42"}


def stream(*events: Any) -> tuple[str, ...]:
    """Server-sent events, cut where no line ends."""
    text = "".join(f"data: {json.dumps(each)}\n\n" for each in events) + "data: [DONE]\n\n"
    return tuple(text[at : at + 37] for at in range(0, len(text), 37))


def exchanges() -> list[Exchange]:
    first = {"model": "gpt-4o-mini", "messages": [QUESTION]}
    third = {"model": "gpt-4o-mini", "stream": True, "messages": [QUESTION, ASKED, TOLD]}
    words = [{"choices": [{"index": 0, "delta": {"content": word}}]} for word in ("It is ", "42.")]
    return [
        exchange(
            1,
            Api.CHAT,
            first,
            {"choices": [{"index": 0, "message": ASKED, "finish_reason": "tool_calls"}]},
            usage={"tokens_input": 12, "tokens_output": 3, "tokens_cached": 4},
        ),
        Exchange(
            number=2,
            kind="tool",
            digest=f"{2:064x}",
            request={"name": "calculator", "arguments": {"expression": "6*7"}},
            status=200,
            content_type="application/json",
            chunks=('{"result":42,"error":""}',),
        ),
        exchange(3, Api.CHAT, third, "", content_type="text/event-stream", chunks=stream(*words)),
    ]


def write_exchanges(path: Path, *given: Exchange) -> Path:
    lines = [each.model_dump_json() for each in given or exchanges()]
    path.write_text("".join(line + "\n" for line in lines))
    return path


def recorded_run(root: Path) -> Path:
    """A run with an attempt of each kind: with calls and without, over a limit, failed, broken."""
    directory = RunDirectory(root, RUN_ID)
    names = ("calling", "quiet", "slow", "crashed", "stopped", "hostile")
    directory.begin(plan(RUN_ID, *map(task, names)))
    for made in _attempts():
        staging = directory.staging()
        if made.model_calls:
            write_exchanges(staging.parent / EXCHANGES)
        directory.keep(made, reply(), staging)
    directory.finish(benchmark(*_attempts()))
    return directory.path


def _attempts() -> list[TaskExecution]:
    return [
        execution(
            task_id="calling",
            status=ExecutionStatus.FAILED,
            failure_reason=FailureReason.INTERNAL_ERROR,
            score=None,
        ),
        calling(task_id="calling", attempt=2),
        calling(task_id="calling", repeat=2, model_calls=(), tool_calls=(tool_call(1),)),
        execution(task_id="quiet"),
        execution(
            task_id="slow",
            status=ExecutionStatus.TIMEOUT,
            failure_reason=FailureReason.AGENT_TIMEOUT,
            output="",
        ),
        execution(
            task_id="crashed",
            status=ExecutionStatus.FAILED,
            failure_reason=FailureReason.AGENT_ERROR,
            failure_detail="exit status 1",
            output="",
        ),
        execution(task_id="stopped", status=ExecutionStatus.CANCELLED, score=None, output=""),
        _hostile(),
    ]


def _hostile() -> TaskExecution:
    """Refused, broken off, and everything named as no honest agent would."""
    calls = (
        model_call(
            1,
            model="\x1b[31mevil\u202e",
            upstream="",
            status=429,
            refused="budget_exceeded",
            token_source=None,
            cost_usd=None,
            finish_reasons=(),
        ),
        model_call(3, aborted=True, cached=True, retries=2, waited_seconds=1.5, cost_usd=None),
    )
    tools = (
        tool_call(2, name="no\x07tool", arguments="{" * 50, succeeded=False, error="unknown"),
        tool_call(4, arguments=[1, 2], result=None, succeeded=False, refused="tool_calls_exceeded"),
    )
    output = f"\ud800 {KEY} \u202e sk-proj-abcdefghijkl Bearer abcdefghijkl"
    return calling(task_id="hostile", model_calls=calls, tool_calls=tools, output=output)
