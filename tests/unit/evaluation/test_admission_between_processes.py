"""All runners of a host together claim no more than it has."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from time import monotonic_ns
from types import SimpleNamespace

import psutil
import pytest

from runner.domain import MIB, Limits
from runner.evaluation import admission as admission_module
from runner.evaluation.admission import Admission, HostCapacity
from runner.sandbox import claims as claims_module
from runner.sandbox.claims import SharedClaims

ATTEMPTS = 40
CPUS = 3.0
MEMORY_BYTES = 1000 * MIB
SMALL = Limits(memory_bytes=100 * MIB, cpus=1)
BIG = Limits(memory_bytes=100 * MIB, cpus=CPUS)


def capacity(directory: Path, *, local: bool = False) -> HostCapacity:
    return HostCapacity(
        cpus=CPUS,
        memory_bytes=MEMORY_BYTES,
        memory_fraction=1.0,
        evidence_directory=directory,
        local=local,
    )


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission_module, "MEMORY_CHECK_SECONDS", 0.001)


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[SharedClaims]:
    """Those of another runner."""
    with SharedClaims(tmp_path / "claims") as made:
        yield made


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[SharedClaims]:
    with SharedClaims(tmp_path / "claims") as made:
        yield made


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0.001)


# -- real processes -----------------------------------------------------------------------------


def _run_attempts(directory: Path, seed: int, barrier: Barrier, log: Connection) -> None:
    """A runner whose attempts are of all sizes, and which logs what they have, and when."""
    admission_module.MEMORY_CHECK_SECONDS = 0.002
    dice, events = random.Random(seed), []

    async def one(admission: Admission, limits: Limits, meeting: Barrier | None = None) -> None:
        async with admission.admitted(limits):
            events.append((monotonic_ns(), seed, limits.memory_bytes, limits.cpus))
            await asyncio.sleep(dice.choice([0.001, 0.004]))
            if meeting:
                await asyncio.to_thread(meeting.wait, 60)
            events.append((monotonic_ns(), seed, -limits.memory_bytes, -limits.cpus))

    async def all_of_them() -> None:
        with SharedClaims(directory / "claims") as claims:
            admission = Admission(capacity(directory), claims)
            await one(admission, SMALL, barrier)  # both have something once, for certain
            wanted = [
                Limits(
                    memory_bytes=dice.choice([50, 200, 400, 1000]) * MIB,
                    cpus=dice.choice([0.5, 1, 1, 2]),
                )
                for _ in range(ATTEMPTS)
            ]
            await asyncio.gather(*(one(admission, limits) for limits in wanted))

    asyncio.run(all_of_them())
    log.send(events)


def test_two_processes_never_claim_more_than_there_is(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    events = []
    with ExitStack() as ended:
        logs = []
        for seed in (1, 2):
            reader, writer = context.Pipe(duplex=False)
            process = context.Process(target=_run_attempts, args=(tmp_path, seed, barrier, writer))
            process.start()
            ended.callback(process.join)
            ended.callback(process.kill)
            writer.close()
            logs.append(ended.enter_context(reader))
        for log in logs:
            events += log.recv()
    assert len(events) == 2 * 2 * (1 + ATTEMPTS)
    memory = {1: 0, 2: 0}
    cpus = {1: 0.0, 2: 0.0}
    together = 0
    for _, seed, more_memory, more_cpus in sorted(events):
        memory[seed] += more_memory
        cpus[seed] += more_cpus
        assert sum(memory.values()) <= MEMORY_BYTES
        assert sum(cpus.values()) <= CPUS
        together += all(memory.values())
    assert together  # both ran at once, or nothing was tested


# -- two runners as this process sees them ------------------------------------------------------


async def test_what_another_runner_has_is_waited_for(
    tmp_path: Path, ours: SharedClaims, theirs: SharedClaims
) -> None:
    assert await theirs.take(SMALL, 0, lambda *_: True)
    waiting = asyncio.create_task(Admission(capacity(tmp_path), ours).admitted(BIG).__aenter__())
    await turns()
    assert not waiting.done()
    theirs.give_back(SMALL)
    await asyncio.wait_for(waiting, 20)


async def test_one_alone_means_alone_on_the_whole_host(
    tmp_path: Path, ours: SharedClaims, theirs: SharedClaims, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=0))
    admission = Admission(capacity(tmp_path, local=True), ours)
    async with admission.admitted(SMALL):
        pass
    assert await theirs.take(SMALL, 0, lambda *_: True)
    waiting = asyncio.create_task(admission.admitted(SMALL).__aenter__())
    await turns()
    assert not waiting.done()
    theirs.give_back(SMALL)
    await asyncio.wait_for(waiting, 20)


async def test_who_is_cancelled_while_waiting_has_claimed_nothing(
    tmp_path: Path, ours: SharedClaims, theirs: SharedClaims
) -> None:
    assert await theirs.take(SMALL, 0, lambda *_: True)
    admission = Admission(capacity(tmp_path), ours)
    waiting = [asyncio.create_task(admission.admitted(BIG).__aenter__()) for _ in range(3)]
    await turns(5)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    theirs.give_back(SMALL)
    seen = []
    await theirs.take(SMALL, 0, lambda *claimed: bool(seen.append(claimed)))
    assert seen == [(0, 0)]
    async with asyncio.timeout(20), admission.admitted(BIG):
        pass


async def test_who_is_cancelled_at_any_moment_has_claimed_nothing(
    tmp_path: Path, ours: SharedClaims
) -> None:
    admission = Admission(capacity(tmp_path), ours)

    async def hold() -> None:
        async with admission.admitted(BIG):
            await asyncio.sleep(0)

    for moment in range(12):
        tasks = [asyncio.create_task(hold()) for _ in range(3)]
        for _ in range(moment):
            await asyncio.sleep(0)
        for task in tasks[:2]:
            task.cancel()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
        assert ours._taken == []


async def test_a_big_one_is_not_starved_by_small_ones(tmp_path: Path, ours: SharedClaims) -> None:
    admission, served = Admission(capacity(tmp_path), ours), []

    async def one(limits: Limits) -> None:
        async with admission.admitted(limits):
            served.append(limits)
            await asyncio.sleep(0.001)

    await asyncio.gather(one(SMALL), one(SMALL), one(BIG), *(one(SMALL) for _ in range(20)))
    assert served[:3] == [SMALL, SMALL, BIG]


async def test_a_big_one_is_not_starved_by_another_runner(
    tmp_path: Path, ours: SharedClaims, theirs: SharedClaims, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims_module, "PATIENCE_SECONDS", 0.05)
    other, ended = Admission(capacity(tmp_path), theirs), asyncio.Event()

    async def small_ones_without_end() -> None:
        while not ended.is_set():
            async with other.admitted(SMALL):
                await asyncio.sleep(0.002)

    busy = [asyncio.create_task(small_ones_without_end()) for _ in range(6)]
    await turns(5)
    async with asyncio.timeout(20), Admission(capacity(tmp_path), ours).admitted(BIG):
        ended.set()
    await asyncio.gather(*busy)
