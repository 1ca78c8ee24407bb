"""A run as one evaluation log of Inspect (`inspect_ai`), version 2 in JSON.

Each task and repeat is a sample: the repeat is its epoch. `inspect_ai.log.read_eval_log` reads it,
with which version is in requirements/peers.txt. Answer keys are not in a run, so `target` is empty.
"""

from __future__ import annotations

from typing import Any

from runner.domain.execution import ExecutionStatus, FailureReason, TaskExecution
from runner.domain.gateway import ModelCall
from runner.records.exports.chosen import Chosen, ExportedRun, most_called_model, without_none
from runner.records.exports.inspect_messages import (
    events,
    model_usage,
    sample_messages,
    usage_by_model,
)
from runner.records.redaction import kept_text

Json = dict[str, Any]
VERSION = 2
SCORER = "agenttrace"
NO_MODEL = "none/none"
"""Inspect's own name for an evaluation without a model."""

_LIMITS = {
    FailureReason.AGENT_TIMEOUT: "time",
    FailureReason.TOKEN_BUDGET_EXCEEDED: "token",
    FailureReason.COST_BUDGET_EXCEEDED: "cost",
    FailureReason.MEMORY_EXCEEDED: "custom",
    FailureReason.PIDS_EXCEEDED: "custom",
    FailureReason.DISK_EXCEEDED: "custom",
    FailureReason.OUTPUT_EXCEEDED: "custom",
}


def inspect_log(run: ExportedRun) -> Json:
    """The chosen attempts of a run."""
    executions = [chosen.execution for chosen in run.attempts]
    log = {
        "version": VERSION,
        "status": _status(run),
        "eval": _spec(run, executions),
        "plan": {"name": "plan", "steps": [{"solver": run.lock.agent_name, "params": {}}]},
        "results": _results(executions),
        "stats": {
            "started_at": min(each.started_at for each in executions).isoformat(),
            "completed_at": max(each.finished_at for each in executions).isoformat(),
            "model_usage": usage_by_model(_all_calls(executions)),
        },
        "samples": [_sample(chosen) for chosen in run.attempts],
    }
    return without_none(log)


def _status(run: ExportedRun) -> str:
    match run.result.status if run.result else None:
        case ExecutionStatus.COMPLETED:
            return "success"
        case ExecutionStatus.CANCELLED:
            return "cancelled"
        case None:
            return "started"
        case _:
            return "error"


def _all_calls(executions: list[TaskExecution]) -> list[ModelCall]:
    return [call for each in executions for call in each.model_calls]


# -- the whole -----------------------------------------------------------------------------------


def _spec(run: ExportedRun, executions: list[TaskExecution]) -> Json:
    lock = run.lock
    return {
        "eval_id": lock.run_id,
        "run_id": lock.run_id,
        "created": lock.started_at,
        "task": lock.suite_name,
        "task_id": f"{lock.suite_name}@{lock.suite_digest}",
        "task_version": lock.suite_version,
        "solver": lock.agent_name,
        "dataset": {
            "name": lock.suite_name,
            "samples": len({each.task_id for each in executions}),
            "sample_ids": sorted({each.task_id for each in executions}),
            "shuffled": True,
        },
        "model": most_called_model(_all_calls(executions)) or NO_MODEL,
        "config": {"epochs": lock.repeats},
        "packages": {"agenttrace-runner": lock.runner_version},
        "scorers": [{"name": SCORER}],
        "metadata": {
            "agent_name": lock.agent_name,
            "agent_version": lock.agent_version,
            "submission_id": lock.submission_id,
            "suite_digest": lock.suite_digest,
            "image_id": lock.image_id,
            "seed": lock.seed,
            "limits": lock.limits.model_dump(mode="json"),
        },
    }


def _results(executions: list[TaskExecution]) -> Json:
    scored = [each for each in executions if each.score]
    mean = sum(each.normalized_score for each in executions) / len(executions) / 100
    score = {
        "name": SCORER,
        "scorer": SCORER,
        "scored_samples": len(scored),
        "unscored_samples": len(executions) - len(scored),
        "metrics": {"mean": {"name": "mean", "value": mean}},
    }
    return {
        "total_samples": len(executions),
        "completed_samples": sum(each.has_verdict for each in executions),
        "scores": [score],
    }


# -- a sample ------------------------------------------------------------------------------------


def _sample(chosen: Chosen) -> Json:
    execution = chosen.execution
    exchanges = chosen.exchanges()
    seconds = execution.resource_usage.execution_time_seconds
    return without_none(
        {
            "id": execution.task_id,
            "epoch": execution.repeat,
            "uuid": execution.trace_id or chosen.name,
            "input": kept_text(execution.input),
            "target": "",
            "messages": sample_messages(chosen, exchanges),
            "output": _output(execution),
            "scores": {SCORER: _score(execution)} if execution.score else None,
            "metadata": _metadata(execution),
            "events": list(events(chosen, exchanges)),
            "model_usage": usage_by_model([*execution.model_calls]),
            "started_at": execution.started_at.isoformat(),
            "completed_at": execution.finished_at.isoformat(),
            "total_time": (execution.finished_at - execution.started_at).total_seconds(),
            "working_time": seconds,
            "error": _error(execution),
            "limit": _limit(execution),
        }
    )


def _output(execution: TaskExecution) -> Json:
    text = kept_text(execution.output)
    calls = [*execution.model_calls]
    stop = "max_tokens" if execution.output_truncated else "stop"
    message = {"role": "assistant", "content": text, "source": "generate"}
    return without_none(
        {
            "model": most_called_model(calls) or NO_MODEL,
            "choices": [{"message": message, "stop_reason": stop}] if text else [],
            "completion": text,
            "usage": model_usage(calls) if calls else None,
            "time": execution.resource_usage.execution_time_seconds,
        }
    )


def _score(execution: TaskExecution) -> Json | None:
    score = execution.score
    if score is None:
        return None
    lines = [f"{each.name}: {each.points:g} {each.detail}".rstrip() for each in score.criteria]
    return {
        "value": score.normalized / 100,
        "answer": kept_text(execution.output),
        "explanation": kept_text("\n".join(lines)),
        "metadata": score.model_dump(mode="json"),
    }


def _metadata(execution: TaskExecution) -> Json:
    return {
        "category": execution.category.value,
        "attempt": execution.attempt,
        "status": execution.status.value,
        "failure_reason": execution.failure_reason and execution.failure_reason.value,
        "failure_detail": execution.failure_detail,
        "resource_usage": execution.resource_usage.model_dump(mode="json"),
        "seed": execution.seed,
        "trace_id": execution.trace_id,
    }


def _error(execution: TaskExecution) -> Json | None:
    """What ended the attempt without an answer, unless it was a limit."""
    reason = execution.failure_reason
    if execution.status is ExecutionStatus.COMPLETED or reason in _LIMITS:
        return None
    what = (reason or execution.status).value
    message = f"{what}: {execution.failure_detail}" if execution.failure_detail else what
    return {"message": kept_text(message), "traceback": "", "traceback_ansi": ""}


def _limit(execution: TaskExecution) -> Json | None:
    reason = execution.failure_reason
    if reason not in _LIMITS:
        return None
    return {
        "type": _LIMITS[reason],
        "limit": _limit_value(execution, reason),
        "reason": reason.value,
    }


def _limit_value(execution: TaskExecution, reason: FailureReason) -> float:
    limits = execution.limits
    values = {
        FailureReason.AGENT_TIMEOUT: limits.time_seconds,
        FailureReason.TOKEN_BUDGET_EXCEEDED: execution.token_budget,
        FailureReason.COST_BUDGET_EXCEEDED: execution.cost_budget_usd,
        FailureReason.MEMORY_EXCEEDED: limits.memory_bytes,
        FailureReason.PIDS_EXCEEDED: limits.pids,
        FailureReason.DISK_EXCEEDED: limits.disk_bytes,
        FailureReason.OUTPUT_EXCEEDED: limits.output_bytes,
    }
    return float(values[reason] or 0)
