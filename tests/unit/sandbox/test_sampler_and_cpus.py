"""Looking at memory again and again; whole cores for one container each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.errors import InsufficientResources
from runner.sandbox import sampler as sampler_module
from runner.sandbox.cgroup import Cgroup
from runner.sandbox.cpus import CpuPool
from runner.sandbox.sampler import Sampler
from runner.sandbox.settled import settled


class Figures(Cgroup):
    """A cgroup whose memory is another at every look, and which then disappears."""

    values: Iterator[str | None]
    looked: asyncio.Event

    def read(self, name: str) -> str | None:
        if name != "memory.current":
            return None
        value = next(self.values, None)
        if value is None:
            self.looked.set()
        return value


async def test_the_largest_figure_seen_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler_module, "PERIOD_SECONDS", 0)
    cgroup = Figures(2, {"": Path("/nowhere")})
    object.__setattr__(cgroup, "values", iter(["10\n", "900\n", "20\n", "rubbish"]))
    object.__setattr__(cgroup, "looked", asyncio.Event())
    sampler = Sampler(cgroup)
    assert sampler.peak_bytes == 0
    sampler.start()
    await cgroup.looked.wait()
    await sampler.stop()
    assert sampler.peak_bytes == 900


async def test_nothing_to_look_at() -> None:
    sampler = Sampler(None)
    sampler.start()
    await sampler.stop()
    await sampler.stop()
    assert sampler.peak_bytes == 0


# -- cores --------------------------------------------------------------------------------------


async def test_no_two_have_the_same_core() -> None:
    pool = CpuPool(3)
    async with pool.taken(1) as one, pool.taken(1.5) as two:
        assert (one, two) == ("0", "1,2")
        third = asyncio.create_task(pool.taken(0.5).__aenter__())
        await asyncio.sleep(0)
        assert not third.done()
        third.cancel()
    async with pool.taken(3) as all_of_them:
        assert all_of_them == "0,1,2"


async def test_who_waits_gets_what_is_given_back() -> None:
    pool, order = CpuPool(1), []

    async def take(name: str) -> None:
        async with pool.taken(1) as core:
            order.append((name, core))
            await asyncio.sleep(0)

    await asyncio.gather(take("a"), take("b"), take("c"))
    assert order == [("a", "0"), ("b", "0"), ("c", "0")]


async def test_more_cores_than_there_are() -> None:
    with pytest.raises(InsufficientResources, match="3 whole cores"):
        async with CpuPool(2).taken(2.1):
            pass


async def test_without_cores_nothing_is_pinned() -> None:
    async with CpuPool(0).taken(64) as cpuset:
        assert cpuset == ""


async def test_a_failure_gives_the_core_back() -> None:
    pool = CpuPool(1)
    with pytest.raises(RuntimeError):
        async with pool.taken(1):
            raise RuntimeError
    async with pool.taken(1) as core:
        assert core == "0"


# -- what goes on when nobody wants it any more -------------------------------------------------


async def test_work_is_finished_however_often_it_is_cancelled() -> None:
    going_on, finished = asyncio.Event(), []

    async def work() -> str:
        await going_on.wait()
        finished.append("work")
        return "value"

    waiting = asyncio.create_task(settled(work()))
    for _ in range(3):
        await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    going_on.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert finished == ["work"]


async def test_values_and_failures_come_through() -> None:
    async def value() -> int:
        return 7

    async def failure() -> int:
        raise KeyError

    assert (await settled(value())).result() == 7
    with pytest.raises(KeyError):
        (await settled(failure())).result()
