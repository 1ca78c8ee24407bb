"""One engine, set up once; sandboxes whose containers are counted when a test ends."""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from runner.assets import asset
from runner.domain import (
    Attempt,
    FunctionInterface,
    HttpInterface,
    Image,
    Limits,
    Prompt,
    StdioInterface,
)
from runner.engine import EngineClient, locate_engine
from runner.errors import EngineFailed
from runner.evaluation.attempt import attempt
from runner.images.setup import SetUp, set_up
from runner.sandbox import DockerSandbox, SandboxPolicy
from runner.sandbox.journal import Journal
from runner.transport import ShimTransport

MIB = 1024 * 1024


@dataclass
class Lab:
    """Runs attempts against one engine, and knows which containers are its own."""

    client: EngineClient
    made: SetUp
    journal: Journal
    directory: Path
    _count: list[Path] = field(default_factory=list)

    @property
    def policy(self) -> SandboxPolicy:
        return SandboxPolicy(
            shim_volume=self.made.shim_volume,
            seccomp=asset("config/seccomp.json").read_text("utf-8"),
        )

    @property
    def sandbox(self) -> DockerSandbox:
        return DockerSandbox(self.client, self.policy, self.journal)

    @property
    def transport(self) -> ShimTransport:
        return ShimTransport()

    def shell(self, script: str) -> Image:
        """The base image, with a shell script for an agent."""
        return self.image(StdioInterface(command=("sh", "-c", script)))

    def python(self, source: str) -> Image:
        """The base image, with a Python program for an agent."""
        return self.image(StdioInterface(command=("python3", "-I", "-c", source)))

    def image(
        self, interface: StdioInterface | HttpInterface | FunctionInterface, image_id: str = ""
    ) -> Image:
        image_id = image_id or self.made.base_image_id
        found = self.client.call_blocking("inspect", lambda api: api.inspect_image(image_id))
        config = found["Config"]
        return Image(
            image_id=image_id,
            reference="test",
            interface=interface,
            environment=tuple(config.get("Env") or ()),
            working_directory=config.get("WorkingDir") or "/",
        )

    def new_directory(self) -> Path:
        self._count.append(self.directory / f"artifacts-{len(self._count)}")
        self._count[-1].mkdir()
        return self._count[-1]

    async def run(
        self,
        image: Image,
        limits: Limits | None = None,
        text: str = "what?",
        sandbox: DockerSandbox | None = None,
    ) -> Attempt:
        """One attempt, as the executor makes it; artifacts are in the last directory made."""
        return await attempt(
            Prompt(task_id="t", text=text),
            {"seed": 1},
            image,
            limits or Limits(time_seconds=60),
            sandbox or self.sandbox,
            self.transport,
            self.new_directory(),
        )

    @property
    def artifacts(self) -> Path:
        return self._count[-1]

    def containers(self) -> list[str]:
        """Names of ours, running or not."""
        prefix = f"agenttrace-{self.journal.path.stem}-"
        found = self.client.call_blocking(
            "list", lambda api: api.containers(all=True, filters={"name": prefix})
        )
        return [name.lstrip("/") for container in found for name in container["Names"]]


@pytest.fixture(scope="session")
def engine() -> Iterator[EngineClient]:
    with EngineClient(locate_engine()) as client:
        yield client


@pytest.fixture(scope="session")
def ready(engine: EngineClient) -> SetUp:
    return asyncio.run(set_up(engine, lambda _line: None))


@pytest.fixture
def lab(engine: EngineClient, ready: SetUp, tmp_path: Path) -> Iterator[Lab]:
    """On the engine of this host; whatever the test does, no container may be left."""
    yield from lab_on(engine, ready, tmp_path)


def lab_on(client: EngineClient, made: SetUp, directory: Path) -> Iterator[Lab]:
    with Journal(directory / "journals") as journal:
        lab = Lab(client, made, journal, directory)
        yield lab
        assert lab.containers() == []
        assert not journal._open, "a container was not removed, as far as its runner knows"


async def when_running(lab: Lab, command: str) -> str:
    """The name of our container once `command` runs in it."""
    while True:
        for name in lab.containers():
            if await _runs(lab, name, command):
                return name
        await asyncio.sleep(0.01)


async def _runs(lab: Lab, name: str, command: str) -> bool:
    try:
        top = await lab.client.call("top", lambda api: api.top(name))
    except EngineFailed:
        return False
    return any(command in " ".join(process) for process in top["Processes"] or ())


Build = Callable[[dict[str, bytes]], str]


@pytest.fixture(scope="session")
def build(engine: EngineClient) -> Iterator[Build]:
    """Makes an image of a Dockerfile and files; all are removed at the end."""
    made: list[str] = []

    def build_one(files: dict[str, bytes]) -> str:
        events = engine.call_blocking(
            "build",
            lambda api: list(
                api.build(fileobj=archive(files), custom_context=True, rm=True, decode=True)
            ),
        )
        ids = [event["aux"]["ID"] for event in events if "aux" in event]
        assert ids, events
        made.append(ids[-1])
        return ids[-1]

    yield build_one
    for image in made:
        engine.call_blocking("rmi", lambda api, image=image: api.remove_image(image, force=True))


def archive(files: dict[str, bytes], links: dict[str, str] | None = None) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            tar.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    buffer.seek(0)
    return buffer
