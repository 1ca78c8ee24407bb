"""Every extension point, one small Protocol each, documented as promises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Protocol

from runner.domain import (
    AnswerKey,
    Artifact,
    BenchmarkExecution,
    BenchmarkSubmission,
    ContainerEnd,
    Ending,
    Image,
    Limits,
    Measurement,
    Prompt,
    Reply,
    RunEvent,
    RunPlan,
    SandboxFacts,
    Score,
    Suite,
    TaskExecution,
)

Say = Callable[[str], None]
"""Receives one line of progress, in our words, for a person."""

Notify = Callable[[RunEvent], None]
"""Receives each event of a run as it happens; must not block and must not raise."""


class SuiteCatalog(Protocol):
    """Where tasks come from."""

    def load(self, name: str) -> Suite:
        """The suite of that name or in that directory; raises InvalidSuite, UsageError."""
        ...

    def names(self) -> list[str]:
        """Names that `load` knows without a path."""
        ...


class Scorer(Protocol):
    """Pure judgement: no I/O, bounded time, never raises whatever the answer holds."""

    def score(self, answer: str, key: AnswerKey) -> Score:
        """The judgement of `answer`; an empty answer scores 0."""
        ...


class ImageProvider(Protocol):
    """Makes a submission runnable."""

    async def prepare(self, submission: BenchmarkSubmission, say: Say) -> Image:
        """The image of this submission, built if its content was not built before.

        Raises BuildFailed (the submission's fault), InfrastructureError (ours). Leaves nothing
        but the finished image behind, whatever happens.
        """
        ...


class StageTimer(Protocol):
    """Notes how long each named step of an attempt takes."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Times its block, also when it raises."""
        ...


ShimFiles = Mapping[str, str]
"""Cgroup files by name (relative to /sys/fs/cgroup) as the shim read them."""


class ByteChannel(Protocol):
    """The two-way byte stream to the shim, over the container's own stdin and stdout."""

    async def read(self) -> bytes:
        """Some bytes, at least one; b"" once the container has ended."""
        ...

    async def write(self, data: bytes) -> None:
        """Hands over all of `data`; raises ConnectionError once the container has ended."""
        ...


class Session(Protocol):
    """One live container with nothing of the agent's running in it yet."""

    @property
    def channel(self) -> ByteChannel:
        """The stream to its shim."""
        ...

    @property
    def facts(self) -> SandboxFacts:
        """What isolates it, read back from the live container."""
        ...

    async def baseline(self, shim_files: ShimFiles) -> None:
        """Reads the figures as they are before the agent starts, to be subtracted later."""
        ...

    def frozen(self) -> AbstractAsyncContextManager[None]:
        """Within it no process of the container runs, the shim included.

        A container that has ended is as frozen as can be: entering does not raise then.
        """
        ...

    @property
    def needs_shim_files(self) -> bool:
        """Whether the host cannot read the container's cgroup, so that the shim must."""
        ...

    async def measure(self, shim_files: ShimFiles) -> Measurement | None:
        """What the container has used so far; None when it is gone and nothing kept the figures.

        `shim_files` is empty unless `needs_shim_files`.
        """
        ...

    async def kill_agent(self) -> None:
        """SIGKILL to every process but the shim, where the host can send it; while frozen."""
        ...

    async def postmortem(self) -> ContainerEnd:
        """Why the container ended by itself.

        Raises InfrastructureError when it was removed, or the engine stopped, under us.
        """
        ...


class Sandbox(Protocol):
    """Makes isolated containers."""

    def session(
        self, image: Image, limits: Limits, timer: StageTimer
    ) -> AbstractAsyncContextManager[Session]:
        """A started container; it is removed on exit, whatever happens.

        Raises InfrastructureError when it cannot be made or a setting did not take.
        """
        ...


class Conversation(Protocol):
    """Talking to one agent through its shim, from hello to goodbye."""

    async def ask(self, prompt: Prompt, config: Mapping[str, object]) -> Ending:
        """Starts the agent, hands it the prompt, waits for its ending; never raises for what
        the agent does.
        """
        ...

    def reply(self) -> Reply:
        """All that was heard of the agent until now; ask for it after `stop`."""
        ...

    @property
    def facts(self) -> Mapping[str, str | int | float | bool]:
        """What the kernel says inside the container of its isolation, checked at hello."""
        ...

    async def read_cgroup(self) -> ShimFiles:
        """The container's cgroup files, as the shim sees them; empty if it cannot."""
        ...

    async def stop(self) -> bool:
        """Kills every process of the agent; True when the shim confirms that none is left.

        A container that has ended has none left either.
        """
        ...

    async def collect(self, directory: Path) -> tuple[Artifact, ...]:
        """Copies the agent's output directory into `directory`, which exists and is empty."""
        ...


class Transport(Protocol):
    """Speaks an interface (function, stdio, http) to an agent."""

    def open(
        self, session: Session, image: Image, limits: Limits
    ) -> AbstractAsyncContextManager[Conversation]:
        """Waits for the shim's hello; raises InfrastructureError when none comes."""
        ...


class Evidence(Protocol):
    """The run directory: whole attempts or none."""

    def begin(self, plan: RunPlan) -> Path:
        """Makes the run's directory and writes what was asked; raises StorageFailed."""
        ...

    def staging(self) -> Path:
        """A new empty directory beside the run, for the artifacts of an attempt in progress."""
        ...

    def keep(self, execution: TaskExecution, reply: Reply | None, staging: Path) -> Path:
        """Writes one attempt, fsyncs it and renames it into place; raises StorageFailed."""
        ...

    def event(self, event: RunEvent) -> None:
        """Appends to events.jsonl."""
        ...

    def finish(self, execution: BenchmarkExecution) -> None:
        """Writes the run's own execution.json; raises StorageFailed."""
        ...
