"""A run is run again against its own recording: same image, no model, no tool, no key."""

from __future__ import annotations

import asyncio
import fnmatch
import secrets
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from runner.bootstrap.begun_with import replay_settings
from runner.bootstrap.host import host_for
from runner.bootstrap.planning import plan_again
from runner.bootstrap.running import executed, interruptible
from runner.config import Settings
from runner.domain import (
    EXCHANGES,
    BenchmarkExecution,
    BenchmarkTask,
    Divergence,
    RecordedAttempt,
    RunPlan,
    TaskExecution,
)
from runner.errors import UsageError
from runner.ports import Notify, Say
from runner.records import RunDirectory, find_run, load_attempts, new_run_id
from runner.records.archive import load_lock, load_run_submission
from runner.records.verifier import ReproducibilityVerifier, Tolerances

WHAT_COUNTS = Tolerances(figures={}, ignore=frozenset({"cost_usd"}))
"""A replay waits for no model, and prices change: neither is the agent's doing."""

Originals = dict[tuple[str, int], RecordedAttempt]
"""The final attempt of each task and repeat, by these."""


@dataclass(frozen=True, kw_only=True)
class ReplayedTask:
    """One task beside its replay."""

    original: TaskExecution
    replayed: TaskExecution
    differences: tuple[str, ...]
    """One line each; times, memory and cost are not among them."""

    @property
    def identical(self) -> bool:
        """Whether the replay asked the same, answered the same and was judged the same."""
        return not self.differences and self.divergence is None

    @property
    def divergence(self) -> Divergence | None:
        """The first request of the replay that the recording does not have."""
        return self.replayed.divergence


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What came of a replay."""

    tasks: tuple[ReplayedTask, ...]
    execution: BenchmarkExecution
    path: Path
    """The replay's own run directory."""


def side_by_side(divergence: Divergence, width: int) -> list[tuple[str, str]]:
    """The recorded request and the replay's, in lines of `width`; hostile text is escaped."""
    from runner.gateway import differences  # noqa: PLC0415 - shown only where one diverged

    return differences.side_by_side(divergence, width)


def replay(
    settings: Settings,
    run_id: str,
    tasks: Sequence[str] = (),
    observers: Sequence[Notify] = (),
    say: Say = lambda _: None,
) -> Replay:
    """Runs the tasks of a run that match a pattern of `tasks` again, against what it recorded.

    `run_id` may be a unique prefix. Raises RunnerError; UsageError for a run that cannot be
    replayed.
    """
    return asyncio.run(_replay(settings, run_id, tasks, observers, say))


async def _replay(
    settings: Settings,
    run_id: str,
    patterns: Sequence[str],
    observers: Sequence[Notify],
    say: Say,
) -> Replay:
    path = find_run(settings.storage.runs_dir.expanduser(), run_id)
    originals = _originals(path)
    submission = load_run_submission(path)
    if submission.agent_endpoint.remote:
        raise UsageError(
            f"run {path.name} asked an agent behind a URL, which no recording can stand in for",
            remedy="replay a run of a submission that is run here",
        )
    lock = load_lock(path)
    if lock is None:
        raise UsageError(
            f"run {path.name} has no lock.json, or a damaged one", remedy="replay another run"
        )
    settings = replay_settings(settings, path)
    async with host_for(settings, submission) as host:
        again = await interruptible(plan_again(settings, host, lock, submission, say))
        plan = _plan_of_replay(again, originals, patterns)
        _check_recorded(plan, originals)
        evidence = RunDirectory(
            path.parent, plan.run_id, trace_messages=settings.gateway.trace_messages
        )
        evidence.begin(plan)
        with closing(evidence):
            execution, where = await executed(
                settings,
                host,
                plan,
                evidence,
                observers,
                recordings=recorded_in(originals),
            )
    return Replay(tasks=_compared(originals, execution), execution=execution, path=where)


def _originals(path: Path) -> Originals:
    """Those that can be read; raises UsageError where there is none with a verdict."""
    kept = {(a.task_id, a.repeat): a for a in load_attempts(path) if a.execution}
    judged = {which: a for which, a in kept.items() if a.execution and a.execution.has_verdict}
    if not judged:
        raise UsageError(
            f"run {path.name} has no finished attempt", remedy="replay a run that has ended"
        )
    return judged


def recorded_in(originals: Originals) -> dict[tuple[str, int], Path]:
    """Where the exchanges of each attempt are; the file is missing where it had none."""
    return {which: attempt.path / EXCHANGES for which, attempt in originals.items()}


def _plan_of_replay(again: RunPlan, originals: Originals, patterns: Sequence[str]) -> RunPlan:
    tasks = tuple(task for task in again.tasks if _asked_for(task, originals, patterns))
    if not tasks:
        raise UsageError(
            "no finished task of the run is asked for",
            remedy=f"`agenttrace runs show {again.run_id}` lists them",
        )
    now = datetime.now(UTC)
    return again.model_copy(
        update={
            "run_id": new_run_id(now, secrets.token_bytes(3)),
            "tasks": tasks,
            "started_at": now,
            "replay_of": again.run_id,
            "queued": False,
        }
    )


def _asked_for(task: BenchmarkTask, originals: Originals, patterns: Sequence[str]) -> bool:
    finished = any(task_id == task.task_id for task_id, _ in originals)
    fits = not patterns or any(fnmatch.fnmatchcase(task.task_id, each) for each in patterns)
    return finished and fits


def _check_recorded(plan: RunPlan, originals: Originals) -> None:
    """Raises UsageError where models or tools answered, and nobody wrote down what."""
    for task in plan.tasks:
        for repeat in range(1, plan.repeats + 1):
            original = originals.get((task.task_id, repeat))
            if original and original.execution and _lacks_recording(original):
                raise _not_recorded(original.execution)


def _lacks_recording(attempt: RecordedAttempt) -> bool:
    execution = attempt.execution
    if execution is None or (attempt.path / EXCHANGES).exists():
        return False
    models, tools = execution.model_calls, execution.tool_calls
    return not all(call.refused for call in models) or not all(call.refused for call in tools)


def _not_recorded(execution: TaskExecution) -> UsageError:
    told = f"the calls of {execution.task_id} were not recorded in run {execution.run_id}"
    if execution.reused_from:
        return UsageError(
            f"{told}: its result is that of run {execution.reused_from}",
            remedy=f"`agenttrace replay {execution.reused_from}` replays that one",
        )
    return UsageError(
        f"{told} (gateway.record was off)",
        remedy="run it again with gateway.record = true, or name other tasks with --task",
    )


def _compared(originals: Originals, execution: BenchmarkExecution) -> tuple[ReplayedTask, ...]:
    verifier = ReproducibilityVerifier(WHAT_COUNTS)
    pairs = (
        (originals[e.task_id, e.repeat].execution, e)
        for e in execution.task_executions
        if (e.task_id, e.repeat) in originals
    )
    return tuple(
        ReplayedTask(
            original=original,
            replayed=replayed,
            differences=tuple(verifier.verify_executions_match(original, replayed)[1]),
        )
        for original, replayed in pairs
        if original
    )
