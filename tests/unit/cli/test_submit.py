"""`agenttrace submit`: options become one request, its answer a table, an id or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runner.bootstrap.submitting import SubmitRequest
from runner.cli.program import COMMANDS
from runner.domain import (
    AgentEndpoint,
    BenchmarkSubmission,
    CheckName,
    CheckOutcome,
    Job,
    JobOptions,
    Schedule,
    ValidationResult,
)
from runner.errors import EngineUnavailable, InvalidSubmission, QuotaExceeded

from .conftest import NOW, FakeBootstrap, Outcome

Agenttrace = Callable[..., Outcome]

JOB = Job(
    run_id="20260314-092600-abcdef",
    submission=BenchmarkSubmission(
        agent_name="echo",
        agent_version="1.0.0",
        agent_endpoint=AgentEndpoint(endpoint_type="container", image="x"),
    ),
    submitted_at=NOW,
)


def result(*failed: CheckName) -> ValidationResult:
    return ValidationResult(
        outcomes=tuple(
            CheckOutcome(
                name=name,
                passed=name not in failed,
                message="found \x1b[2J",
                remedy="mend it" if name in failed else "",
            )
            for name in CheckName
        )
    )


@pytest.fixture
def submitting(bootstrap: FakeBootstrap, monkeypatch: pytest.MonkeyPatch) -> FakeBootstrap:
    import runner

    monkeypatch.setitem(COMMANDS, "submit", ("runner.cli.submit:submit", "Submit."))
    module: Any = runner.bootstrap  # type: ignore[attr-defined]
    monkeypatch.setattr(module, "submit", bootstrap.answer("submit"), raising=False)
    monkeypatch.setattr(module, "SubmitRequest", SubmitRequest, raising=False)

    def queued(_settings: object, request: SubmitRequest, say: Callable[[str], None]) -> object:
        if request.check_only:
            return result(), None
        say("queued: place 1 of 1")
        return result(), JOB

    bootstrap.answers["submit"] = queued
    return bootstrap


def request_of(bootstrap: FakeBootstrap) -> SubmitRequest:
    [call] = [call for call in bootstrap.calls if call[0] == "submit"]
    return call[1][1]  # type: ignore[no-any-return]


def test_the_run_is_on_stdout_and_its_place_on_stderr(
    agenttrace: Agenttrace, submitting: FakeBootstrap
) -> None:
    shown = agenttrace("submit", "some/dir")
    assert (shown.code, shown.out) == (0, f"{JOB.run_id}\n")
    assert shown.err == "queued: place 1 of 1\n"
    assert request_of(submitting) == SubmitRequest(target="some/dir")


def test_quiet_is_the_run_alone(agenttrace: Agenttrace, submitting: FakeBootstrap) -> None:
    shown = agenttrace("submit", "some/dir", "-q")
    assert (shown.out, shown.err) == (f"{JOB.run_id}\n", "")


def test_every_option(agenttrace: Agenttrace, submitting: FakeBootstrap) -> None:
    shown = agenttrace(
        *("submit", "--image", "repo/agent:1", "--interface", "http", "--port", "9000"),
        *("--command", "python 'my agent.py'", "--suite", "other", "-t", "plan-*", "-t", "r-?"),
        *("-l", "5", "-k", "4", "--seed", "7", "--priority", "-5", "--as", "team"),
        *("--email", "a@example.org", "--accept-terms", "--not-before", "2026-03-14T09:26:00Z"),
        *("--check", "--profile", "competition"),
    )
    assert shown.code == 0, shown.err
    assert request_of(submitting) == SubmitRequest(
        image="repo/agent:1",
        interface="http",
        port=9000,
        command=("python", "my agent.py"),
        submitted_by="team",
        contact_email="a@example.org",
        terms=True,
        options=JobOptions(suite="other", tasks=("plan-*", "r-?"), limit=5, repeats=4, seed=7),
        schedule=Schedule(priority=-5, not_before=NOW),
        check_only=True,
    )
    assert submitting.settings.profile == "competition"


@pytest.mark.parametrize("text", ["+2h", "+1h60m", " +7200 "])
def test_a_time_from_now(agenttrace: Agenttrace, submitting: FakeBootstrap, text: str) -> None:
    before = datetime.now(UTC)
    assert agenttrace("submit", "d", "--not-before", text).code == 0
    until = request_of(submitting).schedule.not_before
    assert until is not None
    assert before <= until - timedelta(hours=2) <= datetime.now(UTC)


def test_a_time_without_a_zone_is_local(agenttrace: Agenttrace, submitting: FakeBootstrap) -> None:
    assert agenttrace("submit", "d", "--not-before", "2026-03-14T09:26").code == 0
    local = datetime(2026, 3, 14, 9, 26).astimezone()
    assert request_of(submitting).schedule.not_before == local


@pytest.mark.parametrize(
    "arguments",
    [
        ("submit",),
        ("submit", "dir", "--image", "x"),
        ("submit", "dir", "--port", "80"),
        ("submit", "--image", "x", "--port", "80"),
        ("submit", "dir", "--priority", "101"),
        ("submit", "dir", "--not-before", "tomorrow"),
        ("submit", "dir", "--not-before", "+x"),
        ("submit", "dir", "--not-before", "+999999999999999d"),
        ("submit", "dir", "--not-before", "0001-01-01T00:00:00+14:00"),
        ("submit", "dir", "-l", "0"),
    ],
)
def test_usage(agenttrace: Agenttrace, submitting: FakeBootstrap, arguments: list[str]) -> None:
    shown = agenttrace(*arguments)
    assert (shown.code, shown.out) == (2, "")
    assert "Error:" in shown.err
    assert submitting.calls == []


def test_check_shows_a_table_and_says_whether_it_is_valid(
    agenttrace: Agenttrace, submitting: FakeBootstrap
) -> None:
    shown = agenttrace("submit", "d", "--check")
    assert shown.code == 0
    assert all(name.value in shown.out for name in CheckName)
    assert "\x1b" not in shown.out
    submitting.answers["submit"] = (result(CheckName.EMAIL_VALID), None)
    shown = agenttrace("submit", "d", "--check")
    assert shown.code == 2
    assert "mend it" in shown.out


def test_a_refused_submission(agenttrace: Agenttrace, submitting: FakeBootstrap) -> None:
    submitting.answers["submit"] = (result(CheckName.TERMS_ACCEPTED), None)
    shown = agenttrace("submit", "d")
    assert (shown.code, shown.out) == (2, "")
    assert "refused: 1 error" in shown.err


def test_warnings_are_on_stderr(agenttrace: Agenttrace, submitting: FakeBootstrap) -> None:
    submitting.answers["submit"] = (result(CheckName.VERSION_FORMAT), JOB)
    shown = agenttrace("submit", "d")
    assert (shown.code, shown.out) == (0, f"{JOB.run_id}\n")
    assert "warning: version_format: found" in shown.err
    assert "\x1b" not in shown.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (QuotaExceeded("5 of 5 used today", remedy="submit again at 12:26"), 4),
        (InvalidSubmission("link is a link"), 2),
        (EngineUnavailable("no engine answers"), 3),
    ],
)
def test_errors(
    agenttrace: Agenttrace, submitting: FakeBootstrap, error: Exception, code: int
) -> None:
    submitting.answers["submit"] = error
    shown = agenttrace("submit", "d")
    assert (shown.code, shown.out) == (code, "")
    assert f"error: {error.args[0]}" in shown.err


def test_json(agenttrace: Agenttrace, submitting: FakeBootstrap) -> None:
    data = json.loads(agenttrace("submit", "d", "--json").out)
    assert (data["run_id"], data["is_valid"]) == (JOB.run_id, True)
    assert [check["name"] for check in data["checks"]] == [name.value for name in CheckName]
    assert data["job"]["state"] == "queued"
    submitting.answers["submit"] = (result(CheckName.EMAIL_VALID), None)
    shown = agenttrace("submit", "d", "--json")
    data = json.loads(shown.out)
    assert (shown.code, data["run_id"], data["job"], data["is_valid"]) == (2, None, None, False)
    assert len(data["errors"]) == 1
