from __future__ import annotations

import json
from typing import Any

import pytest

from runner.gateway.calls import Refused
from runner.gateway.refusals import ErrorForm, form_of, refusal


def body(status: int, form: ErrorForm, code: str = "some_code") -> Any:
    answer = refusal(Refused(status, code, "why"), form)
    assert answer.status == status
    assert answer.content_type == "application/json"
    assert isinstance(answer.body, bytes)
    return json.loads(answer.body)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "invalid_request_error"),
        (413, "invalid_request_error"),
        (429, "insufficient_quota"),
        (502, "server_error"),
        (503, "server_error"),
    ],
)
def test_openai_clients_get_their_form(status: int, kind: str) -> None:
    assert body(status, ErrorForm.OPENAI) == {
        "error": {"message": "why", "type": kind, "param": None, "code": "some_code"}
    }


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "api_error"),
    ],
)
def test_anthropic_clients_get_theirs(status: int, kind: str) -> None:
    assert body(status, ErrorForm.ANTHROPIC) == {
        "type": "error",
        "error": {"type": kind, "message": "why", "code": "some_code"},
    }


def test_callers_of_tools_get_code_and_message() -> None:
    assert body(404, ErrorForm.PLAIN) == {"error": {"code": "some_code", "message": "why"}}


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/v1/chat/completions", ErrorForm.OPENAI),
        ("/v1/models", ErrorForm.OPENAI),
        ("/v1/messages", ErrorForm.ANTHROPIC),
        ("/v1/unknown", ErrorForm.OPENAI),
        ("/tools/clock", ErrorForm.PLAIN),
        ("/", ErrorForm.PLAIN),
    ],
)
def test_the_path_tells_whose_client_it_is(path: str, form: ErrorForm) -> None:
    assert form_of(path) is form


@pytest.mark.parametrize(
    ("status", "repeated"), [(429, False), (409, False), (502, False), (503, True), (400, True)]
)
def test_what_stays_refused_is_not_to_be_repeated(status: int, repeated: bool) -> None:
    headers = refusal(Refused(status, "budget_exceeded", "why"), ErrorForm.OPENAI).headers
    assert headers == ({} if repeated else {"x-should-retry": "false"})
