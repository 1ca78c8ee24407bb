"""What earlier runs used, attempt by attempt: what a forecast rests on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runner.domain.execution import TaskExecution
from runner.domain.submission import BenchmarkSubmission
from runner.domain.task import BenchmarkTask, Suite
from runner.errors import StorageFailed
from runner.records import layout
from runner.records.archive import load_lock, load_result, load_run_submission
from runner.records.attempts import directories, final_executions
from runner.records.reuse import is_original
from runner.records.run_directory import RunLock

BLOCK_BYTES = 512
RECENT_RUNS = 100
"""Of the agent, and as many of others: what was long ago says less, and takes time to read."""

TaskKey = tuple[str, str, str]
"""Suite, task and the task's version: equal ones ask the same of an agent."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What one earlier attempt used."""

    run_id: str
    agent: str
    """What tells apart agents: name and submitter."""
    same_agent: bool
    """As the one whose run is forecast."""
    task: TaskKey
    tokens_input: int
    tokens_output: int
    cost_usd: float | None
    """None: unknown, which is not zero."""
    seconds: float
    """For which its container was there; for an agent behind a URL, how long it took."""
    disk_bytes: int
    """Of its evidence, with its share in what belongs to the whole run."""


@dataclass(frozen=True, kw_only=True)
class AgentIdentity:
    """By what an agent is known again: any of these, where both sides have it."""

    name: str
    submitted_by: str = ""
    image_id: str = ""
    content_digest: str = ""

    def made(self, lock: RunLock, submitted_by: str) -> bool:
        """Whether the run is this agent's: the same content, or a version of the same name by the
        same submitter.
        """
        if self.image_id and self.image_id == lock.image_id:
            return True
        if self.content_digest and self.content_digest == lock.content_digest:
            return True
        return (self.name, self.submitted_by) == (lock.agent_name, submitted_by)


@dataclass(frozen=True, kw_only=True)
class History:
    """Samples, in the order of their runs and tasks."""

    samples: tuple[Sample, ...] = ()
    left_out: int = field(default=0)
    """Attempts that say nothing of what a run uses: without a verdict, reused, replayed, or
    answered by a cache."""


def identity_of(submission: BenchmarkSubmission) -> AgentIdentity:
    """Of a submission whose image was not made yet."""
    return AgentIdentity(name=submission.agent_name, submitted_by=submission.submitted_by)


def task_key(suite: str, task: BenchmarkTask) -> TaskKey:
    """Under which samples of that task are found."""
    return suite, task.task_id, task.version


def load_history(
    root: Path, agent: AgentIdentity, suite: Suite, tasks: Sequence[BenchmarkTask]
) -> History:
    """What is known of `agent`, and of other agents on `tasks`, from all runs below `root`."""
    runs = (run for run in directories(root) if layout.is_safe_name(run.name))
    return history_of(runs, agent, {task_key(suite.name, task) for task in tasks})


def history_of(
    runs: Iterable[Path], agent: AgentIdentity, tasks: Iterable[TaskKey] = ()
) -> History:
    """The same from the newest of these runs; of other agents, their attempts at `tasks` alone."""
    samples: list[Sample] = []
    left_out = 0
    for reader in _recent(runs, agent, frozenset(tasks)):
        for execution in _finals(reader):
            if is_original(execution):
                samples.append(reader.sample(execution))
            else:
                left_out += 1
    samples.sort(key=lambda each: (each.run_id, each.task))
    return History(samples=tuple(samples), left_out=left_out)


def _recent(
    runs: Iterable[Path], agent: AgentIdentity, wanted: frozenset[TaskKey]
) -> Iterator[_Reader]:
    """The newest runs that say something; their names sort by time."""
    left = {True: RECENT_RUNS, False: RECENT_RUNS}
    for run in sorted(runs, reverse=True):
        lock = load_lock(run)
        if lock is None or lock.replay_of or not any(left.values()):
            continue
        reader = _reader(run, lock, agent, wanted)
        if reader.keys and left[reader.same_agent]:
            left[reader.same_agent] -= 1
            yield reader


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """One run, and which of its tasks say something."""

    run: Path
    lock: RunLock
    agent: str
    same_agent: bool
    keys: dict[str, TaskKey]
    """By task id; those that say something."""
    shared_bytes: int
    """Of each attempt: its share in the files of the run itself."""

    def sample(self, execution: TaskExecution) -> Sample:
        """What that attempt used."""
        usage = execution.resource_usage
        kept = layout.attempt_path(self.run, execution.task_id, execution.repeat, execution.attempt)
        return Sample(
            run_id=self.lock.run_id,
            agent=self.agent,
            same_agent=self.same_agent,
            task=self.keys[execution.task_id],
            tokens_input=usage.tokens_input,
            tokens_output=usage.tokens_output,
            cost_usd=self._cost(execution),
            seconds=max(0.0, (execution.finished_at - execution.started_at).total_seconds()),
            disk_bytes=_tree_bytes(kept) + self.shared_bytes,
        )

    def _cost(self, execution: TaskExecution) -> float | None:
        """A sandboxed agent that called no model cost nothing; of a remote one nobody knows."""
        cost = execution.resource_usage.cost_usd
        sandboxed = bool(self.lock.image_id)
        sent = any(call.token_source for call in execution.model_calls)
        return 0.0 if cost is None and sandboxed and not sent else cost


def _reader(run: Path, lock: RunLock, agent: AgentIdentity, wanted: frozenset[TaskKey]) -> _Reader:
    submitted_by = _submitted_by(run)
    same = agent.made(lock, submitted_by)
    keys = {t.task_id: (lock.suite_name, t.task_id, t.version) for t in lock.task_order}
    attempts = max(1, len(lock.task_order) * lock.repeats)
    return _Reader(
        run=run,
        lock=lock,
        agent=f"{lock.agent_name}\0{submitted_by}",
        same_agent=same,
        keys={name: key for name, key in keys.items() if same or key in wanted},
        shared_bytes=_files_bytes(run) // attempts,
    )


def _finals(reader: _Reader) -> Iterator[TaskExecution]:
    """The last attempt of each task and repeat that says something."""
    result = load_result(reader.run)
    for execution in result.task_executions if result else final_executions(reader.run):
        if execution.task_id in reader.keys:
            yield execution


def _submitted_by(run: Path) -> str:
    try:
        return load_run_submission(run).submitted_by
    except StorageFailed:
        return ""


# -- on the disk ---------------------------------------------------------------------------------


def _files_bytes(directory: Path) -> int:
    """What the files of a directory itself take, in blocks; links are not followed."""
    try:
        with os.scandir(directory) as entries:
            files = [each for each in entries if each.is_file(follow_symlinks=False)]
            return sum(_blocks(each) for each in files)
    except OSError:
        return 0


def _tree_bytes(top: Path) -> int:
    """The same with all that is below."""
    return sum(_files_bytes(Path(directory)) for directory, _, _ in os.walk(top))


def _blocks(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_blocks * BLOCK_BYTES
    except OSError:
        return 0
