"""Executions match in what has to be equal, and nearly in what may vary; differences are lines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runner import ExecutionRecorder, ReproducibilityVerifier, Tolerance, Tolerances
from runner.domain import ExecutionStatus, FailureReason, ResourceUsage, TaskExecution
from runner.errors import UsageError
from tests.unit.records.calls import calling, model_call, tool_call
from tests.unit.records.nouns import STARTED, benchmark, execution


def differences(one: Any, other: Any, **tolerances: Any) -> list[str]:
    verifier = ReproducibilityVerifier(Tolerances(**tolerances))
    match, found = verifier.verify_executions_match(one, other)
    assert match is (not found)
    assert verifier.verify_executions_match(other, one)[0] is match
    return found


def usage(**changes: Any) -> TaskExecution:
    return execution(resource_usage=ResourceUsage(**changes))


def test_the_same_again_matches_although_ids_and_moments_differ() -> None:
    again = calling(
        run_id="another",
        submission_id="sub-2",
        attempt=2,
        started_at=STARTED + timedelta(days=1),
        finished_at=STARTED + timedelta(days=1, seconds=2),
        stages=(),
        sandbox=None,
    )
    assert differences(calling(), again) == []
    assert differences(benchmark(calling()), benchmark(again, run_id="another")) == []


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"output": "41"}, "output: '42' != '41'"),
        ({"status": ExecutionStatus.TIMEOUT}, "status: 'completed' != 'timeout'"),
        (
            {"failure_reason": FailureReason.AGENT_ERROR},
            "failure_reason: None != 'agent_error'",
        ),
        ({"score": None}, "score: {'normalized': 75.0, 'answer': 1.0, 'form': 0.5} != None"),
        ({"seed": 3}, "seed: 0 != 3"),
        ({"model_calls": ()}, "model_calls.length: 2 != 0"),
    ],
)
def test_what_has_to_be_equal(changes: dict[str, Any], line: str) -> None:
    assert differences(calling(), calling(**changes)) == [line]


def test_the_first_call_that_differs_is_named() -> None:
    other = calling(
        model_calls=(model_call(1), model_call(3, digest="ff")),
        tool_calls=(tool_call(2, succeeded=False),),
    )
    assert differences(calling(), other) == [
        f"model_calls[2]: 'gpt-4o-mini {3:064x} 200' != 'gpt-4o-mini ff 200'",
        f"tool_calls[1]: 'calculator {2:064x} succeeded' != 'calculator {2:064x} failed'",
    ]


def test_figures_may_vary_within_what_is_tolerated() -> None:
    quick, slow = usage(execution_time_seconds=1.0), usage(execution_time_seconds=2.9)
    assert differences(quick, slow) == []
    [line] = differences(quick, usage(execution_time_seconds=9.0))
    assert line == "resource_usage.execution_time_seconds: 1.0 != 9.0"
    [line] = differences(usage(memory_peak_mb=10), usage(memory_peak_mb=100))
    assert line == "resource_usage.memory_peak_mb: 10.0 != 100.0"
    assert differences(usage(tokens_input=10), usage(tokens_input=11))


def test_tolerances_are_the_callers() -> None:
    ten, eleven = usage(tokens_input=10), usage(tokens_input=11)
    assert differences(ten, eleven, figures={"tokens_input": Tolerance(relative=0.1)}) == []
    assert differences(ten, eleven, ignore={"tokens_input"}) == []
    strict = {"execution_time_seconds": Tolerance()}
    assert differences(
        usage(execution_time_seconds=1), usage(execution_time_seconds=1.1), figures=strict
    )
    ignored = {"output", "model_calls", "tool_calls", "status"}
    assert differences(calling(), calling(output="", model_calls=()), ignore=ignored) == []
    assert differences(usage(cost_usd=None), usage(cost_usd=0.0)), "unknown is not zero"
    free = {"cost_usd": Tolerance(absolute=1)}
    assert differences(usage(cost_usd=None), usage(cost_usd=0.0), figures=free)


def test_tasks_of_a_run_are_found_by_their_names() -> None:
    one = benchmark(execution(), execution(task_id="b"), execution(task_id="b", repeat=2))
    other = benchmark(execution(task_id="b", repeat=2, output="?"), execution(task_id="b"))
    found = differences(one, other)
    assert found == [
        "tasks[b#2].output: '42' != '?'",
        "tasks[reasoning-1#1]: 'present' != 'missing'",
    ]


def test_a_line_is_inert_and_short() -> None:
    [line] = differences(execution(), execution(output="\x1b[31m\u202e" * 10_000))
    assert line.isascii()
    assert line.isprintable()
    assert len(line) < 300


def test_recordings_are_compared_entry_by_entry() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)

    def recorder(result: Any, seconds: float) -> ExecutionRecorder:
        made = ExecutionRecorder()
        made.record_tool_call("f", {"a": 1}, result, seconds=seconds, at=at)
        made.record_agent_invocation("echo", "x", "y")
        return made

    assert differences(recorder(1, 0.1), recorder(1, 0.9)) == []
    assert differences(recorder(1, 0.1), recorder(2, 99.0)) == [
        "entries[1].result: 1 != 2",
        "entries[1].seconds: 0.1 != 99.0",
    ]
    other = ExecutionRecorder()
    other.record_agent_invocation("echo", "x", "y")
    assert differences(recorder(1, 0.1), other) == [
        "entries.length: 2 != 1",
        "entries[1].kind: 'tool' != 'agent'",
    ]


def test_things_of_two_kinds_are_not_compared() -> None:
    with pytest.raises(UsageError, match="TaskExecution and a BenchmarkExecution"):
        ReproducibilityVerifier().verify_executions_match(execution(), benchmark())
