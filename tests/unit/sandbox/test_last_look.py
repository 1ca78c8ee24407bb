"""The figures at the moment when a process dies."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.sandbox.cgroup import Cgroup
from runner.sandbox.last_look import LastLook
from runner.sandbox.meter import NOTHING

CGROUP = Cgroup(2, {"": Path(__file__).parent / "recordings/v2"})


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "100"])
    yield process
    process.kill()
    process.wait()


async def death_of(process: subprocess.Popen[bytes]) -> None:
    """And a few turns of the loop, for whoever waits for it."""
    process.kill()
    await asyncio.to_thread(process.wait)
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_figures_are_read_at_the_death(process: subprocess.Popen[bytes]) -> None:
    look = LastLook(CGROUP, process.pid)
    look.start()
    await asyncio.sleep(0)
    assert look.reading == NOTHING
    await death_of(process)
    assert look.reading.memory_peak_bytes == 134_217_728
    look.stop()


@pytest.mark.parametrize("cgroup", [CGROUP, None])
async def test_nothing_to_wait_for(process: subprocess.Popen[bytes], cgroup: Cgroup | None) -> None:
    await death_of(process)
    look = LastLook(cgroup, process.pid)
    look.start()
    look.stop()
    look.stop()
    assert look.reading == NOTHING


async def test_stopped_before_the_death(process: subprocess.Popen[bytes]) -> None:
    look = LastLook(CGROUP, process.pid)
    look.start()
    look.stop()
    await death_of(process)
    assert look.reading == NOTHING
