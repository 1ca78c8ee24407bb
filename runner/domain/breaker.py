"""A circuit breaker as a value: what it has seen, and whether a call may be made now.

Closed: calls pass, failures in a row are counted. Open: no call passes until some time has gone by.
Half-open: one call at a time passes; successes close it, one failure opens it again.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import Field

from runner.domain.base import Noun


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
    successes: int = 0
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


GRANTED = Permission(granted=True)


def retry_at(breaker: Breaker, policy: BreakerPolicy) -> datetime | None:
    """When an open breaker lets a call through; None unless it is open."""
    if breaker.state is not BreakerState.OPEN or breaker.opened_at is None:
        return None
    return breaker.opened_at + timedelta(seconds=policy.open_seconds)
