"""Whole cores for one container each, whichever process runs it."""

from __future__ import annotations

import asyncio
import multiprocessing
from contextlib import ExitStack
from itertools import pairwise
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from time import monotonic_ns

import pytest

from runner.errors import InsufficientResources, StorageFailed
from runner.sandbox import cpus as cpus_module
from runner.sandbox.cpus import CpuPool

from .holding import another_process

HOLDER = """
import asyncio, sys
from pathlib import Path
from runner.sandbox.cpus import CpuPool

async def hold():
    async with CpuPool(2, Path(sys.argv[1])).taken(1) as cores:
        print(cores, flush=True)
        sys.stdin.read()

asyncio.run(hold())
"""


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_no_two_have_the_same_core(tmp_path: Path) -> None:
    pool = CpuPool(3, tmp_path)
    async with pool.taken(1) as one, pool.taken(1.5) as two:
        assert (one, two) == ("0", "1,2")
        third = asyncio.create_task(pool.taken(0.5).__aenter__())
        await asyncio.sleep(0)
        assert not third.done()
        third.cancel()
    async with pool.taken(3) as all_of_them:
        assert all_of_them == "0,1,2"


async def test_who_waits_gets_what_is_given_back(tmp_path: Path) -> None:
    pool, order = CpuPool(1, tmp_path), []

    async def take(name: str) -> None:
        async with pool.taken(1) as core:
            order.append((name, core))
            await asyncio.sleep(0)

    await asyncio.gather(take("a"), take("b"), take("c"))
    assert order == [("a", "0"), ("b", "0"), ("c", "0")]


async def test_own_cores_are_not_waited_for_by_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpus_module, "CORE_CHECK_SECONDS", 10_000)
    pool = CpuPool(2, tmp_path)
    first, second = pool.taken(1), pool.taken(1)
    await first.__aenter__()
    await second.__aenter__()
    both = asyncio.create_task(pool.taken(2).__aenter__())
    for context in (first, second):
        await asyncio.sleep(0)
        assert not both.done()
        await context.__aexit__(None, None, None)
    assert await asyncio.wait_for(both, 20) == "0,1"


async def test_more_cores_than_there_are(tmp_path: Path) -> None:
    with pytest.raises(InsufficientResources, match="3 whole cores"):
        async with CpuPool(2, tmp_path).taken(2.1):
            pass


async def test_without_cores_nothing_is_pinned(tmp_path: Path) -> None:
    async with CpuPool(0, tmp_path / "none").taken(64) as cpuset:
        assert cpuset == ""
    assert not (tmp_path / "none").exists()


async def test_a_failure_gives_the_core_back(tmp_path: Path) -> None:
    pool = CpuPool(1, tmp_path)
    with pytest.raises(RuntimeError):
        async with pool.taken(1):
            raise RuntimeError
    async with pool.taken(1) as core:
        assert core == "0"


async def test_who_is_cancelled_while_collecting_keeps_nothing(tmp_path: Path) -> None:
    mine, theirs = CpuPool(3, tmp_path), CpuPool(3, tmp_path)
    before = open_files()
    async with theirs.taken(1):
        waiting = [asyncio.create_task(mine.taken(3).__aenter__()) for _ in range(3)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert open_files() > before + 3  # it keeps what it has found, while it waits
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        async with theirs.taken(2) as rest:
            assert rest == "1,2"
    assert open_files() == before


async def test_two_that_want_all_cores_do_not_each_keep_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def take_all() -> None:
        async with CpuPool(2, tmp_path).taken(2) as cores:
            assert cores == "0,1"

    async with CpuPool(2, tmp_path).taken(1):
        monkeypatch.setattr(cpus_module, "CORE_CHECK_SECONDS", 0.2)
        first = asyncio.create_task(take_all())  # has core 1, and looks for core 0 seldom
        await asyncio.sleep(0)
        monkeypatch.setattr(cpus_module, "CORE_CHECK_SECONDS", 0.001)
        second = asyncio.create_task(take_all())  # looks often
        await asyncio.sleep(0.01)
    await asyncio.wait_for(asyncio.gather(first, second), 20)


async def test_a_killed_process_keeps_no_core(tmp_path: Path) -> None:
    with another_process(HOLDER, tmp_path, "0") as holder:
        pool = CpuPool(2, tmp_path)
        async with pool.taken(1) as core:
            assert core == "1"
        both = asyncio.create_task(pool.taken(2).__aenter__())
        await asyncio.sleep(0.01)
        assert not both.done()
        holder.kill()
        assert await asyncio.wait_for(both, 60) == "0,1"


async def test_no_place_for_the_locks(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageFailed, match="cannot write"):
        async with CpuPool(1, tmp_path / "file/cpus").taken(1):
            pass


def _take_cores(directory: Path, barrier: Barrier, log: Connection) -> None:
    """A process that has cores again and again, and logs from when to when."""
    cpus_module.CORE_CHECK_SECONDS = 0.001
    pool, spans = CpuPool(3, directory), []

    async def one(cpus: float) -> None:
        async with pool.taken(cpus) as cores:
            begun = monotonic_ns()
            await asyncio.sleep(0.002)
            spans.extend((core, begun, monotonic_ns()) for core in cores.split(","))

    async def all_of_them() -> None:
        await asyncio.gather(*(one(1 + number % 2) for number in range(30)))

    barrier.wait(60)
    asyncio.run(all_of_them())
    log.send(spans)


def test_no_two_processes_have_the_same_core(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    spans: list[tuple[str, int, int]] = []
    with ExitStack() as ended:
        logs = []
        for _ in range(2):
            reader, writer = context.Pipe(duplex=False)
            process = context.Process(target=_take_cores, args=(tmp_path, barrier, writer))
            process.start()
            ended.callback(process.join)
            ended.callback(process.kill)
            writer.close()
            logs.append(ended.enter_context(reader))
        for log in logs:
            spans += log.recv()
    assert len(spans) == 2 * (15 + 30)
    for core in "012":
        mine = sorted(span[1:] for span in spans if span[0] == core)
        assert mine
        assert all(one[1] <= two[0] for one, two in pairwise(mine))
