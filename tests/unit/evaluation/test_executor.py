"""Order, parallelism, retries, draining and stopping, on fakes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from runner.domain import (
    BenchmarkCategory,
    ContainerEnd,
    Ending,
    EndingKind,
    EventKind,
    ExecutionStatus,
    FailureReason,
    Limits,
    Prompt,
    RunEvent,
    TaskExecution,
)
from runner.errors import (
    EngineFailed,
    EngineUnavailable,
    InfrastructureError,
    InsufficientResources,
    LimitNotApplied,
    Postponed,
    StorageFailed,
)
from runner.evaluation import RetryPolicy, StopSignal
from runner.evaluation.attempt import attempt
from runner.evaluation.stop import Stop
from runner.evaluation.unguarded import AlwaysOpen
from runner.testing import FAKE_IMAGE, FakeSandbox, FakeSession, FakeTransport, MemoryEvidence, Said
from tests.unit.evaluation.plans import executor, named, plan, task

KEPT_WHEN_FAILED = (ExecutionStatus.FAILED, FailureReason.INTERNAL_ERROR)


@pytest.fixture
def evidence() -> Iterator[MemoryEvidence]:
    with MemoryEvidence() as evidence:
        yield evidence


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses between attempts, which are noted and not made."""
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def note(seconds: float) -> None:
        if seconds:
            pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", note)
    return pauses


def attempts(evidence: MemoryEvidence) -> list[tuple[str, int, int]]:
    return [(k.execution.task_id, k.execution.repeat, k.execution.attempt) for k in evidence.kept]


def kinds(evidence: MemoryEvidence) -> list[EventKind]:
    return [event.kind for event in evidence.events]


# -- one task -----------------------------------------------------------------------------------


async def test_an_answer_is_judged_and_kept_with_its_files(evidence: MemoryEvidence) -> None:
    asked: list[Mapping[str, object]] = []

    def agent(prompt: Prompt, config: Mapping[str, object]) -> Said:
        asked.append(config)
        return Said(answer=b"a", stderr=b"hm", files={"out/x": b"file"})

    sandbox = FakeSandbox()
    execution = await executor(evidence, agent, sandbox=sandbox).execute_task(task("a"))
    assert (execution.status, execution.normalized_score) == (ExecutionStatus.COMPLETED, 100.0)
    assert (execution.output, execution.input) == ("a", "what is a?")
    assert asked == [
        {
            "seed": 7,
            "deadline_seconds": 30.0,
            "tools": ["search"],
            "output_directory": "/output",
        }
    ]
    (kept,) = evidence.kept
    assert (kept.execution, kept.files) == (execution, {"out/x": b"file"})
    assert kept.reply
    assert kept.reply.stderr == b"hm"
    assert not sandbox.live
    assert not list(evidence.root.iterdir()), "a staging directory is left"


async def test_a_tasks_own_limits_count(evidence: MemoryEvidence) -> None:
    sandbox = FakeSandbox()
    given = task("a", time_seconds=3, pids=9)
    execution = await executor(evidence, named, sandbox=sandbox).execute_task(given)
    ((_, limits),) = sandbox.asked
    assert limits == execution.limits == Limits(time_seconds=3, pids=9)
    assert execution.limit_overrides == {"time_seconds": 3, "pids": 9}


@pytest.mark.parametrize(
    ("said", "status", "reason"),
    [
        (Said(ending=Ending(kind=EndingKind.CRASHED)), "failed", "agent_error"),
        (Said(ending=Ending(kind=EndingKind.PROTOCOL_BROKEN)), "failed", "security_violation"),
        (Said(answer=b"\xff"), "failed", "invalid_output"),
        (RuntimeError("the agent's own"), "failed", "agent_error"),
    ],
)
async def test_what_an_agent_does_is_never_tried_again(
    evidence: MemoryEvidence, said: Any, status: str, reason: str
) -> None:
    def agent(_prompt: Prompt, _config: object) -> Said:
        if isinstance(said, Exception):
            raise said
        return said

    execution = await executor(evidence, agent).execute_task(task("a"))
    assert (execution.status, execution.failure_reason) == (status, reason)
    assert (execution.score, execution.normalized_score) == (None, 0.0)
    assert attempts(evidence) == [("a", 1, 1)]


async def test_an_agent_that_never_answers(evidence: MemoryEvidence) -> None:
    async def agent(_prompt: Prompt, _config: object) -> str:
        await asyncio.Event().wait()
        return "never"

    execution = await executor(evidence, agent).execute_task(task("a", time_seconds=0.01))
    assert execution.status is ExecutionStatus.TIMEOUT


# -- retries ------------------------------------------------------------------------------------


async def test_our_own_failures_are_tried_again_after_a_pause(
    evidence: MemoryEvidence, slept: list[float]
) -> None:
    failures = [EngineFailed("once"), LimitNotApplied("twice")]
    sandbox = FakeSandbox(failures=failures)
    made = executor(evidence, named, sandbox=sandbox, retry=RetryPolicy())
    execution = await made.execute_task(task("a"))
    assert slept == [2.0, 4.0]
    assert (execution.status, execution.attempt) == (ExecutionStatus.COMPLETED, 3)
    assert attempts(evidence) == [("a", 1, 1), ("a", 1, 2), ("a", 1, 3)]
    spoilt = [kept.execution for kept in evidence.kept[:2]]
    assert {(e.status, e.failure_reason) for e in spoilt} == {KEPT_WHEN_FAILED}
    assert [e.failure_detail for e in spoilt] == ["once", "twice"]
    assert kinds(evidence) == [
        *(EventKind.TASK_STARTED, EventKind.TASK_RETRIED) * 2,
        *(EventKind.TASK_STARTED, EventKind.TASK_FINISHED),
    ]


async def test_after_the_last_attempt_the_failure_stands(
    evidence: MemoryEvidence, slept: list[float]
) -> None:
    sandbox = FakeSandbox(failures=[EngineFailed(str(n)) for n in range(9)])
    retry = RetryPolicy(retries=3, delays_seconds=(1.0, 5.0))
    made = executor(evidence, named, sandbox=sandbox, retry=retry)
    execution = await made.execute_task(task("a"))
    assert slept == [1.0, 5.0, 5.0]
    assert (execution.attempt, execution.failure_detail) == (4, "3")
    assert execution.failure_reason is FailureReason.INTERNAL_ERROR
    assert kinds(evidence).count(EventKind.TASK_RETRIED) == 3, "the last one is not tried again"


async def test_without_retries_there_is_one_attempt(evidence: MemoryEvidence) -> None:
    sandbox = FakeSandbox(failures=[EngineFailed("once")])
    made = executor(evidence, named, sandbox=sandbox, retry=RetryPolicy(retries=0))
    assert (await made.execute_task(task("a"))).attempt == 1
    assert EventKind.TASK_RETRIED not in kinds(evidence)


async def test_a_container_removed_by_others_is_replaced(
    evidence: MemoryEvidence, slept: list[float]
) -> None:
    sandbox = FakeSandbox()

    async def agent(prompt: Prompt, _config: object) -> str:
        if len(sandbox.made) == 1:
            sandbox.made[0].vanish()
            await asyncio.Event().wait()
        return prompt.task_id

    execution = await executor(evidence, agent, sandbox=sandbox).execute_task(task("a"))
    assert (execution.attempt, execution.status) == (2, ExecutionStatus.COMPLETED)
    assert "removed" in evidence.kept[0].execution.failure_detail


async def test_a_kill_from_outside_is_tried_again_and_an_end_by_itself_is_not(
    evidence: MemoryEvidence, slept: list[float]
) -> None:
    sandbox = FakeSandbox()
    ends = [ContainerEnd(exit_code=137), ContainerEnd(exit_code=1)]

    async def agent(_prompt: Prompt, _config: object) -> str:
        sandbox.made[-1].die(ends[len(sandbox.made) - 1])
        await asyncio.Event().wait()
        return "never"

    execution = await executor(evidence, agent, sandbox=sandbox).execute_task(task("a"))
    assert (execution.attempt, execution.failure_reason) == (2, FailureReason.SECURITY_VIOLATION)


# -- many ---------------------------------------------------------------------------------------


async def test_a_benchmark_in_its_order(evidence: MemoryEvidence) -> None:
    made = executor(evidence, named, given=plan("cab", repeats=2))
    execution = await made.execute_benchmark()
    assert [(t, r) for t, r, _ in attempts(evidence)] == [
        *(("c", 1), ("a", 1), ("b", 1), ("c", 2), ("a", 2), ("b", 2))
    ]
    assert evidence.finished == execution
    assert (execution.status, execution.overall_score) == (ExecutionStatus.COMPLETED, 100.0)
    assert execution.retried_attempts == 0
    assert list(execution.category_executions) == [
        *(BenchmarkCategory.REASONING, BenchmarkCategory.TOOL_USE, BenchmarkCategory.PLANNING)
    ]
    assert kinds(evidence)[0] is EventKind.RUN_STARTED
    assert kinds(evidence)[-1] is EventKind.RUN_FINISHED
    assert evidence.events[0].data == {"total": 6}


async def test_scores_are_means_of_categories(evidence: MemoryEvidence) -> None:
    agent = lambda prompt, _config: "a" if prompt.task_id == "a" else "wrong"  # noqa: E731
    execution = await executor(evidence, agent, given=plan("abcd")).execute_benchmark()
    assert execution.overall_score == 25.0
    assert execution.status is ExecutionStatus.COMPLETED


@pytest.mark.parametrize("parallelism", [1, 2, 3])
async def test_as_many_at_once_as_asked_for(evidence: MemoryEvidence, parallelism: int) -> None:
    sandbox, full = FakeSandbox(), asyncio.Event()

    async def agent(prompt: Prompt, _config: object) -> str:
        if len(sandbox.live) == parallelism:
            full.set()
        await full.wait()
        return prompt.task_id

    given = plan("abcdef", parallelism=parallelism)
    execution = await executor(evidence, agent, sandbox=sandbox, given=given).execute_benchmark()
    assert sandbox.most_at_once == parallelism
    assert len(execution.task_executions) == 6
    assert not sandbox.live


async def test_no_more_at_once_than_the_host_has_cores(evidence: MemoryEvidence) -> None:
    sandbox, two, begun = FakeSandbox(), asyncio.Event(), count(1)

    async def agent(prompt: Prompt, _config: object) -> str:
        if next(begun) == 2:
            two.set()
        await two.wait()
        return prompt.task_id

    given = plan("abcdef", parallelism=6)
    made = executor(evidence, agent, sandbox=sandbox, given=given, cpus=2)
    await made.execute_benchmark()
    assert sandbox.most_at_once == 2


async def test_retries_are_counted_and_spoil_nothing_else(
    evidence: MemoryEvidence, slept: list[float]
) -> None:
    sandbox = FakeSandbox(failures=[EngineFailed("once")])
    execution = await executor(evidence, named, sandbox=sandbox).execute_benchmark()
    assert (execution.retried_attempts, execution.status) == (1, ExecutionStatus.COMPLETED)


async def test_one_task_without_a_verdict_fails_the_run_but_not_the_others(
    evidence: MemoryEvidence, slept: list[float]
) -> None:
    sandbox = FakeSandbox(failures=[EngineFailed(str(n)) for n in range(3)])
    execution = await executor(evidence, named, sandbox=sandbox).execute_benchmark()
    assert execution.status is ExecutionStatus.FAILED
    statuses = [e.status for e in execution.task_executions]
    assert statuses.count(ExecutionStatus.COMPLETED) == 2


# -- what ends a run ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failures", "kept"),
    [
        ([EngineUnavailable("gone")] * 9, 3),
        ([InsufficientResources("small")], 0),
        ([StorageFailed("full")], 0),
    ],
)
async def test_what_the_next_task_would_meet_too_ends_the_run(
    evidence: MemoryEvidence, slept: list[float], failures: list[InfrastructureError], kept: int
) -> None:
    sandbox = FakeSandbox(failures=list(failures))
    with pytest.raises(type(failures[0])):
        await executor(evidence, named, sandbox=sandbox).execute_benchmark()
    assert len(evidence.kept) == kept, "attempts at the task that met it, and at no other"
    assert not evidence.finished, "it is not over"
    assert EventKind.RUN_FINISHED not in kinds(evidence)


async def test_an_engine_that_goes_away_ends_the_tasks_beside(
    evidence: MemoryEvidence, slept: list[float]
) -> None:
    sandbox, waiting = FakeSandbox(), asyncio.Event()

    async def agent(prompt: Prompt, _config: object) -> str:
        if prompt.task_id == "a":
            waiting.set()
            await asyncio.Event().wait()
        await waiting.wait()
        raise EngineUnavailable("gone")

    given = plan("ab", parallelism=2)
    with pytest.raises(EngineUnavailable):
        await executor(evidence, agent, sandbox=sandbox, given=given).execute_benchmark()
    assert not sandbox.live


async def test_evidence_that_cannot_be_written_ends_the_run(evidence: MemoryEvidence) -> None:
    def full(*_: object) -> Path:
        raise StorageFailed("disk full")

    evidence.keep = full  # type: ignore[method-assign]
    with pytest.raises(StorageFailed):
        await executor(evidence, named).execute_benchmark()
    assert not evidence.finished


# -- stopping -----------------------------------------------------------------------------------


async def test_draining_finishes_what_runs_and_begins_nothing(evidence: MemoryEvidence) -> None:
    stop = StopSignal()

    def agent(prompt: Prompt, _config: object) -> str:
        if prompt.task_id == "b":
            assert stop.ask() is Stop.DRAIN
        return prompt.task_id

    made = executor(evidence, agent, stop=stop, given=plan("abcdef"))
    execution = await made.execute_benchmark()
    assert [e.task_id for e in execution.task_executions] == ["a", "b"]
    assert execution.status is ExecutionStatus.CANCELLED
    assert evidence.finished == execution


async def test_stopping_now_leaves_nothing(evidence: MemoryEvidence) -> None:
    stop, sandbox = StopSignal(), FakeSandbox()
    begun: set[str] = set()

    async def agent(prompt: Prompt, _config: object) -> str:
        if prompt.task_id == "a":
            return "a"
        begun.add(prompt.task_id)
        if len(begun) == 2:
            stop.ask()
            assert stop.ask() is Stop.NOW
        await asyncio.Event().wait()
        return "never"

    given = plan("abcdef", parallelism=2)
    execution = await executor(
        evidence, agent, sandbox=sandbox, stop=stop, given=given
    ).execute_benchmark()
    assert [e.task_id for e in execution.task_executions] == ["a"]
    assert execution.status is ExecutionStatus.CANCELLED
    assert not sandbox.live
    assert attempts(evidence) == [("a", 1, 1)]
    assert not list(evidence.root.iterdir())
    assert stop.ask() is Stop.NOW, "asking once more changes nothing"


async def test_a_cancelled_run_is_cancelled(evidence: MemoryEvidence) -> None:
    sandbox, running = FakeSandbox(), asyncio.Event()

    async def agent(_prompt: Prompt, _config: object) -> str:
        running.set()
        await asyncio.Event().wait()
        return "never"

    run = asyncio.create_task(executor(evidence, agent, sandbox=sandbox).execute_benchmark())
    await running.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert not sandbox.live
    assert not evidence.finished


# -- going on ------------------------------------------------------------------------------------


async def test_a_run_goes_on_with_what_has_no_verdict(evidence: MemoryEvidence) -> None:
    given, stop = plan("abc", repeats=2), StopSignal()

    def stopping(prompt: Prompt, _config: object) -> str:
        if prompt.task_id == "b":
            stop.ask()
        return prompt.task_id

    first = await executor(evidence, stopping, given=given, stop=stop).execute_benchmark()
    assert [e.task_id for e in first.task_executions] == ["a", "b"]
    execution = await executor(evidence, named, given=given).execute_benchmark()
    assert execution.status is ExecutionStatus.COMPLETED
    assert evidence.finished == execution
    assert attempts(evidence) == [
        ("a", 1, 1),
        ("b", 1, 1),
        ("c", 1, 1),
        ("a", 2, 1),
        ("b", 2, 1),
        ("c", 2, 1),
    ]
    resumed = next(e for e in evidence.events if e.kind is EventKind.RUN_RESUMED)
    assert resumed.data == {"total": 6, "finished": 2}


async def test_what_has_no_verdict_is_tried_anew(
    evidence: MemoryEvidence, slept: list[float]
) -> None:
    sandbox = FakeSandbox(failures=[InfrastructureError("ours")] * 3)
    given = plan("ab")
    failed = await executor(evidence, named, sandbox=sandbox, given=given).execute_benchmark()
    assert failed.status is ExecutionStatus.FAILED
    execution = await executor(evidence, named, given=given).execute_benchmark()
    assert execution.status is ExecutionStatus.COMPLETED
    assert attempts(evidence) == [("a", 1, 1), ("a", 1, 2), ("a", 1, 3), ("b", 1, 1), ("a", 1, 4)]
    assert [(e.task_id, e.attempt) for e in execution.task_executions] == [("a", 4), ("b", 1)]


class ClosedGate(AlwaysOpen):
    """Closes after one failure."""

    closed = False

    async def enter(self) -> None:
        if self.closed:
            raise Postponed("open", until=datetime.now(UTC))

    async def failed(self, reason: str) -> None:
        self.closed = True


async def test_an_open_breaker_postpones_and_fails_nothing(
    evidence: MemoryEvidence, slept: list[float]
) -> None:
    sandbox = FakeSandbox(failures=[InfrastructureError("ours")])
    made = executor(evidence, named, sandbox=sandbox, gate=ClosedGate())
    with pytest.raises(Postponed):
        await made.execute_benchmark()
    assert attempts(evidence) == [("a", 1, 1)]
    assert not evidence.finished
    execution = await executor(evidence, named).execute_benchmark()
    assert execution.status is ExecutionStatus.COMPLETED


async def test_an_attempt_being_written_is_written_whole(evidence: MemoryEvidence) -> None:
    import threading

    writing, go_on = asyncio.Event(), threading.Event()
    loop, keep = asyncio.get_running_loop(), evidence.keep

    def slow(execution: TaskExecution, reply: Any, staging: Path) -> Path:
        loop.call_soon_threadsafe(writing.set)
        assert go_on.wait(20)
        return keep(execution, reply, staging)

    evidence.keep = slow  # type: ignore[method-assign]
    agent = lambda _prompt, _config: Said(files={"x": b"whole"})  # noqa: E731
    run = asyncio.create_task(executor(evidence, agent).execute_task(task("a")))
    await writing.wait()
    for _ in range(3):
        run.cancel()
        await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert [kept.files for kept in evidence.kept] == [{"x": b"whole"}]


async def test_everybody_hears_of_everything(evidence: MemoryEvidence) -> None:
    heard: list[RunEvent] = []
    await executor(evidence, named, notify=heard.append).execute_benchmark()
    assert heard == evidence.events
    finished = next(event for event in heard if event.kind is EventKind.TASK_FINISHED)
    assert (finished.task_id, finished.repeat, finished.attempt) == ("a", 1, 1)
    assert finished.data["status"] == "completed"
    assert finished.data["score"] == 100.0


# -- one attempt, step by step ------------------------------------------------------------------


async def made_by(sandbox: FakeSandbox, agent: Any, directory: Path) -> Any:
    prompt = Prompt(task_id="t", text="?")
    transport = FakeTransport(agent)
    return await attempt(prompt, {}, FAKE_IMAGE, Limits(), sandbox, transport, directory)


async def test_the_agent_is_frozen_measured_and_killed_before_anything_is_believed(
    tmp_path: Path,
) -> None:
    sandbox = FakeSandbox()
    made = await made_by(sandbox, named, tmp_path)
    assert sandbox.made[0].happened == ["baseline", "frozen", "measured", "killed", "thawed"]
    assert made.measurement.memory_peak_bytes == 1024 * 1024
    assert made.sandbox.applied == {"network": "disabled", "kernel_loopback_only": True}
    assert [stage.name for stage in made.stages] == [
        *("create", "hello", "ask", "measure", "stop", "collect", "remove")
    ]


async def test_nothing_is_collected_from_a_container_that_has_ended(tmp_path: Path) -> None:
    sandbox = FakeSandbox()

    async def agent(_prompt: Prompt, _config: object) -> str:
        session: FakeSession = sandbox.made[0]
        session.die(ContainerEnd(exit_code=3, diagnostics="oops"))
        await asyncio.Event().wait()
        return "never"

    made = await made_by(sandbox, agent, tmp_path)
    assert made.reply.ending.kind is EndingKind.SANDBOX_ENDED
    assert made.container_end == ContainerEnd(exit_code=3, diagnostics="oops")
    assert made.artifacts == ()
    assert made.agent_confirmed_dead
