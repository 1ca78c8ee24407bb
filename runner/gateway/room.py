"""How much of an agent's requests is in our memory at once."""

from __future__ import annotations

import asyncio
from collections import deque


class RequestRoom:
    """Bytes for the bodies of one attempt's requests, until they are answered; in turn."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._free = size
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, wanted: int) -> int:
        """Waits until `wanted` bytes are free; returns how many are to be given back."""
        wanted = min(wanted, self._size)
        if not self._queue and wanted <= self._free:
            self._free -= wanted
            return wanted
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((wanted, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(wanted)
            else:
                self._call_next()
            raise
        return wanted

    def give_back(self, taken: int) -> None:
        """Ends the use of so many bytes."""
        self._free += taken
        self._call_next()

    def _call_next(self) -> None:
        while self._queue:
            wanted, turn = self._queue[0]
            if not turn.cancelled():
                if wanted > self._free:
                    return
                self._free -= wanted
                turn.set_result(None)
            self._queue.popleft()
