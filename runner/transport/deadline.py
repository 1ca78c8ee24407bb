"""How long an agent may take: its limit, put off by what the gateway excuses, cut by a budget."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from runner.ports import GatewayAccess

BUDGET_GRACE_SECONDS = 2.0
"""For the agent to read that a call was refused, and to end by itself."""
LOOK_AGAIN_SECONDS = 0.02
"""While the deadline is being put off, which it is by as much as time goes by."""

T = TypeVar("T")


class BudgetSpent(Exception):
    """The agent did not end by itself after a call was refused over budget."""


class Deadline:
    """The time of one question, from `begin` to `end`; what is excused is not in it."""

    def __init__(self, seconds: float, access: GatewayAccess | None) -> None:
        self._seconds = seconds
        self.access = access
        self._began = 0.0
        self.wall_seconds = 0.0
        self.excused_seconds = 0.0

    def begin(self) -> None:
        """From now on time counts."""
        self._began = time.monotonic()

    def end(self) -> None:
        """The figures are final."""
        self.excused_seconds = self._excused()
        self.wall_seconds = max(0.0, time.monotonic() - self._began - self.excused_seconds)

    def left(self) -> float:
        """Seconds, as things are now; less than 0 once it is over."""
        return self._began + self._seconds + self._excused() - time.monotonic()

    def _excused(self) -> float:
        return self.access.excused_seconds if self.access else 0.0


async def within(deadline: Deadline, asking: Coroutine[Any, Any, T]) -> T:
    """The outcome of `asking`, which is cancelled otherwise; `deadline` has ended then.

    Raises TimeoutError; BudgetSpent, where a budget was met and the agent went on nevertheless.
    """
    answer = asyncio.create_task(asking)
    over = asyncio.create_task(_over(deadline.access))
    try:
        await _first_of(deadline, {answer, over})
        if over.done() and not answer.done():
            over.result()
            grace = min(BUDGET_GRACE_SECONDS, deadline.left())
            await asyncio.wait({answer}, timeout=max(0.0, grace))
        if answer.done():
            return answer.result()
        raise BudgetSpent if over.done() else TimeoutError
    finally:
        deadline.end()
        answer.cancel()
        over.cancel()
        await asyncio.gather(answer, over, return_exceptions=True)


async def _over(access: GatewayAccess | None) -> None:
    if access:
        await access.over()
    else:
        await asyncio.get_running_loop().create_future()


async def _first_of(deadline: Deadline, tasks: set[asyncio.Task[Any]]) -> None:
    """Waits for one of `tasks`, or for the deadline, wherever that is by then."""
    while (left := deadline.left()) > 0:
        left = max(left, LOOK_AGAIN_SECONDS)
        done, _ = await asyncio.wait(tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if done:
            return
