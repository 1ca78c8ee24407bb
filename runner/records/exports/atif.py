"""An attempt as a trajectory in the Agent Trajectory Interchange Format (ATIF), version 1.8.

The format is Harbor's: its RFC 0001 (docs/rfcs/0001-trajectory-format.md) and the models in
`harbor.models.trajectories` of harbor 0.25.0, by which the tests read what is written here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from runner.domain.gateway import ModelCall, ToolCall
from runner.records.answers import said, tool_answer
from runner.records.conversation import AskedTool, Turn, told
from runner.records.encoding import json_text
from runner.records.exchanges import RecordedExchange, loaded_json
from runner.records.exports.chosen import (
    Chosen,
    ExportedRun,
    model_name,
    most_called_model,
    without_none,
)
from runner.records.redaction import kept_text, kept_value

SCHEMA_VERSION = "ATIF-v1.8"
Json = dict[str, Any]


def trajectory(run: ExportedRun, chosen: Chosen) -> Json:
    """What an attempt was asked, did and answered."""
    execution = chosen.execution
    steps = _Steps(chosen).all()
    return without_none(
        {
            "schema_version": SCHEMA_VERSION,
            "session_id": execution.run_id,
            "trajectory_id": execution.trace_id or chosen.name,
            "agent": _agent(run, chosen),
            "steps": steps,
            "final_metrics": _final_metrics(chosen, len(steps)),
            "notes": _notes(chosen),
            "extra": _extra(run, chosen),
        }
    )


def _agent(run: ExportedRun, chosen: Chosen) -> Json:
    return without_none(
        {
            "name": run.lock.agent_name,
            "version": run.lock.agent_version,
            "model_name": most_called_model([*chosen.execution.model_calls]) or None,
            "extra": {"submission_id": chosen.execution.submission_id},
        }
    )


def _notes(chosen: Chosen) -> str:
    return (
        "Steps are what the gateway of AgentTrace Runner saw, in the order in which calls arrived. "
        "A step with llm_call_count 0 is a tool call that no model of the trajectory asked for, "
        "or the attempt's answer. Attempt " + chosen.name + "."
    )


def _final_metrics(chosen: Chosen, steps: int) -> Json:
    usage = chosen.execution.resource_usage
    called = bool(chosen.execution.model_calls)
    return without_none(
        {
            "total_prompt_tokens": usage.tokens_input if called else None,
            "total_completion_tokens": usage.tokens_output if called else None,
            "total_cost_usd": usage.cost_usd,
            "total_steps": steps,
            "extra": usage.model_dump(mode="json"),
        }
    )


def _extra(run: ExportedRun, chosen: Chosen) -> Json:
    execution = chosen.execution
    return {
        "task_id": execution.task_id,
        "category": execution.category.value,
        "repeat": execution.repeat,
        "attempt": execution.attempt,
        "status": execution.status.value,
        "failure_reason": execution.failure_reason and execution.failure_reason.value,
        "failure_detail": execution.failure_detail,
        "score": execution.score.model_dump(mode="json") if execution.score else None,
        "suite": f"{run.lock.suite_name} {run.lock.suite_version}",
        "suite_digest": run.lock.suite_digest,
        "image_id": run.lock.image_id,
        "runner_version": run.lock.runner_version,
        "seed": execution.seed,
    }


class _Steps:
    """The steps of one attempt, made in the order of its calls."""

    def __init__(self, chosen: Chosen) -> None:
        self._chosen = chosen
        self._exchanges = chosen.exchanges()
        self._steps: list[Json] = []
        self._unanswered: dict[str, tuple[Json, str]] = {}
        """Calls that a model asked for: by the model's id, the step and the id in it."""

    def all(self) -> list[Json]:
        execution = self._chosen.execution
        self._add("user", kept_text(execution.input), execution.started_at)
        for call in self._chosen.calls():
            exchange = self._exchanges.get(call.number)
            if isinstance(call, ModelCall):
                self._model(call, exchange)
            else:
                self._tool(call, exchange)
        answer = kept_text(execution.output)
        if answer and answer != self._steps[-1]["message"]:
            step = self._add("agent", answer, execution.finished_at)
            step["llm_call_count"] = 0
        return self._steps

    def _add(self, source: str, message: str, at: datetime) -> Json:
        step: Json = {
            "step_id": len(self._steps) + 1,
            "timestamp": at.isoformat(),
            "source": source,
            "message": message,
        }
        self._steps.append(step)
        return step

    # -- models --------------------------------------------------------------------------------

    def _model(self, call: ModelCall, exchange: RecordedExchange | None) -> None:
        if exchange:
            self._observe_told(told(exchange))
        turns = said(exchange) if exchange else ()
        text = "\n".join(turn.text for turn in turns if turn.text)
        reasoning = "\n".join(turn.reasoning for turn in turns if turn.reasoning)
        step = self._add("agent", kept_text(text), _moment(call))
        step["model_name"] = model_name(call)
        if reasoning:
            step["reasoning_content"] = kept_text(reasoning)
        if asked := [each for turn in turns for each in turn.tool_calls]:
            step["tool_calls"] = list(self._asked(call, step, asked))
        if call.token_source:
            step["metrics"] = _metrics(call, exchange)
        step["llm_call_count"] = 1
        step["extra"] = _call_extra(call)

    def _asked(self, call: ModelCall, step: Json, asked: list[AskedTool]) -> Iterator[Json]:
        for position, each in enumerate(asked, 1):
            own_id = f"call_{call.number}_{position}"
            self._unanswered[each.call_id] = (step, own_id)
            yield {
                "tool_call_id": own_id,
                "function_name": kept_text(each.name),
                "arguments": _arguments(each.arguments),
                "extra": {"id": kept_text(each.call_id)},
            }

    def _observe_told(self, turns: tuple[Turn, ...]) -> None:
        """Results that the agent tells its model are those of the calls that it asked for."""
        for turn in turns:
            if turn.answers in self._unanswered:
                step, own_id = self._unanswered.pop(turn.answers)
                _observe(step, {"source_call_id": own_id, "content": kept_text(turn.text)})

    # -- tools ---------------------------------------------------------------------------------

    def _tool(self, call: ToolCall, exchange: RecordedExchange | None) -> None:
        result, error = tool_answer(exchange) if exchange else (call.result, call.error)
        given = exchange.request.get("arguments") if exchange else call.arguments
        own_id = f"call_{call.number}"
        step = self._add("agent", "", _moment(call))
        step["tool_calls"] = [
            {
                "tool_call_id": own_id,
                "function_name": kept_text(call.name)[:200],
                "arguments": _arguments(given),
                "extra": {"via": call.via, "seconds": call.seconds, "cached": call.cached},
            }
        ]
        content = _text(result) if call.succeeded else kept_text(error or call.error)
        _observe(step, {"source_call_id": own_id, "content": content, "extra": _ending(call)})
        step["llm_call_count"] = 0


def _observe(step: Json, result: Json) -> None:
    step.setdefault("observation", {"results": []})["results"].append(result)


def _ending(call: ToolCall) -> Json:
    return {"succeeded": call.succeeded, "refused": call.refused or None}


def _text(value: Any) -> str:
    return kept_text(value) if isinstance(value, str) else json_text(kept_value(value))


def _arguments(given: Any) -> Json:
    """As the format wants them: an object; what is none is told as a text."""
    value = loaded_json(given) if isinstance(given, str) else given
    if isinstance(value, Mapping):
        return dict(kept_value(value))
    return {} if given in (None, "") else {"arguments": kept_value(given)}


def _metrics(call: ModelCall, exchange: RecordedExchange | None) -> Json:
    return without_none(
        {
            "prompt_tokens": call.tokens_input,
            "completion_tokens": call.tokens_output,
            "cached_tokens": exchange.tokens_cached if exchange else None,
            "cost_usd": call.cost_usd,
            "extra": {"token_source": call.token_source and call.token_source.value},
        }
    )


def _call_extra(call: ModelCall) -> Json:
    """What the gateway saw, without what stands in the step itself."""
    told_elsewhere = {"tokens_input", "tokens_output", "cost_usd", "token_source"}
    return kept_value(call.model_dump(mode="json", exclude=told_elsewhere))  # type: ignore[no-any-return]


def _moment(call: ModelCall | ToolCall) -> datetime:
    return datetime.fromtimestamp(call.start_unix_nanos / 1e9, UTC)
