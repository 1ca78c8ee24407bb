"""What ports.Sandbox and ports.Transport promise, kept by the fakes and by the real ones alike."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

from runner.assets import asset
from runner.domain import (
    Attempt,
    Ending,
    EndingKind,
    Image,
    Limits,
    Prompt,
    StdioInterface,
)
from runner.engine import EngineClient, locate_engine
from runner.errors import InfrastructureError
from runner.evaluation.attempt import attempt
from runner.evaluation.stages import Stopwatch
from runner.images.setup import SetUp, set_up
from runner.ports import Conversation, Sandbox, Session, Transport
from runner.sandbox import DockerSandbox, SandboxPolicy
from runner.sandbox.journal import Journal
from runner.testing import FAKE_IMAGE, FakeSandbox, FakeTransport, Said
from runner.transport import ShimTransport

PROMPT = Prompt(task_id="t", text="what?")
LIMITS = Limits(time_seconds=30, output_bytes=100, log_bytes=200)
SHORT = LIMITS.model_copy(update={"time_seconds": 0.3})


class Rig(Protocol):
    """One implementation, and an agent that behaves as it is told."""

    sandbox: Sandbox
    transport: Transport

    def image(self, behaviour: str) -> Image: ...

    async def remove(self, session: Session) -> None:
        """As somebody else would."""
        ...

    def live(self) -> int:
        """How many containers there are."""
        ...


@dataclass
class FakeRig:
    sandbox: FakeSandbox = field(default_factory=FakeSandbox)
    _behaviour: str = ""

    @property
    def transport(self) -> FakeTransport:
        return FakeTransport(self._agent)

    def image(self, behaviour: str) -> Image:
        self._behaviour = behaviour
        return FAKE_IMAGE

    async def _agent(self, prompt: Prompt, _config: object) -> Said:
        match self._behaviour:
            case "echo":
                return Said(answer=prompt.text.encode(), stderr=b"hm")
            case "exit 3":
                return Said(ending=Ending(kind=EndingKind.CRASHED, exit_code=3, detail="3"))
            case "long":
                return Said(answer=b"x" * 5000)
            case "not text":
                return Said(answer=b"\xff")
            case "files":
                return Said(answer=b"ok", files={"a/b": b"hello", ".hidden": b""})
        await asyncio.Event().wait()
        raise AssertionError

    async def remove(self, session: Any) -> None:
        session.vanish()

    def live(self) -> int:
        return len(self.sandbox.live)


SCRIPTS = {
    "echo": "printf 'what?'; printf hm >&2",
    "exit 3": "exit 3",
    "long": "head -c 5000 /dev/zero | tr '\\0' x",
    "not text": "printf '\\377'",
    "files": "mkdir /output/a; printf hello > /output/a/b; : > /output/.hidden; printf ok",
    "silent": "exec sleep 1000",
}


@dataclass
class RealRig:
    client: EngineClient
    made: SetUp
    journal: Journal

    @property
    def sandbox(self) -> DockerSandbox:
        seccomp = asset("config/seccomp.json").read_text("utf-8")
        policy = SandboxPolicy(shim_volume=self.made.shim_volume, seccomp=seccomp)
        return DockerSandbox(self.client, policy, self.journal)

    @property
    def transport(self) -> ShimTransport:
        return ShimTransport()

    def image(self, behaviour: str) -> Image:
        config = self.client.call_blocking(
            "inspect", lambda api: api.inspect_image(self.made.base_image_id)["Config"]
        )
        return Image(
            image_id=self.made.base_image_id,
            reference="test",
            interface=StdioInterface(command=("sh", "-c", SCRIPTS[behaviour])),
            environment=tuple(config.get("Env") or ()),
        )

    async def remove(self, session: Session) -> None:
        name = session.facts.container_name
        await self.client.call("rm", lambda api: api.remove_container(name, force=True))

    def live(self) -> int:
        filters = {"name": f"agenttrace-{self.journal.path.stem}-"}
        return len(
            self.client.call_blocking("list", lambda api: api.containers(all=True, filters=filters))
        )


@pytest.fixture(scope="session")
def engine() -> Iterator[tuple[EngineClient, SetUp]]:
    with EngineClient(locate_engine()) as client:
        yield client, asyncio.run(set_up(client, lambda _line: None))


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.docker)])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    if request.param == "fake":
        yield FakeRig()
        return
    client, made = request.getfixturevalue("engine")
    with Journal(tmp_path / "journals") as journal:
        yield RealRig(client, made, journal)


async def run(rig: Rig, behaviour: str, directory: Path, limits: Limits = LIMITS) -> Attempt:
    image, artifacts = rig.image(behaviour), directory / "artifacts"
    artifacts.mkdir()
    return await attempt(PROMPT, {}, image, limits, rig.sandbox, rig.transport, artifacts)


@asynccontextmanager
async def talking(rig: Rig, behaviour: str) -> AsyncIterator[tuple[Session, Conversation]]:
    image = rig.image(behaviour)
    async with (
        rig.sandbox.session(image, LIMITS, Stopwatch()) as session,
        rig.transport.open(session, image, LIMITS) as conversation,
    ):
        await session.baseline({})
        yield session, conversation


async def test_an_answer(rig: Rig, tmp_path: Path) -> None:
    made = await run(rig, "echo", tmp_path)
    assert (made.reply.ending.kind, made.reply.output) == (EndingKind.ANSWERED, "what?")
    assert (made.reply.stderr, made.reply.stderr_bytes) == (b"hm", 2)
    assert made.reply.output_bytes == made.reply.stdout_bytes == 5
    assert made.reply.wall_seconds >= 0
    assert made.agent_confirmed_dead
    assert made.measurement
    assert made.measurement.memory_peak_bytes > 0
    assert made.sandbox
    assert made.sandbox.applied["network"] == "disabled"
    assert made.sandbox.applied["kernel_loopback_only"] is True
    assert {"create", "hello", "ask", "measure", "stop", "collect", "remove"} <= {
        stage.name for stage in made.stages
    }
    assert rig.live() == 0


async def test_a_crash(rig: Rig, tmp_path: Path) -> None:
    made = await run(rig, "exit 3", tmp_path)
    assert (made.reply.ending.kind, made.reply.ending.exit_code) == (EndingKind.CRASHED, 3)
    assert made.reply.ending.detail


async def test_no_answer_in_time(rig: Rig, tmp_path: Path) -> None:
    made = await run(rig, "silent", tmp_path, SHORT)
    assert made.reply.ending.kind is EndingKind.TIMED_OUT
    assert made.reply.wall_seconds >= 0.3
    assert made.agent_confirmed_dead
    assert rig.live() == 0


async def test_an_answer_too_long(rig: Rig, tmp_path: Path) -> None:
    made = await run(rig, "long", tmp_path)
    assert (made.reply.output_bytes, made.reply.output_truncated) == (5000, True)
    assert len(made.reply.output.encode()) <= 100
    assert made.reply.stdout == b"x" * 200


async def test_an_answer_that_is_not_text(rig: Rig, tmp_path: Path) -> None:
    made = await run(rig, "not text", tmp_path)
    assert made.reply.ending.kind is EndingKind.INVALID_OUTPUT


async def test_artifacts(rig: Rig, tmp_path: Path) -> None:
    made = await run(rig, "files", tmp_path)
    found = {a.path: a.sha256 for a in made.artifacts}
    assert found == {
        "a/b": hashlib.sha256(b"hello").hexdigest(),
        "%2Ehidden": hashlib.sha256(b"").hexdigest(),
    }
    assert (tmp_path / "artifacts/a/b").read_bytes() == b"hello"


async def test_a_reply_before_the_question(rig: Rig) -> None:
    async with talking(rig, "echo") as (_, conversation):
        assert conversation.reply().ending.kind is EndingKind.CRASHED


async def test_stopping_twice_and_collecting_nothing(rig: Rig, tmp_path: Path) -> None:
    async with talking(rig, "echo") as (_, conversation):
        await conversation.ask(PROMPT, {})
        assert await conversation.stop()
        assert await conversation.stop()
        assert await conversation.collect(tmp_path) == ()


async def test_figures_only_grow(rig: Rig) -> None:
    async with talking(rig, "echo") as (session, conversation):
        files = await conversation.read_cgroup() if session.needs_shim_files else {}
        first = await session.measure(files)
        await conversation.ask(PROMPT, {})
        async with session.frozen():
            second = await session.measure(files)
        assert first
        assert second
        assert second.memory_peak_bytes >= first.memory_peak_bytes
        assert second.cpu_seconds >= first.cpu_seconds


async def test_a_frozen_container_goes_on(rig: Rig) -> None:
    async with talking(rig, "echo") as (session, conversation):
        for _ in range(2):
            async with session.frozen():
                pass
        assert (await conversation.ask(PROMPT, {})).kind is EndingKind.ANSWERED


async def test_a_container_removed_by_others(rig: Rig) -> None:
    async with talking(rig, "silent") as (session, conversation):
        asking = asyncio.create_task(conversation.ask(PROMPT, {}))
        await asyncio.sleep(0)
        await rig.remove(session)
        assert (await asking).kind is EndingKind.SANDBOX_ENDED
        async with session.frozen():
            await session.measure({})
            await session.kill_agent()
        assert await conversation.stop()
        with pytest.raises(InfrastructureError):
            await session.postmortem()
    assert rig.live() == 0


async def test_a_failure_within_leaves_nothing(rig: Rig) -> None:
    async def fail() -> None:
        async with talking(rig, "silent"):
            assert rig.live() == 1
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert rig.live() == 0


async def test_a_cancelled_question_leaves_nothing(rig: Rig) -> None:
    begun = asyncio.Event()

    async def ask() -> None:
        async with talking(rig, "silent") as (_, conversation):
            begun.set()
            await conversation.ask(PROMPT, {})

    asking = asyncio.create_task(ask())
    await begun.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert rig.live() == 0


async def test_sessions_are_apart(rig: Rig) -> None:
    async with talking(rig, "echo") as (one, _), talking(rig, "echo") as (two, _):
        assert one.facts.container_name != two.facts.container_name
        assert rig.live() == 2
    assert rig.live() == 0
