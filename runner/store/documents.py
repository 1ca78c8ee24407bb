"""Nouns as the JSON text that is stored of them."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from runner.domain import BenchmarkSubmission


def to_json(model: BaseModel) -> str:
    """A noun as JSON that every database takes, whatever an agent put into its strings: NUL is
    escaped in it, and a lone surrogate becomes U+FFFD.
    """
    try:
        return model.model_dump_json()
    except (PydanticSerializationError, UnicodeEncodeError):
        return _without_surrogates(model.model_dump(mode="json"))


def submission_json(submission: BenchmarkSubmission) -> str:
    """A submission without credentials: neither fields nor a URL that hold any."""
    asked = submission.model_dump(
        mode="json", exclude={"agent_endpoint": {"auth_credentials", "headers"}}
    )
    if submission.agent_endpoint.url:
        asked["agent_endpoint"]["url"] = _without_user(submission.agent_endpoint.url)
    return _without_surrogates(asked)


def _without_surrogates(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _without_user(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(not a URL)"
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
