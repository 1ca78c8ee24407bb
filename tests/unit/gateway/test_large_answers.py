"""Few large answers are in memory at once, each until the agent has taken it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from runner.gateway.apis.strict_json import MAX_BRACKETS, load_object
from runner.gateway.calls import Refused
from runner.gateway.large_answers import HeldAnswer
from runner.gateway.room import RequestRoom

MOST = 1_000_000
LARGE = b"x" * MOST


async def held(room: RequestRoom, *pieces: bytes) -> HeldAnswer:
    answer = HeldAnswer(room, MOST)
    for piece in pieces:
        await answer.add(piece)
    return answer


async def test_a_small_answer_needs_no_room() -> None:
    room = RequestRoom(MOST)
    await room.take(MOST)
    assert (await held(room, b"a", b"b")).body() == b"ab"


async def test_a_large_one_waits_until_another_was_taken() -> None:
    room = RequestRoom(MOST)
    first = (await held(room, LARGE)).body()
    second = asyncio.create_task(held(room, LARGE))
    done, _ = await asyncio.wait({second}, timeout=0.05)
    assert not done
    assert isinstance(first, AsyncIterator)
    assert b"".join([piece async for piece in first]) == LARGE
    await first.aclose()
    (await second).close()
    assert await room.take(MOST) == MOST


async def test_one_that_was_read_to_its_end_needs_no_closing() -> None:
    room = RequestRoom(MOST)
    body = (await held(room, LARGE)).body()
    assert isinstance(body, AsyncIterator)
    assert b"".join([piece async for piece in body]) == LARGE
    async with asyncio.timeout(5):
        assert await room.take(MOST) == MOST


async def test_one_that_was_never_begun_gives_its_room_back() -> None:
    room = RequestRoom(MOST)
    body = (await held(room, LARGE)).body()
    assert not isinstance(body, bytes)
    await body.aclose()
    await body.aclose()
    assert await room.take(MOST) == MOST


async def test_one_that_breaks_off_gives_its_room_back() -> None:
    room = RequestRoom(MOST)
    (await held(room, LARGE)).close()
    assert await room.take(MOST) == MOST


def test_json_of_many_small_objects_is_not_parsed() -> None:
    with pytest.raises(Refused, match="too many objects"):
        load_object(b'{"a": [' + b"{}," * MAX_BRACKETS + b"{}]}")
