"""What an agent is told of a refusal, in the error form that its client library reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import Enum
from http import HTTPStatus
from typing import Any

from runner.domain import Api
from runner.gateway.calls import Answer, Refused

_OPENAI_TYPES: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.TOO_MANY_REQUESTS: "insufficient_quota",
}
_ANTHROPIC_TYPES: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "request_too_large",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}

_FINAL = frozenset({HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.BAD_GATEWAY})
"""Client libraries repeat requests that got these: ours would only be refused again, and a provider
that failed has been asked again already."""


def _openai(refused: Refused) -> dict[str, Any]:
    ours = refused.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    kind = "server_error" if ours else "invalid_request_error"
    return {
        "error": {
            "message": refused.message,
            "type": _OPENAI_TYPES.get(refused.status, kind),
            "param": None,
            "code": refused.code,
        }
    }


def _anthropic(refused: Refused) -> dict[str, Any]:
    ours = refused.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    kind = "api_error" if ours else "invalid_request_error"
    return {
        "type": "error",
        "error": {
            "type": _ANTHROPIC_TYPES.get(refused.status, kind),
            "message": refused.message,
            "code": refused.code,
        },
    }


def _plain(refused: Refused) -> dict[str, Any]:
    return {"error": {"code": refused.code, "message": refused.message}}


class ErrorForm(Enum):
    """Whose clients read the error."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"
    PLAIN = "plain"
    """Of tools, and of all that is nobody's API."""

    def body(self, refused: Refused) -> bytes:
        """The error as JSON."""
        return json.dumps(_BODIES[self](refused)).encode()


_BODIES: dict[ErrorForm, Callable[[Refused], dict[str, Any]]] = {
    ErrorForm.OPENAI: _openai,
    ErrorForm.ANTHROPIC: _anthropic,
    ErrorForm.PLAIN: _plain,
}


def form_of(path: str) -> ErrorForm:
    """The form in which clients that ask for `path` expect an error."""
    if path == Api.MESSAGES:
        return ErrorForm.ANTHROPIC
    return ErrorForm.OPENAI if path.startswith("/v1/") else ErrorForm.PLAIN


def refusal(refused: Refused, form: ErrorForm) -> Answer:
    """The whole answer to a refused request."""
    headers = {"x-should-retry": "false"} if refused.status in _FINAL else {}
    return Answer(
        status=refused.status,
        content_type="application/json",
        body=form.body(refused),
        headers=headers,
    )
