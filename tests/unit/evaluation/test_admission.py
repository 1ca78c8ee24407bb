"""As many attempts at once as the host has room for."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from runner.domain import MIB, Limits
from runner.errors import InsufficientResources
from runner.evaluation import admission as admission_module
from runner.evaluation.admission import Admission, HostCapacity, OwnClaims

LIMITS = Limits(memory_bytes=100 * MIB, cpus=1)


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What psutil says of this host; tests change it."""
    figures = SimpleNamespace(available=10_000 * MIB, free=1000 * MIB, looked_at=[])

    def disk(path: str) -> SimpleNamespace:
        figures.looked_at.append(path)
        return SimpleNamespace(free=figures.free)

    monkeypatch.setattr(psutil, "disk_usage", disk)
    monkeypatch.setattr(
        psutil, "virtual_memory", lambda: SimpleNamespace(available=figures.available)
    )
    return figures


def admission(tmp_path: Path, **capacity: Any) -> Admission:
    given = {"cpus": 4, "memory_bytes": 1000 * MIB, "evidence_directory": tmp_path}
    return Admission(HostCapacity(**(given | capacity)))


async def most_at_once(made: Admission, count: int, limits: Limits = LIMITS) -> int:
    running = most = 0

    async def one() -> None:
        nonlocal running, most
        async with made.admitted(limits):
            running += 1
            most = max(most, running)
            for _ in range(3):
                await asyncio.sleep(0)
            running -= 1

    await asyncio.gather(*(one() for _ in range(count)))
    return most


@pytest.mark.parametrize(
    ("capacity", "expected"),
    [
        ({}, 4),
        ({"cpu_overcommit": 1.5}, 6),
        ({"cpu_overcommit": 100.0}, 8),
        ({"cpu_overcommit": 100.0, "memory_fraction": 1.0}, 10),
        ({"cpus": 1}, 1),
        ({"cpus": 64, "memory_bytes": 250 * MIB}, 2),
    ],
)
async def test_cores_and_memory_are_shared_out(
    tmp_path: Path, capacity: dict[str, Any], expected: int
) -> None:
    assert await most_at_once(admission(tmp_path, **capacity), 12) == expected


async def test_fractions_of_cores_add_up(tmp_path: Path) -> None:
    limits = LIMITS.model_copy(update={"cpus": 0.1, "memory_bytes": MIB})
    assert await most_at_once(admission(tmp_path, cpus=1), 15, limits) == 10


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"memory_bytes": 801 * MIB}, "801 MiB of memory and this host gives 800 MiB"),
        ({"cpus": 4.5}, "4.5 CPUs and this host has 4"),
    ],
)
async def test_what_never_fits_is_refused_at_once(
    tmp_path: Path, limits: dict[str, Any], says: str
) -> None:
    with pytest.raises(InsufficientResources, match=says):
        async with admission(tmp_path).admitted(LIMITS.model_copy(update=limits)):
            pass


async def test_a_full_disk_is_refused(tmp_path: Path, host: SimpleNamespace) -> None:
    directory = tmp_path / "not/there/yet"
    made = admission(tmp_path, evidence_directory=directory, min_free_disk_bytes=500 * MIB)
    async with made.admitted(LIMITS):
        pass
    host.free = 499 * MIB
    with pytest.raises(InsufficientResources, match="499 MiB are free"):
        async with made.admitted(LIMITS):
            pass
    assert set(host.looked_at) == {str(tmp_path)}


async def test_memory_that_other_programs_use_is_waited_for(
    tmp_path: Path, host: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission_module, "MEMORY_CHECK_SECONDS", 0.001)
    made = admission(tmp_path)
    host.available = 50 * MIB
    async with made.admitted(LIMITS):  # one alone always may
        second = asyncio.create_task(made.admitted(LIMITS).__aenter__())
        for _ in range(5):
            await asyncio.sleep(0.002)
        assert not second.done()
        host.available = 5000 * MIB
        await asyncio.wait_for(second, 20)


async def test_a_remote_hosts_memory_is_not_this_ones(
    tmp_path: Path, host: SimpleNamespace
) -> None:
    host.available = 0
    assert await most_at_once(admission(tmp_path, local=False), 6) == 4


async def test_room_is_given_back_by_whoever_is_cancelled(tmp_path: Path) -> None:
    claims = OwnClaims()
    capacity = HostCapacity(cpus=1, memory_bytes=1000 * MIB, evidence_directory=tmp_path)
    made, inside = Admission(capacity, claims), asyncio.Event()

    async def hold() -> None:
        async with made.admitted(LIMITS):
            inside.set()
            await asyncio.Event().wait()

    for _ in range(3):
        holder = asyncio.create_task(hold())
        await inside.wait()
        inside.clear()
        waiting = asyncio.create_task(hold())
        await asyncio.sleep(0)
        for task in (holder, waiting, holder):
            task.cancel()
        await asyncio.gather(holder, waiting, return_exceptions=True)
    assert claims._taken == []
