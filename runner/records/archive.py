"""Reads run directories: what is finished, what is under way, and what a crash left."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Container, Iterator, Set
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from runner.domain.execution import BenchmarkExecution, ExecutionStatus, TaskExecution
from runner.domain.run import EventKind, LoadedRun, RecordedAttempt, RunEvent, RunSummary
from runner.domain.submission import BenchmarkSubmission
from runner.errors import StorageFailed, UsageError
from runner.records import layout
from runner.records.attempts import directories
from runner.records.run_directory import RunLock

N = TypeVar("N", bound=BaseModel)


def list_runs(root: Path) -> list[RunSummary]:
    """Every run below `root`, oldest first; a damaged one is listed with a note."""
    return [_summary(path, *_read_run(path)) for path in _run_paths(root)]


def load_run(root: Path, run_id_or_unique_prefix: str) -> LoadedRun:
    """All that is there of one run; raises UsageError when no run or several match."""
    path = find_run(root, run_id_or_unique_prefix)
    execution, lock, notes = _read_run(path)
    return LoadedRun(
        summary=_summary(path, execution, lock, notes),
        execution=execution,
        attempts=tuple(load_attempts(path)),
        events=tuple(_events(path)),
    )


def find_run(root: Path, run_id_or_unique_prefix: str) -> Path:
    """The directory of that run; raises UsageError when no run or several match."""
    wanted = run_id_or_unique_prefix
    paths = [path for path in _run_paths(root) if wanted and path.name.startswith(wanted)]
    exact = [path for path in paths if path.name == wanted]
    if len(exact or paths) == 1:
        return (exact or paths)[0]
    if not paths:
        raise UsageError(
            f"there is no run {wanted!r} in {root}", remedy="`agenttrace runs list` has them all"
        )
    names = ", ".join(path.name for path in paths[:3])
    raise UsageError(
        f"{len(paths)} runs start with {wanted!r}: {names}{', ...' if len(paths) > 3 else ''}",
        remedy="give more of the id",
    )


def load_attempts(run: Path, task_id: str | None = None) -> list[RecordedAttempt]:
    """The attempts of a run, or of one of its tasks, by task, repeat and attempt."""
    return [_attempt(*each) for each in sorted(_kept(run)) if task_id in (None, each[0])]


def unknown_attempts(
    run: Path, known: Container[tuple[str, int, int]]
) -> Iterator[RecordedAttempt]:
    """The attempts of a run but those whose task, repeat and attempt are `known`: these are not
    even read.
    """
    for task_id, repeat, attempt, path in sorted(_kept(run)):
        if (task_id, repeat, attempt) not in known:
            yield _attempt(task_id, repeat, attempt, path)


def _kept(run: Path) -> Iterator[tuple[str, int, int, Path]]:
    """Task, repeat and attempt of each that is there, and where."""
    for task in directories(run / layout.TASKS):
        for path in directories(task):
            if numbers := layout.parse_attempt(path.name):
                yield task.name, *numbers, path


def trace_path(
    run: Path, task_id: str, repeat: int | None = None, attempt: int | None = None
) -> Path:
    """The trace of an attempt, which is chosen as in `find_attempt`."""
    return find_attempt(run, task_id, repeat, attempt).path / layout.TRACE


def find_attempt(
    run: Path, task_id: str, repeat: int | None = None, attempt: int | None = None
) -> RecordedAttempt:
    """An attempt; unless given, of the first repeat and its last attempt.

    Raises UsageError when the run has no such attempt.
    """
    attempts = load_attempts(run, task_id)
    wanted_repeat = repeat or min((each.repeat for each in attempts), default=1)
    fitting = [
        each
        for each in attempts
        if each.repeat == wanted_repeat and attempt in (None, each.attempt)
    ]
    if not fitting:
        raise UsageError(
            f"run {run.name} has no such attempt at task {task_id!r}",
            remedy=f"`agenttrace runs show {run.name}` lists them",
        )
    return fitting[-1]


def load_result(run: Path) -> BenchmarkExecution | None:
    """The result of a run that is over; None where there is none, or it is damaged."""
    return _read(run / layout.EXECUTION, BenchmarkExecution, [])


def load_lock(run: Path) -> RunLock | None:
    """What pins a run; None where it is missing or damaged."""
    return _read(run / layout.LOCK, RunLock, [])


def unindexed_results(root: Path, known: Set[str]) -> Iterator[tuple[Path, BenchmarkExecution]]:
    """Runs below `root` that are over and whose id is not `known`; damaged ones are left out."""
    for path in _run_paths(root):
        if path.name not in known and not is_running(path):
            execution = load_result(path)
            if execution is not None and execution.run_id == path.name:
                yield path, execution


def load_run_submission(run: Path) -> BenchmarkSubmission:
    """What a run evaluates, without its credentials; raises StorageFailed."""
    notes: list[str] = []
    submission = _read(run / layout.SUBMISSION, BenchmarkSubmission, notes)
    if submission is None:
        note = "; ".join(notes) or f"{run / layout.SUBMISSION} is missing"
        raise StorageFailed(note, remedy="start a new run; this one cannot be gone on with")
    return submission


# -- one run -------------------------------------------------------------------------------------


def _read_run(path: Path) -> tuple[BenchmarkExecution | None, RunLock | None, list[str]]:
    notes: list[str] = []
    execution = _read(path / layout.EXECUTION, BenchmarkExecution, notes)
    lock = _read(path / layout.LOCK, RunLock, notes)
    if lock is None and execution is None:
        notes.append(f"{path / layout.LOCK} is missing: the run was stopped before it began")
    return execution, lock, notes


def _summary(
    path: Path, execution: BenchmarkExecution | None, lock: RunLock | None, notes: list[str]
) -> RunSummary:
    running = is_running(path)
    if execution is not None and not running:
        return _finished(path, execution, lock, notes)
    if not running:
        notes = [*notes, f"not finished: its runner ended before the run did{_going_on(lock)}"]
    return _unfinished(path, lock, running=running, notes=notes)


def _finished(
    path: Path, execution: BenchmarkExecution, lock: RunLock | None, notes: list[str]
) -> RunSummary:
    tasks = len(execution.task_executions)
    if lock and execution.status is ExecutionStatus.CANCELLED and not lock.replay_of:
        command = "queue retry" if lock.queued else "resume"
        notes = [*notes, f"`agenttrace {command} {path.name}` goes on with it"]
    return RunSummary(
        run_id=execution.run_id,
        path=path,
        status=execution.status,
        agent_name=execution.agent_name,
        agent_version=execution.agent_version,
        suite_name=execution.suite_name,
        suite_version=execution.suite_version,
        started_at=execution.started_at,
        finished_at=execution.finished_at,
        tasks_total=_planned(lock) or tasks,
        tasks_finished=tasks,
        score=execution.overall_score,
        replay_of=execution.replay_of,
        notes=tuple(notes),
    )


def _going_on(lock: RunLock | None) -> str:
    """Who goes on with a run that is not finished; nobody can without its lock."""
    if lock is None or lock.replay_of:
        return ""
    who = "a worker" if lock.queued else f"`agenttrace resume {lock.run_id}`"
    return f"; {who} goes on with it"


def _unfinished(path: Path, lock: RunLock | None, *, running: bool, notes: list[str]) -> RunSummary:
    events = list(_events(path))
    finished = {
        (event.task_id, event.repeat) for event in events if event.kind is EventKind.TASK_FINISHED
    }
    return RunSummary(
        run_id=path.name,
        path=path,
        status=ExecutionStatus.RUNNING if running else ExecutionStatus.FAILED,
        agent_name=lock.agent_name if lock else "",
        agent_version=lock.agent_version if lock else "",
        suite_name=lock.suite_name if lock else "",
        suite_version=lock.suite_version if lock else "",
        started_at=events[0].at if events else None,
        tasks_total=_planned(lock),
        tasks_finished=len(finished),
        replay_of=lock.replay_of if lock else "",
        notes=tuple(notes),
    )


def _planned(lock: RunLock | None) -> int:
    """Tasks times repeats; 0 where nobody knows."""
    return len(lock.task_order) * lock.repeats if lock else 0


def is_running(run: Path) -> bool:
    """Whether a runner holds the event log; see `RunDirectory`."""
    try:
        handle = os.open(run / layout.EVENTS, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _events(run: Path) -> Iterator[RunEvent]:
    """Those that can be read: a crash may have torn a line, and no result rests on it."""
    try:
        lines = (run / layout.EVENTS).read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        try:
            yield RunEvent.model_validate_json(line)
        except ValidationError:
            continue


# -- one attempt, one file -----------------------------------------------------------------------


def _attempt(task_id: str, repeat: int, attempt: int, path: Path) -> RecordedAttempt:
    notes: list[str] = []
    execution = _read(path / layout.EXECUTION, TaskExecution, notes)
    if execution is None and not notes:
        notes.append(f"{path / layout.EXECUTION} is missing")
    return RecordedAttempt(
        path=path,
        task_id=task_id,
        repeat=repeat,
        attempt=attempt,
        execution=execution,
        note="; ".join(notes),
    )


def _read(path: Path, noun: type[N], notes: list[str]) -> N | None:
    """The noun in a file; None where it is missing or, with a note, where it cannot be read."""
    try:
        return noun.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole file"
        notes.append(f"{path} is damaged at {where}: {first['msg']}")
    except OSError as error:
        notes.append(f"{path} cannot be read: {(error.strerror or str(error)).lower()}")
    return None


def _run_paths(root: Path) -> list[Path]:
    return [path for path in directories(root) if layout.is_safe_name(path.name)]
