"""A circuit breaker as a value: what it has seen, and whether a call may be made now.

Closed: calls pass, failures in a row are counted. Open: no call passes until some time has gone by.
Half-open: one call at a time passes; successes close it, one failure opens it again.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never

from pydantic import Field

from runner.domain.base import Noun
from runner.domain.text import one_line


class BreakerState(StrEnum):
    """Whether calls pass."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class BreakerPolicy(Noun):
    """When it opens and when it closes again."""

    failures: int = Field(default=5, ge=1)
    """In a row, to open."""
    successes: int = Field(default=2, ge=1)
    """In a row while half-open, to close."""
    open_seconds: float = Field(default=300.0, gt=0)
    """Before the first call is let through again."""
    probe_seconds: float = Field(default=600.0, gt=0)
    """After which a call let through while half-open, and never heard of again, counts as lost."""


class Breaker(Noun):
    """One breaker's memory."""

    state: BreakerState = BreakerState.CLOSED
    failures: int = 0
    """Since it was as new: in a row, for a success makes a closed one as new."""
    successes: int = 0
    """While half-open."""
    opened_at: datetime | None = None
    probing_since: datetime | None = None
    """While half-open: since when one call is under way."""
    last_failure: str = ""
    """One line of inert text."""


class BreakerStatus(Noun):
    """A breaker under its name, for a status display."""

    name: str
    """`endpoint https://host:port` or `engine <id>`."""
    breaker: Breaker
    retry_at: datetime | None = None
    """When an open one lets the next call through."""


class Permission(Noun):
    """Whether a call may be made."""

    granted: bool
    retry_at: datetime | None = None
    """When to ask again, where it is not."""
    reason: str = ""
    """The last failure, where it is not."""
    probing: bool = False
    """It is not, but a call is under way that shows, sooner than `retry_at`, how things are."""


GRANTED = Permission(granted=True)


AS_NEW = Breaker()


def retry_at(breaker: Breaker, policy: BreakerPolicy) -> datetime | None:
    """When an open breaker lets a call through; None unless it is open."""
    if breaker.state is not BreakerState.OPEN or breaker.opened_at is None:
        return None
    return breaker.opened_at + timedelta(seconds=policy.open_seconds)


def allow(breaker: Breaker, policy: BreakerPolicy, now: datetime) -> tuple[Breaker, Permission]:
    """Whether a call may be made, and the breaker after it was asked.

    Whoever is allowed while it is half-open must tell how it went: no other passes until then, or
    until the call counts as lost.
    """
    match breaker.state:
        case BreakerState.CLOSED:
            return breaker, GRANTED
        case BreakerState.OPEN:
            return _allow_open(breaker, policy, now)
        case BreakerState.HALF_OPEN:
            return _allow_half_open(breaker, policy, now)
        case _ as unreachable:
            assert_never(unreachable)


def _allow_open(
    breaker: Breaker, policy: BreakerPolicy, now: datetime
) -> tuple[Breaker, Permission]:
    opened_at = _not_after(now, breaker.opened_at)
    until = opened_at + timedelta(seconds=policy.open_seconds)
    if now < until:
        return _changed(breaker, opened_at=opened_at), _refused(breaker, until, probing=False)
    return _probing(breaker, now)


def _allow_half_open(
    breaker: Breaker, policy: BreakerPolicy, now: datetime
) -> tuple[Breaker, Permission]:
    if breaker.probing_since is None:
        return _probing(breaker, now)
    since = _not_after(now, breaker.probing_since)
    lost_at = since + timedelta(seconds=policy.probe_seconds)
    if now >= lost_at:
        return _probing(breaker, now)
    # The call under way will most often end long before it would count as lost.
    until = min(lost_at, now + timedelta(seconds=policy.open_seconds))
    return _changed(breaker, probing_since=since), _refused(breaker, until, probing=True)


def succeeded(breaker: Breaker, policy: BreakerPolicy, now: datetime) -> Breaker:  # noqa: ARG001 -- the three are called alike
    """The breaker after a call that went well.

    One that began before it opened, and comes late, does not close it.
    """
    match breaker.state:
        case BreakerState.CLOSED:
            return AS_NEW
        case BreakerState.OPEN:
            return breaker
        case BreakerState.HALF_OPEN if breaker.probing_since is None:
            return breaker
        case BreakerState.HALF_OPEN if breaker.successes + 1 >= policy.successes:
            return AS_NEW
        case BreakerState.HALF_OPEN:
            return _changed(breaker, successes=breaker.successes + 1, probing_since=None)
        case _ as unreachable:
            assert_never(unreachable)


def failed(breaker: Breaker, policy: BreakerPolicy, now: datetime, reason: str) -> Breaker:
    """The breaker after a call that failed; one that comes late does not lengthen the pause."""
    told = _changed(breaker, last_failure=one_line(reason), failures=breaker.failures + 1)
    match breaker.state:
        case BreakerState.CLOSED:
            return _opened(told, now) if told.failures >= policy.failures else told
        case BreakerState.OPEN:
            return told
        case BreakerState.HALF_OPEN:
            return _opened(told, now)
        case _ as unreachable:
            assert_never(unreachable)


def withdrawn(breaker: Breaker) -> Breaker:
    """The breaker after a call that was given up: it says nothing, and another one may probe."""
    return _changed(breaker, probing_since=None)


def _changed(breaker: Breaker, **fields: object) -> Breaker:
    return breaker.model_copy(update=fields)


def _opened(breaker: Breaker, now: datetime) -> Breaker:
    return _changed(
        breaker, state=BreakerState.OPEN, opened_at=now, successes=0, probing_since=None
    )


def _probing(breaker: Breaker, now: datetime) -> tuple[Breaker, Permission]:
    half_open = BreakerState.HALF_OPEN
    return _changed(breaker, state=half_open, opened_at=None, probing_since=now), GRANTED


def _refused(breaker: Breaker, until: datetime, *, probing: bool) -> Permission:
    last = breaker.last_failure
    return Permission(granted=False, retry_at=until, reason=last, probing=probing)


def _not_after(now: datetime, moment: datetime | None) -> datetime:
    """`moment`, or `now` if the clock was set back since: no pause gets longer by it."""
    return now if moment is None else min(moment, now)
