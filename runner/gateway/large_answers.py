"""How much of models' answers that are no streams is in our memory at once."""

from __future__ import annotations

from collections.abc import AsyncIterator

from runner.gateway.room import RequestRoom

_SMALL_ANSWER = 256 * 1024
"""Answers up to this size take no room: what all connections can hold of them is little."""
_PIECE = 64 * 1024


class HeldAnswer:
    """One answer while it is read, and until the agent has taken it.

    Once it turns out to be large it waits for room for the largest, and its provider with it: with
    less, answers that wait for one another could each hold a part of it.
    """

    def __init__(self, room: RequestRoom, most: int) -> None:
        self._room = room
        self._most = most
        self._taken: int | None = None
        self._pieces: list[bytes] = []
        self._size = 0

    async def add(self, piece: bytes) -> None:
        """The next one; returns once there is room for more."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > _SMALL_ANSWER and self._taken is None:
            self._taken = await self._room.take(self._most)

    def body(self) -> bytes | AsyncIterator[bytes]:
        """All of it; a large one is to be closed by its reader."""
        body = b"".join(self._pieces)
        self._pieces.clear()
        return body if self._taken is None else _LargeBody(body, self)

    def close(self) -> None:
        """Gives its room back; may be repeated."""
        taken, self._taken = self._taken, None
        if taken is not None:
            self._room.give_back(taken)


class _LargeBody:
    """Holds its room until its end, or until it is closed, also where it was never begun."""

    def __init__(self, body: bytes, held: HeldAnswer) -> None:
        self._left = memoryview(body)
        self._held = held

    def __aiter__(self) -> _LargeBody:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            self._held.close()
            raise StopAsyncIteration
        piece, self._left = bytes(self._left[:_PIECE]), self._left[_PIECE:]
        return piece

    async def aclose(self) -> None:
        """Gives its room back."""
        self._left = memoryview(b"")
        self._held.close()
