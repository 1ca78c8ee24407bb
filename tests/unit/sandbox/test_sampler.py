"""Looking at memory again and again; work that is finished though nobody wants it any more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.sandbox import sampler as sampler_module
from runner.sandbox.cgroup import Cgroup
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
