from __future__ import annotations

import asyncio

import pytest

from runner.gateway.waits import Clockwork


class Hands:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hands() -> Hands:
    return Hands()


def clockwork(hands: Hands, *, excuse: bool = True) -> Clockwork:
    return Clockwork(120.0, excuse_waits=excuse, clock=hands)


async def test_waits_that_overlap_count_once(hands: Hands) -> None:
    clock = clockwork(hands)
    async with clock.waiting():
        hands.now += 5
        async with clock.waiting():
            hands.now += 3
        hands.now += 2
    hands.now += 100
    async with clock.waiting():
        hands.now += 1
    assert clock.excused_seconds == 11
    assert clock.seconds_left == 109


async def test_waits_that_overlap_by_a_part_count_as_their_union(hands: Hands) -> None:
    clock = clockwork(hands)
    first, second = clock.waiting(), clock.waiting()
    await first.__aenter__()
    hands.now += 4
    await second.__aenter__()
    hands.now += 4
    await first.__aexit__(None, None, None)
    hands.now += 4
    await second.__aexit__(None, None, None)
    assert clock.excused_seconds == 12


async def test_a_wait_counts_while_it_lasts(hands: Hands) -> None:
    clock = clockwork(hands)
    async with clock.waiting():
        hands.now += 7
        assert clock.excused_seconds == 7
        assert clock.seconds_left == 113


async def test_a_wait_that_ends_with_an_error_has_ended(hands: Hands) -> None:
    clock = clockwork(hands)

    async def cancelled_wait() -> None:
        async with clock.waiting():
            hands.now += 2
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await cancelled_wait()
    hands.now += 50
    assert clock.excused_seconds == 2


async def test_no_more_is_excused_than_may_be_waited(hands: Hands) -> None:
    clock = clockwork(hands)
    async with clock.waiting():
        hands.now += 500
    assert clock.excused_seconds == 120
    assert clock.waited_seconds == 500
    assert clock.seconds_left == 0


async def test_waits_that_are_not_excused_are_still_limited_and_known(hands: Hands) -> None:
    clock = clockwork(hands, excuse=False)
    async with clock.model_call():
        hands.now += 1
        async with clock.waiting():
            hands.now += 20
    assert clock.excused_seconds == 0
    assert clock.waited_seconds == 20
    assert clock.seconds_left == 100
    assert clock.model_seconds == 21


async def test_model_calls_that_overlap_count_once_and_excused_waits_not(hands: Hands) -> None:
    clock = clockwork(hands)
    async with clock.model_call():
        hands.now += 1
        async with clock.model_call():
            hands.now += 2
            async with clock.waiting():
                hands.now += 30
            hands.now += 4
    hands.now += 100
    assert clock.model_seconds == 7
    assert clock.excused_seconds == 30
