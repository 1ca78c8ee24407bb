"""The eleven checks: each by itself, and all of them at once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from runner.domain import (
    AgentEndpoint,
    AnswerKey,
    BenchmarkCategory,
    BenchmarkSubmission,
    BenchmarkTask,
    CheckName,
    CheckOutcome,
    ExactCriterion,
    JobOptions,
    Prompt,
    QuotaUse,
    Schedule,
    SubmissionQuota,
    Suite,
)
from runner.errors import BuildFailed, EngineUnavailable, StoreUnavailable, UsageError
from runner.intake.checks import CHECKS, SEMANTIC_VERSION, run_checks
from runner.intake.subject import Rules, Subject

NOW = datetime(2026, 3, 14, 9, 26, tzinfo=UTC)


def task(task_id: str, category: BenchmarkCategory) -> BenchmarkTask:
    return BenchmarkTask(
        task_id=task_id,
        category=category,
        name=task_id,
        prompt=Prompt(task_id=task_id, text="?"),
        answer_key=AnswerKey(criteria=(ExactCriterion(expected="!"),)),
    )


SUITE = Suite(
    name="starter",
    version="1",
    digest="sha256:00",
    tasks=(
        task("reasoning-001", BenchmarkCategory.REASONING),
        task("plan-trip", BenchmarkCategory.PLANNING),
    ),
)


def http(**fields: Any) -> AgentEndpoint:
    return AgentEndpoint(
        **{"endpoint_type": "http", "url": "https://agent.example.com/ask", **fields}
    )


def submission(**fields: Any) -> BenchmarkSubmission:
    return BenchmarkSubmission(
        **{
            "agent_name": "echo",
            "agent_version": "1.0.0",
            "contact_email": "dev@example.com",
            "submitted_by": "team-echo",
            "terms_accepted": True,
            "agent_endpoint": http(),
            **fields,
        }
    )


def subject(**fields: Any) -> Subject:
    return replace(
        Subject(
            submission=submission(),
            options=JobOptions(),
            schedule=Schedule(),
            rules=Rules(quota=SubmissionQuota(), credential_variables=("AGENT_*",)),
            environ={"AGENT_TOKEN": "s3cret", "AWS_SECRET": "not yours", "AGENT_EMPTY": ""},
            now=NOW,
            suite=SUITE,
            quota_use=QuotaUse(submitter="team-echo", day=1, week=2),
            reached="reached agent.example.com in 3 ms",
        ),
        **fields,
    )


def outcome(name: CheckName, **fields: Any) -> CheckOutcome:
    """Of one check, of a subject that differs in those fields of it or of its submission."""
    of_subject = {n: v for n, v in fields.items() if n in Subject.__dataclass_fields__}
    of_submission = {n: v for n, v in fields.items() if n not in of_subject}
    if of_submission:
        of_subject["submission"] = submission(**of_submission)
    return CHECKS[name](subject(**of_subject))


# -- all at once ---------------------------------------------------------------------------------


def test_all_eleven_pass_in_their_order() -> None:
    outcomes = run_checks(subject())
    assert [one.name for one in outcomes] == list(CheckName)
    assert [one for one in outcomes if not one.passed] == []
    assert all(one.message and not one.remedy for one in outcomes)


def test_everything_wrong_is_told_at_once() -> None:
    worst = subject(
        submission=BenchmarkSubmission(
            agent_name=" ",
            agent_version="one",
            organization="Nobody",
            agent_endpoint=http(url="http://x y", auth_type="bearer"),
        ),
        schedule=Schedule(not_before=NOW - timedelta(days=1)),
        rules=Rules(quota=SubmissionQuota(), organizations=("Example*",)),
        suite=UsageError("there is no suite 'x'", remedy="known suites: starter"),
        quota_use=StoreUnavailable("the database does not answer"),
        reached=EngineUnavailable("no engine answers"),
    )
    outcomes = run_checks(worst)
    assert [one.name for one in outcomes] == list(CheckName)
    assert [one for one in outcomes if one.passed] == []
    assert all(one.message and one.remedy for one in outcomes)


@given(st.text(max_size=60), st.text(max_size=60), st.text(min_size=1, max_size=50))
def test_hostile_text_comes_out_inert(email: str, variable: str, version: str) -> None:
    hostile = submission(
        contact_email=email,
        organization=email,
        submitted_by=variable,
        agent_version=version,
        agent_endpoint=http(
            url=email or "x", auth_type="api_key", auth_env=variable, auth_header=version
        ),
    )
    rules = Rules(quota=SubmissionQuota(), organizations=("none",))
    options = JobOptions(tasks=(email,))
    for one in run_checks(subject(submission=hostile, rules=rules, options=options)):
        assert one.message.isprintable()
        assert one.remedy.isprintable()


# -- required_fields, terms_accepted, email_valid ------------------------------------------------


def test_required_fields() -> None:
    missing = outcome(CheckName.REQUIRED_FIELDS, contact_email="", submitted_by=" ")
    assert missing.message == "missing: contact_email, submitted_by"


def test_terms() -> None:
    assert "terms_accepted = true" in outcome(CheckName.TERMS_ACCEPTED, terms_accepted=False).remedy


@pytest.mark.parametrize("address", ["dev@example.com", "a.b+c@x.example.org", "ü@exämple.com"])
def test_addresses(address: str) -> None:
    assert outcome(CheckName.EMAIL_VALID, contact_email=address).passed


@pytest.mark.parametrize(
    "address",
    [
        *("", "dev", "dev@", "@x.com", "a b@x.com", "Name <a@b.com>", "a@localhost", "a@b..com"),
        *("a@[127.0.0.1]", "a@b.com\r\nBcc: x@y.com", "a@b.com ", "\ud800@b.com"),
        "a" * 300 + "@b.com",
    ],
)
def test_no_addresses(address: str) -> None:
    assert not outcome(CheckName.EMAIL_VALID, contact_email=address).passed


_labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True).filter(
    lambda label: "--" not in label
)


@given(st.from_regex(r"[a-zA-Z0-9]+([.+_-][a-zA-Z0-9]+){0,3}", fullmatch=True), _labels)
def test_plain_addresses_pass(local: str, label: str) -> None:
    address = f"{local[:60].rstrip('.')}@{label}.com"
    assert outcome(CheckName.EMAIL_VALID, contact_email=address).passed


@given(st.text(max_size=80).filter(lambda text: text.count("@") != 1 and '"' not in text))
def test_what_has_not_one_at_sign_is_no_address(text: str) -> None:
    assert not outcome(CheckName.EMAIL_VALID, contact_email=text).passed


# -- version_format, organization ----------------------------------------------------------------


def _is_semantic(text: str) -> bool:
    """Semantic versioning by splitting, as its prose has it."""
    core, plus, build = text.partition("+")
    core, dash, pre = core.partition("-")

    def identifiers(part: str, *, leading_zeros: bool) -> bool:
        return all(
            one != ""
            and all(c.isascii() and (c.isalnum() or c == "-") for c in one)
            and (leading_zeros or not (one.isdigit() and len(one) > 1 and one[0] == "0"))
            for one in part.split(".")
        )

    numbers = core.split(".")
    return (
        len(numbers) == 3
        and all(n.isascii() and n.isdigit() and (n == "0" or n[0] != "0") for n in numbers)
        and (not dash or identifiers(pre, leading_zeros=False))
        and (not plus or identifiers(build, leading_zeros=True))
    )


_version_like = st.lists(
    st.sampled_from([*"0019.-+aZ", "1.0.0", "-rc", ".0", "+b", "\n", "٣"]), max_size=8
).map("".join)


@given(_version_like)
def test_versions_are_those_of_semver(text: str) -> None:
    assert bool(SEMANTIC_VERSION.fullmatch(text)) == _is_semantic(text)


@pytest.mark.parametrize("version", ["1.0.0", "0.0.4", "1.0.0-0A.is.legal", "1.2.3-rc.1+b-007"])
def test_versions(version: str) -> None:
    assert outcome(CheckName.VERSION_FORMAT, agent_version=version).passed


@pytest.mark.parametrize(
    "version", ["1", "1.0", "v1.0.0", "1.0.0\n", "01.0.0", "1.0.0-01", "٣.0.0"]
)
def test_no_versions(version: str) -> None:
    found = outcome(CheckName.VERSION_FORMAT, agent_version=version)
    assert (found.passed, found.name.rejects) == (False, False)


def test_organizations() -> None:
    def passed(given: str | None, *allowed: str) -> bool:
        rules = Rules(quota=SubmissionQuota(), organizations=allowed)
        one = submission(organization=given)
        return outcome(CheckName.ORGANIZATION, submission=one, rules=rules).passed

    assert passed(None)
    assert passed("Anybody")
    assert passed("Example University", "Other", "Example *")
    assert not passed(None, "Example *")
    assert not passed("Exam", "Example *")


# -- categories_valid, config_valid, quota_available ---------------------------------------------


def test_categories() -> None:
    assert outcome(CheckName.CATEGORIES_VALID).message == "all: 2 tasks"
    wanted = (BenchmarkCategory.REASONING, BenchmarkCategory.TOOL_USE)
    missing = outcome(CheckName.CATEGORIES_VALID, categories=wanted)
    assert missing.message == "suite starter has no task of tool_use"
    assert missing.remedy == "it has planning, reasoning"
    only = submission(categories=wanted[:1])
    none = outcome(
        CheckName.CATEGORIES_VALID, submission=only, options=JobOptions(tasks=("plan-*",))
    )
    assert none.message == "no task is asked for"


def test_a_suite_that_is_not_there() -> None:
    gone = UsageError("there is no suite 'x'", remedy="known suites: starter")
    for name in (CheckName.CATEGORIES_VALID, CheckName.CONFIG_VALID):
        found = outcome(name, suite=gone)
        assert (found.message, found.remedy) == (gone.message, gone.remedy)


def test_options_that_cannot_be_had() -> None:
    options = JobOptions(tasks=("plan-*", "nothing-*"))
    found = outcome(CheckName.CONFIG_VALID, options=options)
    assert found.message == "no task of suite starter fits 'nothing-*'"
    past = Schedule(not_before=NOW - timedelta(seconds=1))
    assert "is past" in outcome(CheckName.CONFIG_VALID, schedule=past).message
    naive = Schedule(not_before=NOW.replace(tzinfo=None))
    assert "no time zone" in outcome(CheckName.CONFIG_VALID, schedule=naive).message
    soon = Schedule(not_before=NOW + timedelta(hours=1))
    assert outcome(CheckName.CONFIG_VALID, schedule=soon).passed


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("requests==2.0\n# a comment\n\nnumpy>=1 ; python_version > '3'  # why\n", ""),
        ("requests==2.0 \\\n    --hash=sha256:00ff\n", ""),
        ("--index-url https://x\n", "is an option"),
        ("-e .\n", "is an option"),
        ("x @ https://example.com/x.whl\n", "names a URL"),
        ("../other\n", "is not a requirement"),
        ("\x1b[2J\n", "is not a requirement"),
    ],
)
def test_requirements(tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "requirements.txt").write_text(text)
    endpoint = AgentEndpoint(
        endpoint_type="local", source=tmp_path, module_path="agent", function_name="f"
    )
    found = outcome(CheckName.CONFIG_VALID, agent_endpoint=endpoint)
    assert found.passed == (not part)
    assert part in found.message


def test_requirements_that_are_no_file(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").symlink_to("/etc/passwd")
    endpoint = AgentEndpoint(
        endpoint_type="local", source=tmp_path, module_path="agent", function_name="f"
    )
    found = outcome(CheckName.CONFIG_VALID, agent_endpoint=endpoint)
    assert not found.passed
    assert "root:" not in found.message


def test_the_quota() -> None:
    assert "1 of 5 used today" in outcome(CheckName.QUOTA_AVAILABLE).message
    used = QuotaUse(submitter="t", day=5, week=5, next_free_at=NOW + timedelta(hours=3))
    found = outcome(CheckName.QUOTA_AVAILABLE, quota_use=used)
    assert (found.passed, found.remedy) == (False, "submit again at 2026-03-14 12:26 UTC")
    down = outcome(CheckName.QUOTA_AVAILABLE, quota_use=StoreUnavailable("no answer"))
    assert "a fault of our side" in down.message
    nobody = outcome(CheckName.QUOTA_AVAILABLE, submitted_by="")
    assert "nobody" in nobody.message


# -- endpoint_type, authentication, endpoint_reachable -------------------------------------------


def test_grpc_is_not_supported_yet() -> None:
    endpoint = AgentEndpoint(endpoint_type="grpc", url="grpc://x")
    found = outcome(CheckName.ENDPOINT_TYPE, agent_endpoint=endpoint)
    assert found.message == "grpc: not supported yet"


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("https://agent.example.com:8443/ask?x=1", ""),
        ("https://[2001:db8::1]/", ""),
        ("http://agent.example.com/", "http:// is not allowed here"),
        ("grpc://agent.example.com/", "is not for an http agent"),
        ("https://user:s3cret@example.com/", "holds a password"),
        ("https://example.com/#x", "fragment"),
        ("https:///x", "is not a URL"),
        ("https://example.com:port/", "is not a URL"),
        ("https://[::1/", "is not a URL"),
        ("https://example.com/\x1b[2J", "is not a URL"),
        ("nonsense", "is not a URL"),
    ],
)
def test_urls(url: str, part: str) -> None:
    found = outcome(CheckName.ENDPOINT_TYPE, agent_endpoint=http(url=url))
    assert found.passed == (not part)
    assert part in found.message
    assert "s3cret" not in found.message


def test_plain_http_where_it_is_allowed() -> None:
    rules = Rules(quota=SubmissionQuota(), allow_plain_http=True)
    one = submission(agent_endpoint=http(url="http://agent.example.com/"))
    assert outcome(CheckName.ENDPOINT_TYPE, submission=one, rules=rules).passed


TOKEN = {"token": SecretStr("s3cret-token")}
KEY = {"key": SecretStr("s3cret-key")}


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({}, ""),
        ({"auth_type": "bearer", "auth_credentials": TOKEN}, ""),
        ({"auth_type": "bearer", "auth_env": "AGENT_TOKEN"}, ""),
        ({"auth_type": "api_key", "auth_credentials": KEY}, ""),
        ({"auth_type": "api_key", "auth_env": "AGENT_TOKEN", "auth_header": "X-Key"}, ""),
        ({"auth_type": "api_key", "auth_credentials": KEY, "auth_header": "Authorization"}, ""),
        ({"headers": {"X-Team": SecretStr("a")}}, ""),
        ({"auth_type": "bearer"}, "bearer needs a token"),
        ({"auth_type": "bearer", "auth_credentials": KEY}, "bearer needs a token"),
        ({"auth_type": "api_key", "auth_credentials": TOKEN}, "api_key needs a key"),
        ({"auth_env": "AGENT_TOKEN"}, "auth_type is none"),
        ({"auth_credentials": TOKEN}, "auth_type is none"),
        (
            {"auth_type": "bearer", "auth_env": "AGENT_TOKEN", "auth_credentials": TOKEN},
            "given twice",
        ),
        ({"auth_type": "bearer", "auth_env": "AWS_SECRET"}, "AWS_SECRET may not be sent"),
        ({"auth_type": "bearer", "auth_env": "AGENT_NONE"}, "AGENT_NONE is not set here"),
        ({"auth_type": "bearer", "auth_env": "AGENT_EMPTY"}, "AGENT_EMPTY is not set here"),
        (
            {"auth_type": "bearer", "auth_credentials": {"token": SecretStr("s3cret\r\nX: y")}},
            "the token is empty, or holds",
        ),
        ({"headers": {"Host": SecretStr("x")}}, "Host is set by the runner"),
        ({"headers": {"Content-Length": SecretStr("0")}}, "Content-Length is set by the runner"),
        ({"headers": {"X y": SecretStr("x")}}, "is not the name of a header"),
        ({"headers": {"X": SecretStr("s3cret\n")}}, "the header X is empty, or holds"),
        ({"headers": {"X": SecretStr("1"), "x": SecretStr("2")}}, "is there twice"),
        (
            {"auth_type": "api_key", "auth_credentials": KEY, "auth_header": "Host"},
            "Host is set by the runner",
        ),
        (
            {
                "auth_type": "api_key",
                "auth_credentials": KEY,
                "headers": {"x-api-key": SecretStr("1")},
            },
            "is among the headers too",
        ),
        (
            {"url": "http://example.com/", "auth_type": "bearer", "auth_credentials": TOKEN},
            "credentials are not sent over http://",
        ),
        ({"url": "http://example.com/", "headers": {"X": SecretStr("1")}}, "are not sent over"),
        ({"url": "http://127.0.0.1:8000/", "auth_type": "bearer", "auth_env": "AGENT_TOKEN"}, ""),
        ({"url": "http://[::1]/", "auth_type": "bearer", "auth_env": "AGENT_TOKEN"}, ""),
        ({"url": "http://localhost/", "auth_type": "bearer", "auth_env": "AGENT_TOKEN"}, ""),
        (
            {"url": "http://localhost.x.com/", "auth_type": "bearer", "auth_env": "AGENT_TOKEN"},
            "are not sent over",
        ),
    ],
)
def test_authentication(fields: dict[str, Any], part: str) -> None:
    found = outcome(CheckName.AUTHENTICATION, agent_endpoint=http(**fields))
    assert found.passed == (not part), found.message
    assert part in found.message
    assert "s3cret" not in f"{found.message}{found.remedy}"


def test_agents_that_run_here_need_no_authentication(tmp_path: Path) -> None:
    endpoint = AgentEndpoint(endpoint_type="container", image="x")
    assert outcome(CheckName.AUTHENTICATION, agent_endpoint=endpoint).passed
    assert outcome(CheckName.ENDPOINT_TYPE, agent_endpoint=endpoint).passed


def test_whose_fault_it_is_that_an_agent_is_not_reached() -> None:
    ours = outcome(CheckName.ENDPOINT_REACHABLE, reached=EngineUnavailable("no engine answers"))
    assert "a fault of our side, not of the submission: no engine answers" in ours.message
    theirs = outcome(
        CheckName.ENDPOINT_REACHABLE,
        reached=BuildFailed("RUN false: exit code 1", remedy="mend that step"),
    )
    assert (theirs.message, theirs.remedy) == ("RUN false: exit code 1", "mend that step")
