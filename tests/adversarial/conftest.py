"""One engine, set up once, and a sandbox like the one that `agenttrace run` makes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runner.assets import asset
from runner.domain import Attempt, Image, Interface, Limits, Prompt, StdioInterface
from runner.engine import EngineClient, locate_engine
from runner.evaluation.attempt import attempt
from runner.images.setup import SetUp, set_up
from runner.sandbox import DockerSandbox, SandboxPolicy
from runner.sandbox.journal import PREFIX, Journal
from runner.transport import ShimTransport
from tests.adversarial import host
from tests.adversarial.expectation import SMALL

CONFIG = {"seed": 7, "deadline_seconds": 10, "tools": [], "output_directory": "/output"}
HONEST = """
import json, os, sys, hashlib
request = json.load(sys.stdin)
places = {p: sorted(os.listdir(p)) for p in ("/tmp", "/output", "/dev/shm", "/dev/mqueue")}
with open("/output/work.txt", "w") as file:
    file.write(hashlib.sha256(request["prompt"].encode()).hexdigest())
others = [p for p in os.listdir("/proc") if p.isdecimal() and p not in ("1", str(os.getpid()))]
print(json.dumps({"answer": 42, "config": request["config"], "places": places, "others": others,
                  "id": [os.getresuid(), os.getresgid(), os.getgroups()], "cwd": os.getcwd(),
                  "environment": dict(os.environ)}, sort_keys=True))
print("done", file=sys.stderr)
"""
"""An agent that answers, and says everything that another agent could have changed for it."""


@dataclass(frozen=True)
class Lab:
    """Runs attempts as the executor does."""

    client: EngineClient
    made: SetUp
    base: Image
    journal: Journal
    sandbox: DockerSandbox
    transport: ShimTransport

    @property
    def prefix(self) -> str:
        """Of the names of our containers, and of nobody else's."""
        return f"{PREFIX}-{self.journal.path.stem}-"

    def image(self, interface: Interface) -> Image:
        """The base image, with an agent that is all in its command."""
        return self.base.model_copy(update={"interface": interface})

    async def run(
        self, image: Image, limits: Limits, artifacts: Path, prompt: str = "What is 6 * 7?"
    ) -> Attempt:
        """One attempt."""
        artifacts.mkdir(parents=True)  # noqa: ASYNC240 - nothing else runs here
        return await attempt(
            Prompt(task_id="hostile", text=prompt),
            CONFIG,
            image,
            limits,
            self.sandbox,
            self.transport,
            artifacts,
        )

    def honest(self, artifacts: Path) -> tuple[object, ...]:
        """What an honest agent's attempt comes to; equal whenever nothing has changed."""
        image = self.image(StdioInterface(command=("python3", "-I", "-c", HONEST)))
        made = asyncio.run(self.run(image, Limits.model_validate(SMALL), artifacts))
        reply, facts = made.reply, made.sandbox
        assert made.measurement
        assert facts
        return (
            reply.ending,
            reply.output,
            reply.stderr,
            made.artifacts,
            sorted((p.name, digest(p)) for p in artifacts.iterdir()),
            made.agent_confirmed_dead,
            made.measurement.oom_kills,
            made.measurement.pids_limit_hits,
            facts.applied,
            facts.image_id,
        )

    def leftovers(self, attempts: list[Attempt], since_unix: float) -> list[str]:
        """What these attempts left in the engine and among the host's processes."""
        left = host.containers(self.client, self.prefix)
        for made in attempts:
            if made.sandbox:
                name = made.sandbox.container_id
                left += host.processes(name)
                left += host.volumes(self.client, name, since_unix, self.made.shim_volume)
        return left


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with (
        EngineClient(locate_engine()) as client,
        Journal(tmp_path_factory.mktemp("journal")) as journal,
    ):
        made = asyncio.run(set_up(client, lambda _: None))
        policy = SandboxPolicy(
            shim_volume=made.shim_volume, seccomp=asset("config/seccomp.json").read_text()
        )
        yield Lab(
            client=client,
            made=made,
            base=base_image(client, made),
            journal=journal,
            sandbox=DockerSandbox(client, policy, journal),
            transport=ShimTransport(),
        )


def base_image(client: EngineClient, made: SetUp) -> Image:
    details = client.call_blocking(
        "inspect the base image", lambda api: api.inspect_image(made.base_image_id)
    )
    return Image(
        image_id=made.base_image_id,
        reference=made.base_tag,
        interface=StdioInterface(command=("true",)),
        environment=tuple(details["Config"].get("Env") or ()),
    )


@pytest.fixture(scope="session")
def honest_result(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """Of an honest agent, before any hostile one has run."""
    lab.honest(tmp_path_factory.mktemp("honest") / "warm-up")
    return lab.honest(tmp_path_factory.mktemp("honest") / "reference")
