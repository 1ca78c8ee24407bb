"""What the settings say of breakers and quotas, as the domain's own types."""

from __future__ import annotations

from runner.config import Settings
from runner.domain import BreakerPolicy, SubmissionQuota


def breaker_policy(settings: Settings) -> BreakerPolicy:
    """When breakers open and close."""
    return BreakerPolicy(**settings.breaker.model_dump())


def quota_of(settings: Settings) -> SubmissionQuota:
    """What each submitter has."""
    given = settings.submissions
    return SubmissionQuota(per_day=given.quota_per_day, per_week=given.quota_per_week)
