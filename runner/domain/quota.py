"""How many submissions a submitter may make, and what became of those made."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import Field

from runner.domain.base import Noun

DAY = timedelta(days=1)
WEEK = timedelta(days=7)


class SubmissionQuota(Noun):
    """What each submitter has; windows slide, so that midnight gives nobody twice as many."""

    per_day: int = Field(default=5, ge=0)
    """In any 24 hours."""
    per_week: int = Field(default=20, ge=0)
    """In any 7 days."""


class QuotaUse(Noun):
    """What a submitter has used: all that was reserved and not refunded."""

    submitter: str
    day: int
    week: int
    next_free_at: datetime | None = None
    """When the oldest entry that stands in the way leaves its window; None: there is room now."""

    def exhausted(self, quota: SubmissionQuota) -> bool:
        """Whether not one submission more fits."""
        return self.day >= quota.per_day or self.week >= quota.per_week


class QuotaState(StrEnum):
    """Where an entry of the ledger stands."""

    RESERVED = "reserved"
    COMMITTED = "committed"
    REFUNDED = "refunded"


class RefundReason(StrEnum):
    """Why a submission does not count, for machines to read."""

    INFRASTRUCTURE_FAILED = "infrastructure_failed"
    """The run has no verdict, and the fault was ours."""
    CANCELLED_BEFORE_START = "cancelled_before_start"
    CANCELLED_BY_OPERATOR = "cancelled_by_operator"


class QuotaEntry(Noun):
    """One line of the ledger."""

    run_id: str
    submitter: str
    state: QuotaState
    reserved_at: datetime
    settled_at: datetime | None = None
    refund_reason: RefundReason | None = None
