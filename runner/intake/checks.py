"""The eleven checks of a submission: each says what it found, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase

from email_validator import EmailNotValidError, validate_email

from runner.domain import (
    AgentEndpoint,
    BenchmarkTask,
    CheckName,
    CheckOutcome,
    Suite,
)
from runner.domain.text import one_line
from runner.errors import RunnerError
from runner.intake.endpoint import authentication, endpoint_reachable, endpoint_type
from runner.intake.packages import requirements_problem
from runner.intake.subject import Subject, failed, fits, passed, unknown

LONGEST_EMAIL = 254
"""RFC 5321, as corrected by its errata; also keeps the validator's work small."""

SEMANTIC_VERSION = re.compile(
    r"(?:0|[1-9][0-9]*)\.(?:0|[1-9][0-9]*)\.(?:0|[1-9][0-9]*)"
    r"(?:-(?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)"
    r"(?:\.(?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*))*)?"
    r"(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?"
)
"""semver.org, 2.0.0; to be matched in full."""


def run_checks(subject: Subject) -> tuple[CheckOutcome, ...]:
    """The outcomes of all eleven, in their order."""
    return tuple(check(subject) for check in CHECKS.values())


# -- who hands it in -----------------------------------------------------------------------------


def required_fields(subject: Subject) -> CheckOutcome:
    """Whether everything is there that an evaluation cannot do without."""
    submission = subject.submission
    missing = [
        name
        for name in ("agent_name", "agent_version", "contact_email", "submitted_by")
        if not getattr(submission, name).strip()
    ]
    name = CheckName.REQUIRED_FIELDS
    if missing:
        listed = ", ".join(missing)
        return failed(name, f"missing: {listed}", f"add {listed}")
    return passed(name, f"submitted by {submission.submitted_by}")


def terms_accepted(subject: Subject) -> CheckOutcome:
    """Whether the submitter has agreed to the operator's terms."""
    if subject.submission.terms_accepted:
        return passed(CheckName.TERMS_ACCEPTED, "accepted")
    return failed(
        CheckName.TERMS_ACCEPTED, "the terms are not accepted", "set terms_accepted = true"
    )


def email_valid(subject: Subject) -> CheckOutcome:
    """Whether the address could exist, by its form alone: nothing is looked up."""
    name, address = CheckName.EMAIL_VALID, subject.submission.contact_email
    remedy = "write contact_email as NAME@HOST.TLD"
    if not address:
        return failed(name, "not checked: there is no contact_email", remedy)
    if len(address) > LONGEST_EMAIL:
        return failed(name, f"contact_email is longer than {LONGEST_EMAIL} characters", remedy)
    try:
        validate_email(address, check_deliverability=False)
    except EmailNotValidError as error:
        return failed(name, f"'{one_line(address, 80)}': {error}", remedy)
    return passed(name, address)


def organization(subject: Subject) -> CheckOutcome:
    """Whether the organisation is one that the operator knows."""
    name, given = CheckName.ORGANIZATION, subject.submission.organization or ""
    allowed = subject.rules.organizations
    if not allowed:
        return passed(name, given or "none given; any may submit")
    if fits(given, allowed):
        return passed(name, given)
    what = f"'{one_line(given, 80)}' is not known here" if given else "none is given"
    return failed(
        name, what, f"known are: {', '.join(allowed)} (setting submissions.organizations)"
    )


def version_format(subject: Subject) -> CheckOutcome:
    """Whether the version says, by semantic versioning, which of two is newer."""
    name, version = CheckName.VERSION_FORMAT, subject.submission.agent_version
    if SEMANTIC_VERSION.fullmatch(version):
        return passed(name, version)
    return failed(
        name,
        f"'{one_line(version, 60)}' is not a semantic version",
        "write MAJOR.MINOR.PATCH, as in 1.0.0 (semver.org)",
    )


# -- what it is to be evaluated on ---------------------------------------------------------------


def categories_valid(subject: Subject) -> CheckOutcome:
    """Whether the suite has tasks of every category asked for."""
    name, suite = CheckName.CATEGORIES_VALID, subject.suite
    if isinstance(suite, RunnerError):
        return unknown(name, "the suite cannot be loaded", suite)
    wanted = subject.submission.categories
    missing = [str(one) for one in wanted if all(t.category != one for t in suite.tasks)]
    if missing:
        there = sorted({str(task.category) for task in suite.tasks})
        return failed(
            name,
            f"suite {suite.name} has no task of {', '.join(missing)}",
            f"it has {', '.join(there)}",
        )
    count = len(_chosen(suite, subject))
    if not count:
        return failed(name, "no task is asked for", "choose other tasks (-t), or leave that out")
    shown = ", ".join(map(str, wanted)) or "all"
    return passed(name, f"{shown}: {count} task{'s' if count > 1 else ''}")


def config_valid(subject: Subject) -> CheckOutcome:
    """Whether all that was asked for can be had, and nothing is likely to be a mistake."""
    problems = [*_option_problems(subject), *_endpoint_warnings(subject.submission.agent_endpoint)]
    if not problems:
        return passed(CheckName.CONFIG_VALID, "as it should be")
    return failed(
        CheckName.CONFIG_VALID,
        "; ".join(what for what, _ in problems),
        "; ".join(dict.fromkeys(remedy for _, remedy in problems)),
    )


def _option_problems(subject: Subject) -> Iterable[tuple[str, str]]:
    suite, until = subject.suite, subject.schedule.not_before
    if isinstance(suite, RunnerError):
        yield suite.message, suite.remedy or "choose another suite"
    else:
        for pattern in subject.options.tasks:
            if not any(fnmatchcase(task.task_id, pattern) for task in suite.tasks):
                yield (
                    f"no task of suite {suite.name} fits '{one_line(pattern, 60)}'",
                    f"see `agenttrace suite show {suite.name}`",
                )
    if until is not None and until.tzinfo is None:
        yield "not_before has no time zone", "add one, as in 2026-03-14T09:26:00Z"
    elif until is not None and until < subject.now:
        yield f"not_before ({until:%Y-%m-%d %H:%M %Z}) is past", "leave it out, or correct it"


def _endpoint_warnings(endpoint: AgentEndpoint) -> Iterable[tuple[str, str]]:
    known = {"token", "key", "header"}
    for name in endpoint.auth_credentials:
        if name not in known:
            yield f"auth_credentials has an unknown '{one_line(name, 40)}'", "remove it"
    source = endpoint.source if endpoint.endpoint_type == "local" else None
    if source is not None and (problem := requirements_problem(source)):
        yield problem, "correct requirements.txt: NAME==VERSION on each line"


def _chosen(suite: Suite, subject: Subject) -> list[BenchmarkTask]:
    wanted, patterns = subject.submission.categories, subject.options.tasks
    return [
        task
        for task in suite.tasks
        if (not wanted or task.category in wanted)
        and (not patterns or fits(task.task_id, patterns))
    ]


def quota_available(subject: Subject) -> CheckOutcome:
    """Whether the submitter may submit once more."""
    name, use, quota = CheckName.QUOTA_AVAILABLE, subject.quota_use, subject.rules.quota
    if not subject.submission.submitted_by.strip():
        return failed(name, "not checked: nobody is named in submitted_by", "add submitted_by")
    if isinstance(use, RunnerError):
        return unknown(name, "the quota cannot be looked up", use)
    shown = f"{use.day} of {quota.per_day} used today, {use.week} of {quota.per_week} this week"
    if not use.exhausted(quota):
        return passed(name, shown)
    again = f" at {use.next_free_at:%Y-%m-%d %H:%M %Z}" if use.next_free_at else " later"
    return failed(name, shown, f"submit again{again}")


# -- all of them ---------------------------------------------------------------------------------

CHECKS: Mapping[CheckName, Callable[[Subject], CheckOutcome]] = {
    CheckName.REQUIRED_FIELDS: required_fields,
    CheckName.TERMS_ACCEPTED: terms_accepted,
    CheckName.EMAIL_VALID: email_valid,
    CheckName.ENDPOINT_TYPE: endpoint_type,
    CheckName.AUTHENTICATION: authentication,
    CheckName.CATEGORIES_VALID: categories_valid,
    CheckName.CONFIG_VALID: config_valid,
    CheckName.VERSION_FORMAT: version_format,
    CheckName.ORGANIZATION: organization,
    CheckName.QUOTA_AVAILABLE: quota_available,
    CheckName.ENDPOINT_REACHABLE: endpoint_reachable,
}
