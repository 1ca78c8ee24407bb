"""When a remote agent is asked again within one attempt, and how long that is waited for."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    retry_if_not_exception_type,
    wait_exponential,
    wait_random,
)

from runner.transport.connections import NotReached, NotTrusted

T = TypeVar("T")

FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 30.0
JITTER_SECONDS = 0.5
MAX_RETRY_AFTER_SECONDS = 86_400.0
"""What a provider asks for beyond this is read as this."""

NOT_NOW_STATUSES = frozenset({429, 502, 503, 504})

_DIGITS = re.compile(r"[0-9]+")
_MAX_HEADER = 64


class NotNow(Exception):
    """The endpoint's provider wants to be asked later. Its text is inert."""

    def __init__(self, status: int, retry_after_seconds: float) -> None:
        super().__init__(f"the endpoint answered with HTTP status {status}")
        self.retry_after_seconds = retry_after_seconds


class Patience:
    """One attempt's: counts all time in which no request was with the agent."""

    def __init__(
        self, retries: int, max_wait_seconds: float, sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self.waited_seconds = 0.0
        self.tries = 0
        self._retries = retries
        self._max_wait_seconds = max_wait_seconds
        self._sleep = sleep
        self._backoff = wait_exponential(
            multiplier=FIRST_DELAY_SECONDS, max=LONGEST_DELAY_SECONDS
        ) + wait_random(max=JITTER_SECONDS)
        self._retrying = AsyncRetrying(
            sleep=self._rest,
            retry=retry_if_exception_type((NotReached, NotNow))
            & retry_if_not_exception_type(NotTrusted),
            wait=self._delay,
            stop=self._enough,
            reraise=True,
        )

    async def until_heard(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` returns in the end; raises its last NotReached or NotNow."""
        return await self._retrying(self._timed, ask)

    async def _timed(self, ask: Callable[[], Awaitable[T]]) -> T:
        started = time.monotonic()
        self.tries += 1
        try:
            return await ask()
        except (NotReached, NotNow):
            self.waited_seconds += time.monotonic() - started
            raise

    def _delay(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after_seconds if isinstance(error, NotNow) else 0.0
        return max(asked, self._backoff(state))

    def _enough(self, state: RetryCallState) -> bool:
        too_often = state.attempt_number > self._retries
        return too_often or self.waited_seconds + state.upcoming_sleep > self._max_wait_seconds

    async def _rest(self, seconds: float) -> None:
        await self._sleep(seconds)
        self.waited_seconds += seconds


def retry_after_seconds(header: str, now: datetime) -> float:
    """How long a Retry-After header asks to wait, at most a day; 0 when it makes no sense."""
    text = header.strip()
    if _DIGITS.fullmatch(text):
        return MAX_RETRY_AFTER_SECONDS if len(text) > 5 else _capped(float(text))
    if len(text) > _MAX_HEADER:
        return 0.0
    try:
        date = parsedate_to_datetime(text)
        return _capped((date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0


def _capped(seconds: float) -> float:
    return min(max(0.0, seconds), MAX_RETRY_AFTER_SECONDS)
