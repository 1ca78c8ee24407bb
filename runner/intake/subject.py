"""What the checks of a submission look at, and how they say what they found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

from runner.domain import (
    BenchmarkSubmission,
    CheckName,
    CheckOutcome,
    JobOptions,
    QuotaUse,
    Schedule,
    SubmissionQuota,
    Suite,
)
from runner.domain.text import one_line
from runner.errors import InfrastructureError, RunnerError


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What the operator has set."""

    quota: SubmissionQuota
    organizations: tuple[str, ...] = ()
    """Shell patterns; empty: any."""
    credential_variables: tuple[str, ...] = ()
    """Shell patterns of the variables that a manifest may name: any other would let a stranger
    have the host's own secrets sent to a URL of his."""
    allow_plain_http: bool = False


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What the checks look at. What could not be found out is the error that says why."""

    submission: BenchmarkSubmission
    options: JobOptions
    schedule: Schedule
    rules: Rules
    environ: Mapping[str, str]
    now: datetime
    suite: Suite | RunnerError
    quota_use: QuotaUse | RunnerError
    reached: str | RunnerError
    """One line of what was found at the endpoint."""


def passed(name: CheckName, message: str) -> CheckOutcome:
    """The outcome of a check that found nothing wrong."""
    return CheckOutcome(name=name, passed=True, message=one_line(message))


def failed(name: CheckName, message: str, remedy: str) -> CheckOutcome:
    """The outcome of a check that found `message` wrong."""
    return CheckOutcome(
        name=name, passed=False, message=one_line(message, 600), remedy=one_line(remedy)
    )


def unknown(name: CheckName, what: str, error: RunnerError) -> CheckOutcome:
    """The outcome of a check whose subject could not be had."""
    if isinstance(error, InfrastructureError):
        message = f"{what}, through a fault of our side, not of the submission: {error.message}"
        return failed(name, message, error.remedy or "try again later, or tell the operator")
    return failed(name, error.message, error.remedy)


def fits(text: str, patterns: Iterable[str]) -> bool:
    """Whether one of the shell patterns matches."""
    return any(fnmatchcase(text, pattern) for pattern in patterns)
