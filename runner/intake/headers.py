"""Headers that a submission may have sent with each request: no framing, no second identity."""

from __future__ import annotations

import re
from collections.abc import Iterable

from runner.domain.text import one_line

MAX_HEADERS = 32
MAX_VALUE_CHARACTERS = 4096

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_OURS = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization"),
        *("proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
        *("host", "content-length", "content-type", "content-encoding", "accept"),
        *("accept-encoding", "authorization", "expect", "user-agent"),
    }
)
"""Hop-by-hop, or what the runner itself says; RFC 9110, section 7.6.1."""


def name_problem(name: str) -> str:
    """Why `name` cannot be the name of a header of a submission's; empty if it can."""
    if not _TOKEN.fullmatch(name):
        return f"{one_line(name, 60)!r} is not the name of a header"
    if name.lower() in _OURS:
        return f"{name} is set by the runner: remove it"
    return ""


def key_name_problem(name: str) -> str:
    """Why `name` cannot be the header that carries an API key; empty if it can."""
    return "" if name.lower() == "authorization" else name_problem(name)


def value_problem(value: str) -> str:
    """Why `value` cannot be a header's value, without quoting it; empty if it can."""
    if len(value) > MAX_VALUE_CHARACTERS:
        return f"is longer than {MAX_VALUE_CHARACTERS} characters"
    if not _VALUE.fullmatch(value):
        return "is empty, or holds characters that cannot be in a header"
    return ""


def names_problem(names: Iterable[str]) -> str:
    """What is wrong with the names of one request's headers together; empty if nothing is."""
    known: set[str] = set()
    for name in names:
        if problem := name_problem(name):
            return problem
        if name.lower() in known:
            return f"{name} is there twice: header names do not tell capitals"
        known.add(name.lower())
    return f"more than {MAX_HEADERS} headers" if len(known) > MAX_HEADERS else ""
