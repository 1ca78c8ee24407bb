"""What all runners of a host have claimed of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.domain import MIB, Limits
from runner.errors import StorageFailed
from runner.sandbox import claims as claims_module
from runner.sandbox.claims import SharedClaims
from runner.sandbox.locks import take_lock

from .holding import another_process

LIMITS = Limits(memory_bytes=100 * MIB, cpus=0.1)
HOLDER = """
import asyncio, sys
from pathlib import Path
from runner.domain import Limits
from runner.sandbox.claims import SharedClaims

async def hold():
    with SharedClaims(Path(sys.argv[1])) as claims:
        assert await claims.take(Limits(memory_bytes=7, cpus=0.25), 0, lambda *_: True)
        print("claimed", flush=True)
        sys.stdin.read()

asyncio.run(hold())
"""


class Clock:
    """The monotonic clock of this host, as it is told to go."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(claims_module, "monotonic", made)
    return made


@pytest.fixture
def one(tmp_path: Path) -> Iterator[SharedClaims]:
    with SharedClaims(tmp_path) as made:
        yield made


@pytest.fixture
def two(tmp_path: Path) -> Iterator[SharedClaims]:
    with SharedClaims(tmp_path) as made:
        yield made


def files(directory: Path) -> int:
    return len(list(directory.glob("*.claims")))


def yes(_memory_bytes: int, _cpus: float) -> bool:
    return True


def no(_memory_bytes: int, _cpus: float) -> bool:
    return False


async def claimed(claims: SharedClaims) -> tuple[int, float]:
    """What all have claimed, as `claims` sees it."""
    seen: list[tuple[int, float]] = []

    def look(memory_bytes: int, cpus: float) -> bool:
        seen.append((memory_bytes, round(cpus, 6)))
        return False

    assert not await claims.take(LIMITS, 0, look)
    return seen[0]


async def test_each_sees_what_all_have(one: SharedClaims, two: SharedClaims) -> None:
    assert await claimed(one) == (0, 0)
    for _ in range(3):
        assert await one.take(LIMITS, 0, yes)
    assert await two.take(LIMITS.model_copy(update={"cpus": 1 / 3}), 0, yes)
    assert await claimed(one) == await claimed(two) == (400 * MIB, 0.633333)
    one.give_back(LIMITS)
    assert await claimed(one) == await claimed(two) == (300 * MIB, 0.533333)


async def test_what_does_not_fit_is_not_claimed(one: SharedClaims, two: SharedClaims) -> None:
    assert not await one.take(LIMITS, 0, no)
    assert await claimed(two) == (0, 0)


async def test_a_runner_that_ends_leaves_nothing(one: SharedClaims, tmp_path: Path) -> None:
    with SharedClaims(tmp_path) as other:
        assert await other.take(LIMITS, 0, yes)
        assert await claimed(one) == (100 * MIB, 0.1)
    assert await claimed(one) == (0, 0)
    assert files(tmp_path) == 1


async def test_a_killed_runner_has_claimed_nothing(one: SharedClaims, tmp_path: Path) -> None:
    with another_process(HOLDER, tmp_path, "claimed") as holder:
        assert await claimed(one) == (7, 0.25)
        holder.kill()
        holder.wait(60)
        assert files(tmp_path) == 2
        assert await claimed(one) == (0, 0)
    assert files(tmp_path) == 1


async def test_a_damaged_file_counts_only_where_its_runner_lives(
    one: SharedClaims, tmp_path: Path
) -> None:
    damaged = tmp_path / "other.claims"
    damaged.write_bytes(b"rubbish\n")
    assert await claimed(one) == (0, 0)
    assert not damaged.exists()
    damaged.write_bytes(b"rubbish\n")
    held = take_lock(damaged)
    assert held is not None
    with pytest.raises(StorageFailed, match=r"other\.claims is damaged"):
        await claimed(one)
    os.ftruncate(held, 0)  # as new
    assert await claimed(one) == (0, 0)
    os.close(held)


async def test_who_looks_is_waited_for_and_the_event_loop_goes_on(
    one: SharedClaims, tmp_path: Path
) -> None:
    held = take_lock(tmp_path / "lock")
    assert held is not None
    taking = asyncio.create_task(one.take(LIMITS, 0, yes))
    await asyncio.sleep(0.01)
    assert not taking.done()
    os.close(held)
    assert await asyncio.wait_for(taking, 20)


async def test_who_is_cancelled_while_waiting_has_claimed_nothing(
    one: SharedClaims, two: SharedClaims, tmp_path: Path
) -> None:
    held = take_lock(tmp_path / "lock")
    assert held is not None
    taking = asyncio.create_task(one.take(LIMITS, 0, yes))
    await asyncio.sleep(0)
    taking.cancel()
    os.close(held)
    with pytest.raises(asyncio.CancelledError):
        await taking
    assert await claimed(two) == await claimed(one) == (0, 0)


async def test_giving_back_never_waits_and_is_told_later(
    one: SharedClaims, two: SharedClaims, tmp_path: Path
) -> None:
    assert await one.take(LIMITS, 0, yes)
    held = take_lock(tmp_path / "lock")
    assert held is not None
    one.give_back(LIMITS)
    os.close(held)
    assert one._telling is not None
    await asyncio.wait_for(one._telling, 20)
    assert await claimed(two) == (0, 0)


async def test_ending_is_not_held_up_by_what_is_still_to_be_told(tmp_path: Path) -> None:
    with SharedClaims(tmp_path) as made:
        assert await made.take(LIMITS, 0, yes)
        held = take_lock(tmp_path / "lock")
        assert held is not None
        made.give_back(LIMITS)
    os.close(held)
    telling = made._telling
    assert telling is not None
    await asyncio.wait_for(telling, 20)
    assert files(tmp_path) == 0


async def test_who_has_waited_for_long_goes_first(
    one: SharedClaims, two: SharedClaims, clock: Clock
) -> None:
    assert not await one.take(LIMITS, 1000, no)
    clock.now = 1004
    assert not await one.take(LIMITS, 1000, no)
    assert await two.take(LIMITS, 1004, yes)  # room that is there is not left empty at once
    clock.now = 1005
    assert not await two.take(LIMITS, 1005, yes)
    assert await one.take(LIMITS, 1000, yes)
    assert await two.take(LIMITS, 1005, yes)


async def test_of_two_that_have_waited_for_long_the_first_goes_first(
    one: SharedClaims, two: SharedClaims, clock: Clock
) -> None:
    assert not await one.take(LIMITS, 1000, no)
    clock.now = 1001
    assert not await two.take(LIMITS, 1001, no)
    clock.now = 1010
    assert not await one.take(LIMITS, 1000, no)
    assert not await two.take(LIMITS, 1001, yes)
    assert await one.take(LIMITS, 1000, yes)
    assert await two.take(LIMITS, 1001, yes)


async def test_who_does_not_ask_any_more_holds_nobody_up(
    one: SharedClaims, two: SharedClaims, clock: Clock
) -> None:
    assert not await one.take(LIMITS, 1000, no)
    clock.now = 1005.1
    assert await two.take(LIMITS, 1005.1, yes)


def test_no_place_for_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StorageFailed, match="cannot write"),
        SharedClaims(tmp_path / "file/claims"),
    ):
        pass
