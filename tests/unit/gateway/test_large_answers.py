"""Large answers take turns in memory, and each gives its room back however it ends."""

from __future__ import annotations

from runner.gateway.large_answers import HeldAnswer
from runner.gateway.room import RequestRoom

MOST = 1024 * 1024
LARGE = b"x" * MOST


async def held(room: RequestRoom) -> HeldAnswer:
    answer = HeldAnswer(room, MOST)
    await answer.add(LARGE)
    return answer


async def test_one_that_was_read_to_its_end_makes_room_for_the_next():
    room = RequestRoom(MOST)
    for _ in range(3):  # the second would wait for ever
        body = (await held(room)).body()
        assert not isinstance(body, bytes)
        assert b"".join([piece async for piece in body]) == LARGE


async def test_one_that_is_closed_unread_makes_room_for_the_next():
    room = RequestRoom(MOST)
    for _ in range(3):
        await (await held(room)).body().aclose()
