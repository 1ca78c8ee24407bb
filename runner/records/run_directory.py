"""Writes a run directory: whole attempts or none, and never over what is there."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import secrets
import shutil
import threading
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field

from runner.domain import BenchmarkExecution, BenchmarkSubmission, Reply, RunEvent, RunPlan
from runner.domain.base import Noun
from runner.domain.execution import TaskExecution
from runner.domain.limits import LimitOverrides, Limits
from runner.domain.trace import trace_id_of
from runner.errors import LeaseLost, StorageFailed, UsageError
from runner.records import layout
from runner.records.attempts import attempts_at, final_executions
from runner.records.call_texts import CallTexts
from runner.records.durable import (
    json_bytes,
    model_bytes,
    replace_synced,
    storing,
    sync_directory,
    sync_file,
    sync_tree,
    write_synced,
)
from runner.records.exchanges import read_exchanges
from runner.records.otlp import TracedAgent, trace_lines
from runner.records.snapshot import runner_version

_log = logging.getLogger(__name__)


class LockedTask(Noun):
    """A task as it was when it was run."""

    task_id: str
    version: str
    category: str
    limits: LimitOverrides = LimitOverrides()
    """The task's own and the command line's, together."""
    token_budget: int | None = None
    cost_budget_usd: float | None = None


class RunLock(Noun):
    """What pins a run (`lock.json`): enough to make it again, and to say what made it."""

    run_id: str
    submission_id: str
    agent_name: str
    agent_version: str
    runner_version: str
    suite_name: str
    suite_version: str
    suite_digest: str
    suite_source: str = ""
    """The name or directory that it is found by."""
    image_id: str = ""
    """Empty where the agent is behind a URL."""
    image_reference: str = ""
    content_digest: str = ""
    seed: int
    repeats: int
    parallelism: int
    limits: Limits
    task_order: tuple[LockedTask, ...]
    started_at: str
    environment: dict[str, Any] = Field(default_factory=dict)
    replay_of: str = ""
    queued: bool = False


class RunDirectory:
    """`runs/<run_id>/`, as the `Evidence` port promises.

    While a run is under way its `events.jsonl` is locked, so that a reader can tell a run that goes
    on from one whose runner was killed, and a second runner is refused.
    """

    def __init__(self, root: Path, run_id: str, *, trace_messages: bool = True) -> None:
        self._root = root
        self._trace_messages = trace_messages
        self.path = layout.run_path(root, run_id)
        self._staging = self.path / layout.STAGING
        self._events: int | None = None
        self._finished = False
        self._numbers: dict[tuple[str, int], int] = {}
        self._numbering = threading.Lock()

    def begin(self, plan: RunPlan) -> Path:
        """Makes the run's directory and writes what was asked; raises StorageFailed."""
        with storing(self.path):
            self._root.mkdir(parents=True, exist_ok=True)
            self.path.mkdir()
            try:
                self._write_plan(plan)
            except OSError:
                self.close()
                shutil.rmtree(self.path, ignore_errors=True)
                raise
        return self.path

    def resume(self) -> RunLock:
        """Opens a run that an earlier runner left; raises UsageError while one is at it."""
        with storing(self.path):
            try:
                self._open_events()
            except BlockingIOError:
                raise UsageError(
                    f"run {self.path.name} is under way",
                    remedy=f"`agenttrace runs watch {self.path.name}` follows it",
                ) from None
            self._clear_staging()
        return self._lock

    def take_over(self) -> RunLock:
        """The same for a runner that may still live, but has lost the right to this run.

        It keeps its lock, of a file that has no name any more: what it writes there is lost, and
        it may not `finish`.
        """
        with storing(self.path):
            events, aside = self.path / layout.EVENTS, self.path / f".{layout.EVENTS}.new"
            aside.write_bytes(events.read_bytes() if events.exists() else b"")
            aside.rename(events)
            self._open_events()
            self._clear_staging()
        return self._lock

    def _clear_staging(self) -> None:
        shutil.rmtree(self._staging, ignore_errors=True)
        self._staging.mkdir(exist_ok=True)

    def begin_attempt(self, task_id: str, repeat: int) -> int:
        """See ports.Evidence."""
        with self._numbering:
            number = 1 + self._numbers.get((task_id, repeat), self._last_kept(task_id, repeat))
            self._numbers[task_id, repeat] = number
            return number

    def _last_kept(self, task_id: str, repeat: int) -> int:
        numbers = (attempt for which, attempt in attempts_at(self.path, task_id) if which == repeat)
        return max(numbers, default=0)

    def judged(self) -> frozenset[tuple[str, int]]:
        """See ports.Evidence."""
        finals = final_executions(self.path)
        return frozenset((e.task_id, e.repeat) for e in finals if e.has_verdict)

    def finals(self) -> list[TaskExecution]:
        """See ports.Evidence; an attempt whose record is damaged counts as not made."""
        return list(final_executions(self.path))

    def staging(self) -> Path:
        """A new empty directory for the artifacts of an attempt; raises StorageFailed."""
        artifacts = self._staging / secrets.token_hex(8) / layout.ARTIFACTS
        with storing(artifacts):
            artifacts.mkdir(parents=True)
        return artifacts

    def keep(self, execution: TaskExecution, reply: Reply | None, staging: Path) -> Path:
        """Writes one attempt, fsyncs it and renames it into place; raises StorageFailed.

        `staging` came from `staging()` and is used up, whatever happens. Blocks on the disk.
        """
        aside = self._aside(staging)
        try:
            with storing(aside):
                return self._keep(_with_trace_id(execution), reply, aside)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def event(self, event: RunEvent) -> None:
        """Appends to events.jsonl. Never raises: attempts are the evidence, events only its index,
        and a disk that is full fails the next `keep`.
        """
        try:
            os.write(self._open_events(), model_bytes(event) + b"\n")
        except OSError as error:
            _log.warning("cannot append to %s: %s", self.path / layout.EVENTS, error.strerror)
        finally:
            if self._finished:  # the last event comes after the result
                self.close()

    def finish(self, execution: BenchmarkExecution) -> None:
        """Writes the run's own execution.json; raises LeaseLost, StorageFailed."""
        self._finished = True
        try:
            with storing(self.path / layout.EXECUTION):
                events = self._open_events()
                if not os.fstat(events).st_nlink:
                    raise LeaseLost(f"run {self.path.name} was taken over by another runner")
                os.fsync(events)
                data = model_bytes(execution, indent=2)
                replace_synced(self.path / layout.EXECUTION, data)
        finally:
            self.close()

    def close(self) -> None:
        """Ends the run for readers and removes what was staged and never kept; may be repeated.

        Nothing is removed by one that was refused: what is staged is the other runner's.
        """
        if self._events is not None:
            shutil.rmtree(self._staging, ignore_errors=True)
            os.close(self._events)
            self._events = None

    def _write_plan(self, plan: RunPlan) -> None:
        self._open_events()
        (self.path / layout.TASKS).mkdir()
        self._staging.mkdir()
        write_synced(self.path / layout.SUBMISSION, _submission_json(plan.submission))
        write_synced(self.path / layout.CONFIG, json_bytes(_config(plan), indent=2))
        write_synced(self.path / layout.LOCK, model_bytes(_lock(plan), indent=2))
        sync_directory(self.path)
        sync_directory(self._root)

    # -- one attempt ---------------------------------------------------------------------------

    def _aside(self, staging: Path) -> Path:
        if staging.parent.parent != self._staging:
            raise StorageFailed(f"{staging} is no staging directory of {self.path}")
        return staging.parent

    def _keep(self, execution: TaskExecution, reply: Reply | None, aside: Path) -> Path:
        target = layout.attempt_path(
            self.path, execution.task_id, execution.repeat, execution.attempt
        )
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        if not target.parent.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            sync_directory(target.parent.parent)
        _write_attempt(aside, execution, reply, self._trace(execution, reply, aside))
        sync_file(self.path / layout.SPENDING)  # no power cut takes its calls off the books
        aside.rename(target)  # an attempt is never empty, so rename refuses to replace one
        sync_directory(target.parent)
        return target

    def _trace(self, execution: TaskExecution, reply: Reply | None, aside: Path) -> bytes:
        exchanges = aside / layout.EXCHANGES
        texts = CallTexts(read_exchanges(exchanges)) if self._trace_messages else None
        return trace_lines(execution, reply, self._agent, texts)

    @property
    def _agent(self) -> TracedAgent:
        """Whose run it is: from the lock, so that a run can also be gone on with."""
        return TracedAgent(
            name=self._lock.agent_name,
            version=self._lock.agent_version,
            runner_version=runner_version(),
        )

    @cached_property
    def _lock(self) -> RunLock:
        path = self.path / layout.LOCK
        try:
            return RunLock.model_validate_json(path.read_bytes())
        except (OSError, ValueError) as error:
            what = "missing" if isinstance(error, FileNotFoundError) else "damaged"
            raise StorageFailed(
                f"{path} is {what}", remedy="start a new run; this one cannot be gone on with"
            ) from error

    def _open_events(self) -> int:
        """The event log, locked; raises OSError."""
        if self._events is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            handle = os.open(self.path / layout.EVENTS, flags, 0o644)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _end_torn_line(handle)
            except OSError:
                os.close(handle)
                raise
            self._events = handle
        return self._events


def _with_trace_id(execution: TaskExecution) -> TaskExecution:
    if execution.trace_id:
        return execution
    trace_id = trace_id_of(execution.run_id, execution.task_id, execution.repeat, execution.attempt)
    return execution.model_copy(update={"trace_id": trace_id})


def _write_attempt(
    aside: Path, execution: TaskExecution, reply: Reply | None, trace: bytes
) -> None:
    if any((aside / layout.ARTIFACTS).iterdir()):
        sync_tree(aside / layout.ARTIFACTS)
    sync_file(aside / layout.EXCHANGES)
    write_synced(aside / layout.EXECUTION, model_bytes(execution, indent=2))
    write_synced(aside / layout.TRACE, trace)
    write_synced(aside / layout.STDOUT, reply.stdout if reply else b"")
    write_synced(aside / layout.STDERR, reply.stderr if reply else b"")
    sync_directory(aside)


def _end_torn_line(handle: int) -> None:
    """A runner that was killed may have left half a line; what follows gets a line of its own."""
    size = os.fstat(handle).st_size
    if size and os.pread(handle, 1, size - 1) != b"\n":
        os.write(handle, b"\n")


# -- what was asked ------------------------------------------------------------------------------


def _submission_json(submission: BenchmarkSubmission) -> bytes:
    """The submission without secrets: no credentials, and no user or query in its URL."""
    asked = submission.model_dump(mode="json", exclude={"agent_endpoint": {"auth_credentials"}})
    if submission.agent_endpoint.url:
        asked["agent_endpoint"]["url"] = _without_secrets(submission.agent_endpoint.url)
    return json_bytes(asked, indent=2)


def _without_secrets(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(not a URL)"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _config(plan: RunPlan) -> dict[str, Any]:
    return {
        "settings": plan.settings,
        "limits": plan.limits.model_dump(mode="json"),
        "repeats": plan.repeats,
        "parallelism": plan.parallelism,
        "interface": plan.image.interface.model_dump(mode="json") if plan.image else None,
    }


def _lock(plan: RunPlan) -> RunLock:
    """Names of tasks and digests alone: neither prompts nor answer keys are copied into a run."""
    order = (
        LockedTask(
            task_id=task.task_id,
            version=task.version,
            category=task.category,
            limits=task.limits,
            token_budget=task.token_budget,
            cost_budget_usd=task.cost_budget_usd,
        )
        for task in plan.tasks
    )
    return RunLock(
        run_id=plan.run_id,
        submission_id=plan.submission.submission_id,
        agent_name=plan.submission.agent_name,
        agent_version=plan.submission.agent_version,
        runner_version=plan.runner_version or runner_version(),
        suite_name=plan.suite.name,
        suite_version=plan.suite.version,
        suite_digest=plan.suite.digest,
        suite_source=plan.suite_source,
        image_id=plan.image.image_id if plan.image else "",
        image_reference=plan.image.reference if plan.image else "",
        content_digest=plan.image.content_digest if plan.image else "",
        seed=plan.seed,
        repeats=plan.repeats,
        parallelism=plan.parallelism,
        limits=plan.limits,
        task_order=tuple(order),
        started_at=plan.started_at.isoformat(),
        environment=plan.environment,
        replay_of=plan.replay_of,
        queued=plan.queued,
    )
