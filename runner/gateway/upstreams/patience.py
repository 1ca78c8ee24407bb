"""When a request is sent to an upstream again, and how long that is waited for."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Generic, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from runner.gateway.calls import Waits

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]

FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 30.0
MAX_ASKED_SECONDS = 86_400.0
"""What a provider asks for beyond this is read as this."""

PASSING_STATUSES = frozenset({408, 429, 500, 502, 503, 504, 520, 522, 524, 529})
"""Those of trouble that may be over soon: also Anthropic's and Cloudflare's own."""

_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_DURATION = re.compile(
    r"(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m(?!s))?(?:([0-9.]{1,12})s)?(?:([0-9]{1,9})ms)?"
)
_MAX_HEADER = 64


class Trouble(Exception, Generic[T]):
    """One try failed in a way that may pass. Its text is inert."""

    def __init__(self, reason: str, *, asked_seconds: float = 0.0, answer: T | None = None) -> None:
        super().__init__(reason)
        self.asked_seconds = asked_seconds
        """How long the provider wants to be left alone."""
        self.answer = answer
        """What it said; None: it was not reached."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How often one call is sent again, with a pause before each."""

    retries: int
    sleep: Sleep = asyncio.sleep

    async def until_answered(self, once: Callable[[], Awaitable[T]], waits: Waits) -> T:
        """What `once` returns in the end; raises its last Trouble.

        Pauses grow exponentially, with full jitter, and are no shorter than what is asked for. A
        pause that is longer than what may still be waited is not begun.
        """
        try:
            return await once()
        except Trouble as trouble:
            return await self._until_answered(_then(trouble, once), waits)

    async def _until_answered(self, once: Callable[[], Awaitable[T]], waits: Waits) -> T:
        async def rest(seconds: float) -> None:
            async with waits.waiting():
                await self.sleep(seconds)

        def enough(state: RetryCallState) -> bool:
            too_often = state.attempt_number > self.retries
            return too_often or state.upcoming_sleep > waits.seconds_left

        retrying = AsyncRetrying(
            sleep=rest,
            retry=retry_if_exception_type(Trouble),
            wait=_Delay(),
            stop=enough,
            reraise=True,
        )
        return await retrying(once)


def _then(trouble: Trouble[T], once: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[T]]:
    """The first try again, which was made before anybody had to count them, and then others."""
    first = [trouble]

    async def told_or_tried() -> T:
        if first:
            raise first.pop()
        return await once()

    return told_or_tried


class _Delay:
    def __init__(self) -> None:
        self._backoff = wait_random_exponential(
            multiplier=FIRST_DELAY_SECONDS, max=LONGEST_DELAY_SECONDS
        )

    def __call__(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.asked_seconds if isinstance(error, Trouble) else 0.0
        return max(asked, self._backoff(state))


def asked_seconds(headers: Mapping[str, str], now: datetime) -> float:
    """How long an answer asks to wait, at most a day; 0 where it asks nothing that makes sense.

    Read are `retry-after-ms`, `retry-after` (seconds or a date) and, where neither is there,
    the `x-ratelimit-reset-*` of a limit of which nothing remains.
    """
    if (milliseconds := _number(headers.get("retry-after-ms", ""))) is not None:
        return _capped(milliseconds / 1000)
    if "retry-after" in headers:
        return _retry_after(headers["retry-after"], now)
    resets = [
        _duration(headers.get(f"x-ratelimit-reset-{kind}", ""))
        for kind in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{kind}", "").strip() == "0"
    ]
    return max(resets, default=0.0)


def _retry_after(header: str, now: datetime) -> float:
    text = header.strip()
    if (seconds := _number(text)) is not None:
        return _capped(seconds)
    if len(text) > _MAX_HEADER:
        return 0.0
    try:
        date = parsedate_to_datetime(text)
        return _capped((date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0


def _number(text: str) -> float | None:
    stripped = text.strip()
    return float(stripped) if _NUMBER.fullmatch(stripped) else None


def _duration(text: str) -> float:
    """As OpenAI writes it: `6m0s`, `1.5s`, `20ms`."""
    found = _DURATION.fullmatch(text.strip()[:_MAX_HEADER])
    if found is None:
        return 0.0
    hours, minutes, seconds, milliseconds = found.groups()
    whole = int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(milliseconds or 0) / 1000
    return _capped(whole + (_number(seconds or "") or 0.0))


def _capped(seconds: float) -> float:
    return min(max(0.0, seconds), MAX_ASKED_SECONDS)
