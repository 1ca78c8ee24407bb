"""One engine, set up once; for each test a shell of its own, after which nothing may be left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from runner.engine import EngineClient, locate_engine
from runner.errors import InfrastructureError
from runner.images.setup import SetUp, set_up
from tests.end_to_end.conftest import CATEGORIES, furnish, untag
from tests.end_to_end.shell import (
    STATE,
    SUITE,
    Outcome,
    Running,
    Shell,
    release,
    remove,
    wait_until,
)

from .calling import caller, upstream  # noqa: F401 - fixtures
from .queueing import either, postgres, postgres_service, service  # noqa: F401 - fixtures
from .whole import assert_nothing_left, tags

TASKS = tuple(task for tasks in CATEGORIES.values() for task in tasks)
ROOT = Path(__file__).parents[2]
KILLED = -9
INFRASTRUCTURE = 3


@pytest.fixture(scope="session")
def client() -> Iterator[EngineClient]:
    with EngineClient(locate_engine()) as client:
        yield client


@pytest.fixture(scope="session")
def made(client: EngineClient) -> SetUp:
    return asyncio.run(set_up(client, lambda _: None))


@pytest.fixture(scope="session")
def built() -> Iterator[set[tuple[EngineClient, str]]]:
    """The images that shells have built: the same agent's is built once, and goes at the end."""
    built: set[tuple[EngineClient, str]] = set()
    yield built
    for client, tag in built:
        for name in names_of(client, tag):
            remove(client, name)
        untag(client, tag)


def names_of(client: EngineClient, tag: str) -> list[str]:
    """The containers of an image, which a failed test may have left."""
    found = client.call_blocking(
        "list", lambda api: api.containers(all=True, filters={"ancestor": tag})
    )
    return [name.lstrip("/") for container in found for name in container["Names"]]


@pytest.fixture
def shell(
    client: EngineClient,
    made: SetUp,
    tmp_path: Path,
    built: set[tuple[EngineClient, str]],
) -> Iterator[Shell]:
    with shell_on(client, tmp_path) as shell:
        yield shell
        built |= {(client, tag) for tag in tags(state_of(shell))}


@contextmanager
def shell_on(client: EngineClient, directory: Path) -> Iterator[Shell]:
    """A furnished shell; whatever a failed test leaves is removed, what a good one leaves told."""
    shell = Shell(directory, client)
    furnish(shell)
    try:
        yield shell
        assert_nothing_left(client, state_of(shell), temporary=shell.temporary)
    finally:
        shell.kill()


def state_of(shell: Shell) -> Path:
    """Its state directory."""
    return shell.directory / STATE / "agenttrace"


def only_run(shell: Shell) -> Path:
    """The run that its commands were about."""
    [run] = shell.runs
    return run


def start_tiny(shell: Shell, agent: str = "right", *options: str) -> Outcome:
    """A run of the small suite, one task after the other, to its end."""
    return shell("run", f"agent.py:{agent}", "--suite", SUITE, "-q", "--json", *options)


def resume(shell: Shell, run: Path, *options: str, **variables: str) -> Outcome:
    """Goes on with a run, to its end."""
    return shell("resume", run.name, "-q", "--json", *options, **variables)


def in_second_task(shell: Shell, *options: str, **variables: str) -> Running:
    """A run of patient agents, one of which has finished, and one waits."""
    given = ("agent.py:patient", "-n", "1", "-q", "--json", *options)
    running = shell.start_run(*given, **variables)
    [first] = shell.wait_until_running()
    release(shell.client, first)
    wait_until(lambda: [name for name in shell.asking() if name != first])
    return running


@contextmanager
def all_released(shell: Shell) -> Iterator[None]:
    """Within it no agent waits for long."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.05):
            for name in shell.asking():
                with suppress(InfrastructureError):  # it may have ended by itself
                    release(shell.client, name)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
