"""Fakes of the sandbox, the transport and the run directory, for our tests and for extensions.

They keep the promises of `runner.ports` without an engine; `tests/contract` holds them to the same
suite as the real ones.

    sandbox, transport = FakeSandbox(), FakeTransport(lambda prompt, config: prompt.text.upper())
    made = await attempt(prompt, {}, FAKE_IMAGE, Limits(), sandbox, transport, directory)
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from runner.domain import (
    Artifact,
    BenchmarkExecution,
    BenchmarkTask,
    ContainerEnd,
    Ending,
    EndingKind,
    GatewayUse,
    Image,
    Limits,
    Measurement,
    Prompt,
    Reply,
    RunEvent,
    RunPlan,
    SandboxFacts,
    StdioInterface,
    TaskExecution,
)
from runner.errors import InfrastructureError
from runner.ports import Connection, GatewayAccess, Session, ShimFiles, StageTimer
from runner.transport.artifacts import safe_path
from runner.transport.replies import ANSWER, STDERR, STDOUT, Answer, Heard, make_reply

__all__ = [
    "FAKE_IMAGE",
    "FakeAccess",
    "FakeAgent",
    "FakeConversation",
    "FakeGateway",
    "FakeSandbox",
    "FakeSession",
    "FakeTransport",
    "Kept",
    "MemoryEvidence",
    "Said",
    "ScriptedChannel",
]

FAKE_IMAGE = Image(
    image_id="sha256:" + "0" * 64, reference="fake", interface=StdioInterface(command=("agent",))
)


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a fake agent leaves when it ends."""

    answer: bytes = b""
    ending: Ending = field(default_factory=lambda: Ending(kind=EndingKind.ANSWERED, exit_code=0))
    stderr: bytes = b""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """In its output directory, by relative path."""
    full_mounts: tuple[str, ...] = ()


FakeAgent: TypeAlias = Callable[
    [Prompt, Mapping[str, object]], str | bytes | Said | Awaitable[str | bytes | Said]
]
"""Stands for the agent: gets what a real one gets, answers or awaits or raises.

An exception of its own is a crash; an InfrastructureError is ours and comes through.
"""


class ScriptedChannel:
    """Implements ports.ByteChannel: hands out `chunks`, then ends; keeps what is written."""

    def __init__(self, chunks: Iterable[bytes] = ()) -> None:
        self._chunks = list(chunks)
        self.written = bytearray()
        self.ended = False

    async def read(self) -> bytes:
        """See ports.ByteChannel."""
        await asyncio.sleep(0)
        if self._chunks:
            return self._chunks.pop(0)
        self.ended = True
        return b""

    async def write(self, data: bytes) -> None:
        """See ports.ByteChannel."""
        if self.ended:
            raise ConnectionResetError
        self.written += data


class FakeSession:
    """Implements ports.Session: a container that is only a name and some figures.

    `happened` notes what was done to it, in order. `vanish` makes it as if somebody else had
    removed it; `die` as if its PID 1 had been killed.
    """

    def __init__(self, name: str, figures: Measurement | None, *, needs_shim_files: bool) -> None:
        self.channel = ScriptedChannel()
        self.facts = _facts(name)
        self.needs_shim_files = needs_shim_files
        self.happened: list[str] = []
        self.shim_files: ShimFiles = {}
        self.ended = asyncio.Event()
        self._figures = figures
        self._end: ContainerEnd | None = ContainerEnd(exit_code=0)

    async def baseline(self, shim_files: ShimFiles) -> None:
        """See ports.Session."""
        self.happened.append("baseline")
        self.shim_files = dict(shim_files)

    @asynccontextmanager
    async def frozen(self) -> AsyncIterator[None]:
        """See ports.Session."""
        self.happened.append("frozen")
        try:
            yield
        finally:
            self.happened.append("thawed")

    async def measure(self, shim_files: ShimFiles) -> Measurement | None:
        """See ports.Session."""
        self.happened.append("measured")
        self.shim_files = dict(shim_files)
        return self._figures

    async def kill_agent(self) -> None:
        """See ports.Session."""
        self.happened.append("killed")

    async def postmortem(self) -> ContainerEnd:
        """See ports.Session."""
        if self._end is None:
            raise InfrastructureError(f"container {self.facts.container_name} was removed")
        return self._end

    def vanish(self) -> None:
        """As after `docker rm --force` by somebody else."""
        self._end = None
        self.ended.set()

    def die(self, end: ContainerEnd) -> None:
        """As after a kill of PID 1."""
        self._end = end
        self.ended.set()


class FakeSandbox:
    """Implements ports.Sandbox; `live` are the containers there are, `made` all there ever were.

    `failures` are raised by the next sessions, one each; `figures` are what every container used.
    """

    def __init__(
        self,
        *,
        figures: Measurement | None = None,
        failures: Iterable[BaseException] = (),
        needs_shim_files: bool = False,
    ) -> None:
        self.live: dict[str, FakeSession] = {}
        self.made: list[FakeSession] = []
        self.asked: list[tuple[Image, Limits]] = []
        self.most_at_once = 0
        self.failures = list(failures)
        self._figures = figures or _some_figures()
        self._needs_shim_files = needs_shim_files
        self._numbers = count(1)

    @asynccontextmanager
    async def session(
        self, image: Image, limits: Limits, timer: StageTimer
    ) -> AsyncIterator[FakeSession]:
        """See ports.Sandbox."""
        with timer.stage("create"):
            if self.failures:
                raise self.failures.pop(0)
            self.asked.append((image, limits))
            session = self._make()
        try:
            yield session
        finally:
            with timer.stage("remove"):
                del self.live[session.facts.container_name]

    def _make(self) -> FakeSession:
        name = f"fake-{next(self._numbers)}"
        session = FakeSession(name, self._figures, needs_shim_files=self._needs_shim_files)
        self.live[name] = session
        self.made.append(session)
        self.most_at_once = max(self.most_at_once, len(self.live))
        return session


class FakeTransport:
    """Implements ports.Transport: every container runs `agent`."""

    def __init__(self, agent: FakeAgent) -> None:
        self._agent = agent
        self.asked: list[tuple[Prompt, Mapping[str, object]]] = []

    @asynccontextmanager
    async def open(
        self,
        session: Session,
        image: Image,  # noqa: ARG002 - the agent is what we were given
        limits: Limits,
        access: GatewayAccess | None = None,  # noqa: ARG002 - it has no connections to serve
    ) -> AsyncIterator[FakeConversation]:
        """See ports.Transport; only a FakeSession can end under its agent."""
        ended = session.ended if isinstance(session, FakeSession) else asyncio.Event()
        yield FakeConversation(self._agent, ended, limits, self.asked)


class FakeConversation:
    """Implements ports.Conversation."""

    def __init__(
        self,
        agent: FakeAgent,
        ended: asyncio.Event,
        limits: Limits,
        asked: list[tuple[Prompt, Mapping[str, object]]],
    ) -> None:
        self.facts: Mapping[str, str | int | float | bool] = {"kernel_loopback_only": True}
        self._agent = agent
        self._ended = ended
        self._limits = limits
        self._asked = asked
        self._said = Said(ending=Ending(kind=EndingKind.CRASHED, detail="it was not asked"))
        self._seconds = 0.0

    async def ask(self, prompt: Prompt, config: Mapping[str, object]) -> Ending:
        """See ports.Conversation; what the agent raises is a crash."""
        self._asked.append((prompt, config))
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._limits.time_seconds):
                self._said = await self._until_an_end(prompt, config)
        except TimeoutError:
            detail = f"no answer within {self._limits.time_seconds:g} s"
            self._said = Said(ending=Ending(kind=EndingKind.TIMED_OUT, detail=detail))
        self._seconds = time.monotonic() - started
        return self.reply().ending

    async def _until_an_end(self, prompt: Prompt, config: Mapping[str, object]) -> Said:
        """The agent's, or its container's."""
        asking = asyncio.create_task(_asked(self._agent, prompt, config))
        ended = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait({asking, ended}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                detail = "the container ended under the agent"
                return Said(ending=Ending(kind=EndingKind.SANDBOX_ENDED, detail=detail))
            return asking.result()
        finally:
            asking.cancel()
            ended.cancel()
            await asyncio.gather(asking, ended, return_exceptions=True)

    def reply(self) -> Reply:
        """See ports.Conversation."""
        said, limits = self._said, self._limits
        heard = Heard(
            caps={STDOUT: limits.log_bytes, STDERR: limits.log_bytes, ANSWER: limits.output_bytes},
            full_mounts=said.full_mounts,
        )
        heard.add(STDOUT, said.answer)
        heard.add(STDERR, said.stderr)
        heard.totals = {STDOUT: len(said.answer), STDERR: len(said.stderr)}
        answer = Answer(said.ending, said.answer, len(said.answer))
        return make_reply(answer, heard, limits.output_bytes, self._seconds)

    async def read_cgroup(self) -> ShimFiles:
        """See ports.Conversation."""
        return {}

    async def stop(self) -> bool:
        """See ports.Conversation."""
        return True

    async def collect(self, directory: Path) -> tuple[Artifact, ...]:
        """See ports.Conversation."""
        return tuple(_stored(directory, name, data) for name, data in self._said.files.items())


async def _asked(agent: FakeAgent, prompt: Prompt, config: Mapping[str, object]) -> Said:
    try:
        said = agent(prompt, config)
        if inspect.isawaitable(said):
            said = await said
    except InfrastructureError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever an agent raises is its own crash
        detail = f"the agent exited with status 1: {error!a}"
        return Said(ending=Ending(kind=EndingKind.CRASHED, detail=detail, exit_code=1))
    if isinstance(said, Said):
        return said
    return Said(answer=said.encode() if isinstance(said, str) else said)


def _stored(directory: Path, name: str, data: bytes) -> Artifact:
    path = safe_path(name)
    (directory / path).parent.mkdir(parents=True, exist_ok=True)
    (directory / path).write_bytes(data)
    return Artifact(path=path, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def _facts(name: str) -> SandboxFacts:
    return SandboxFacts(
        container_name=name,
        container_id="0" * 64,
        image_id=FAKE_IMAGE.image_id,
        engine_version="fake",
        runtime="fake",
        tier="fake",
        cgroup_version=2,
        applied={"network": "disabled"},
    )


def _some_figures() -> Measurement:
    return Measurement(
        memory_peak_bytes=1024 * 1024,
        memory_peak_source="cgroup_peak",
        cpu_user_seconds=0.01,
        read_from="host_cgroup",
        cgroup_version=2,
    )


class FakeGateway:
    """Implements ports.Gateway: nothing can be reached, and each attempt has done what `use` says
    of its task id.
    """

    def __init__(self, use: Callable[[str], GatewayUse]) -> None:
        self._use = use
        self.opened: list[tuple[str, int]] = []
        """Task and repeat, in order."""
        self.live = 0

    @asynccontextmanager
    async def open(
        self,
        task: BenchmarkTask,
        repeat: int,
        limits: Limits,  # noqa: ARG002 - it limits nothing
        exchanges: Path,  # noqa: ARG002 - nothing is exchanged
    ) -> AsyncIterator[FakeAccess]:
        """See ports.Gateway."""
        self.opened.append((task.task_id, repeat))
        self.live += 1
        try:
            yield FakeAccess(self._use(task.task_id))
        finally:
            self.live -= 1


class FakeAccess:
    """Implements ports.GatewayAccess: every connection is closed at once."""

    environment: Mapping[str, str] = MappingProxyType({"AGENTTRACE_GATEWAY_URL": "{url}"})
    max_connections = 1
    excused_seconds = 0.0

    def __init__(self, use: GatewayUse) -> None:
        self._use = use

    async def serve(self, connection: Connection) -> None:
        """See ports.GatewayAccess."""
        await connection.close()

    async def over(self) -> None:
        """See ports.GatewayAccess; no budget is ever met here."""
        await asyncio.Event().wait()

    def use(self) -> GatewayUse:
        """See ports.GatewayAccess."""
        return self._use


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One attempt as it was handed to the evidence."""

    execution: TaskExecution
    reply: Reply | None
    files: Mapping[str, bytes]
    """Artifacts, by path."""


class MemoryEvidence:
    """Implements ports.Evidence: all in memory but the artifacts of attempts in progress.

    A context manager, since `staging` makes directories.
    """

    def __init__(self) -> None:
        self.plan: RunPlan | None = None
        self.kept: list[Kept] = []
        self.events: list[RunEvent] = []
        self.finished: BenchmarkExecution | None = None
        self._begun: Counter[tuple[str, int]] = Counter()
        self._root: Path | None = None

    def __enter__(self) -> MemoryEvidence:
        self._root = Path(tempfile.mkdtemp(prefix="agenttrace-memory-"))
        return self

    def __exit__(self, *_: object) -> None:
        if self._root:
            shutil.rmtree(self._root, ignore_errors=True)

    @property
    def root(self) -> Path:
        """Where staging directories are made."""
        if self._root is None:
            raise RuntimeError("use MemoryEvidence in a with statement")
        return self._root

    @property
    def path(self) -> Path:
        """See ports.Evidence."""
        return self.root

    def begin(self, plan: RunPlan) -> Path:
        """See ports.Evidence."""
        self.plan = plan
        return self.root

    def begin_attempt(self, task_id: str, repeat: int) -> int:
        """See ports.Evidence."""
        self._begun[task_id, repeat] += 1
        return self._begun[task_id, repeat]

    def judged(self) -> frozenset[tuple[str, int]]:
        """See ports.Evidence."""
        return frozenset((e.task_id, e.repeat) for e in self.finals() if e.has_verdict)

    def finals(self) -> list[TaskExecution]:
        """See ports.Evidence."""
        executions = sorted((k.execution for k in self.kept), key=lambda each: each.attempt)
        return list({(each.task_id, each.repeat): each for each in executions}.values())

    def staging(self) -> Path:
        """See ports.Evidence."""
        staging = Path(tempfile.mkdtemp(dir=self.root)) / "artifacts"
        staging.mkdir()
        return staging

    def keep(self, execution: TaskExecution, reply: Reply | None, staging: Path) -> Path:
        """See ports.Evidence."""
        paths = [path for path in sorted(staging.rglob("*")) if path.is_file()]
        files = {str(path.relative_to(staging)): path.read_bytes() for path in paths}
        self.kept.append(Kept(execution=execution, reply=reply, files=files))
        return staging

    def event(self, event: RunEvent) -> None:
        """See ports.Evidence."""
        self.events.append(event)

    def finish(self, execution: BenchmarkExecution) -> None:
        """See ports.Evidence."""
        self.finished = execution
