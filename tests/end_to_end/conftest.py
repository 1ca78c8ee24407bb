"""One engine, set up once; for each test a directory with a small suite and a few agents."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import docker.errors
import pytest

from runner.engine import EngineClient, locate_engine
from runner.images.setup import SetUp, set_up

from .shell import SUITE, Shell

SESSION = secrets.token_hex(8)
"""In every agent, so that its image is nobody else's."""

SUITE_TOML = """
format = 1
name = "tiny"
version = "1.2.3"
"""
TASK = """
[[task]]
task_id = "{id}"
name = "{id}"
prompt = "Say {id}."
[[task.criteria]]
scorer = "exact"
expected = "{id}"
"""
CATEGORIES = {"reasoning": ("alpha", "beta"), "planning": ("gamma",)}
FUNCTION = f"""# {SESSION}
import os, time

def right(prompt, config):
    return prompt.removeprefix("Say ").rstrip(".")

def sometimes(prompt, config):
    return "alpha"

def patient(prompt, config):
    for _ in range(1200):
        if os.path.exists("/tmp/go"):
            return right(prompt, config)
        time.sleep(0.05)
"""
MANIFEST = """
agent_name = "echo"
agent_version = "2.0.0"
terms_accepted = true
[agent_endpoint]
"""
LOCAL = MANIFEST + 'endpoint_type = "local"\nmodule_path = "agent"\nfunction_name = "right"\n'


@pytest.fixture(scope="session")
def client() -> Iterator[EngineClient]:
    with EngineClient(locate_engine()) as client:
        yield client


@pytest.fixture(scope="session")
def made(client: EngineClient) -> SetUp:
    return asyncio.run(set_up(client, lambda _: None))


@pytest.fixture(scope="session")
def shells(
    client: EngineClient, made: SetUp, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Shell]]:
    """Makes shells; at the end nothing is left of what they did to the engine."""
    given: list[Shell] = []

    def make() -> Shell:
        shell = Shell(tmp_path_factory.mktemp("shell"), client)
        furnish(shell)
        given.append(shell)
        return shell

    yield make
    for shell in given:
        shell.kill()
    for tag in {tag for shell in given for tag in shell.tags()}:
        untag(client, tag)


def furnish(shell: Shell) -> None:
    """The small suite, and the agents of these tests."""
    shell.write(f"{SUITE}/suite.toml", SUITE_TOML)
    for category, ids in CATEGORIES.items():
        shell.write(f"{SUITE}/{category}.toml", "".join(TASK.format(id=one) for one in ids))
    shell.write("agent.py", FUNCTION)


def untag(client: EngineClient, tag: str) -> None:
    try:
        client.call_blocking("remove image", lambda api: api.remove_image(tag))
    except Exception as error:
        if not isinstance(error.__cause__, docker.errors.ImageNotFound):
            raise


@pytest.fixture
def shell(shells: Callable[[], Shell]) -> Iterator[Shell]:
    """One of its own for each test, which may leave neither containers nor temporary files."""
    shell = shells()
    yield shell
    left, journals = shell.names(), shell.journals
    shell.kill()
    assert not left
    assert not journals
    assert not shell.temporary_files()
    assert not containers_of(shell)


def containers_of(shell: Shell) -> list[str]:
    """Those of the images that the shell built."""
    return [
        container["Names"][0]
        for tag in shell.tags()
        for container in shell.client.call_blocking(
            "list", lambda api, tag=tag: api.containers(all=True, filters={"ancestor": tag})
        )
    ]


@pytest.fixture(scope="session")
def base_image(made: SetUp) -> str:
    return made.base_tag


@pytest.fixture(scope="session")
def finished(shells: Callable[[], Shell], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shell's directory with one finished run in it; not to be written to."""
    shell = shells()
    outcome = shell.run("agent.py:sometimes", "-q", "--json")
    assert outcome.code == 0, outcome.err
    shell.write("stdout.json", outcome.out)
    return shell.directory
