"""The headers that prove to a remote agent who asks: shown to it, and to nobody else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import assert_never

from pydantic import SecretStr

from runner.domain import AgentEndpoint
from runner.domain.text import one_line
from runner.errors import InvalidSubmission
from runner.transport.remote_policy import RemotePolicy

SETTING = "remote.credential_variables"
REDACTED = b"[redacted]"
MAX_BYTES = 16_384
"""Of all such headers together."""
TELLING_LENGTH = 8
"""A shorter secret is not looked for in answers: it could be a word of one."""

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_OURS = frozenset(
    {
        "accept",
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    }
)


_NO_SECRET = SecretStr("")


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Headers with secrets in them; their values are in no `repr`."""

    headers: tuple[tuple[str, SecretStr], ...] = ()
    secret: SecretStr = _NO_SECRET
    """The token or key itself; empty: there is none."""

    def __bool__(self) -> bool:
        return bool(self.headers)

    def on_the_wire(self) -> list[tuple[bytes, bytes]]:
        """Name and value of each, in clear."""
        return [(n.encode("ascii"), v.get_secret_value().encode("ascii")) for n, v in self.headers]

    def without_secrets(self, text: bytes) -> bytes:
        """`text` without any of them, where it is shown to people."""
        values = [value for _, value in self.on_the_wire()]
        for value in sorted([self._token(), *values], key=len, reverse=True):
            text = text.replace(value, REDACTED) if value else text
        return text

    def without_token(self, answer: bytes) -> bytes:
        """`answer` without the token, should the agent repeat it: answers are kept and shown."""
        token = self._token()
        return answer.replace(token, REDACTED) if len(token) >= TELLING_LENGTH else answer

    def _token(self) -> bytes:
        return self.secret.get_secret_value().encode("ascii")


def credentials_of(endpoint: AgentEndpoint, policy: RemotePolicy) -> Credentials:
    """The headers that the endpoint asks for; raises InvalidSubmission."""
    secret, headers = _NO_SECRET, list(endpoint.headers.items())
    if endpoint.auth_type != "none":
        secret, header = _authentication(endpoint, policy)
        headers.append(header)
    _check(headers)
    return Credentials(headers=tuple(headers), secret=secret)


def _authentication(
    endpoint: AgentEndpoint, policy: RemotePolicy
) -> tuple[SecretStr, tuple[str, SecretStr]]:
    given = endpoint.auth_credentials
    match endpoint.auth_type:
        case "bearer":
            secret = given.get("token") or _from_variable(endpoint, policy, "token")
            return secret, ("Authorization", SecretStr(f"Bearer {secret.get_secret_value()}"))
        case "api_key":
            secret = given.get("key") or _from_variable(endpoint, policy, "key")
            return secret, (_key_header(endpoint), secret)
        case "none":
            raise AssertionError("there is nothing to look up")
        case _:
            assert_never(endpoint.auth_type)


def _key_header(endpoint: AgentEndpoint) -> str:
    if header := endpoint.auth_credentials.get("header"):
        return header.get_secret_value()
    return endpoint.auth_header


def _from_variable(endpoint: AgentEndpoint, policy: RemotePolicy, what: str) -> SecretStr:
    """What `auth_env` names, if the operator lets manifests name it."""
    name = endpoint.auth_env
    if not name:
        raise InvalidSubmission(
            f"agent_endpoint: auth_type {endpoint.auth_type!r} without a {what}",
            remedy="name the variable that holds it in auth_env",
        )
    if not any(fnmatchcase(name, pattern) for pattern in policy.credential_variables):
        allowed = ", ".join(policy.credential_variables) or "none"
        raise InvalidSubmission(
            f"agent_endpoint.auth_env: {one_line(name, 80)} may not be sent to an endpoint",
            remedy=f"use a variable that {SETTING} allows ({allowed}), or have it extended",
        )
    if not (value := policy.credentials.get(name)):
        raise InvalidSubmission(
            f"agent_endpoint.auth_env: the variable {one_line(name, 80)} is not set",
            remedy="set it where the agent is asked from: for `run` here, else at the worker",
        )
    return value


def _check(headers: list[tuple[str, SecretStr]]) -> None:
    """Raises InvalidSubmission for what would not be one header each, or would be ours."""
    names = [name.lower() for name, _ in headers]
    for name, value in headers:
        if not _NAME.fullmatch(name):
            raise _refused(name, "is not a header's name", "correct it")
        if name.lower() in _OURS or name.lower().startswith("proxy-"):
            raise _refused(name, "is the runner's to set", "leave it out")
        if names.count(name.lower()) > 1:
            raise _refused(name, "is given twice", "leave one out")
        if not _VALUE.fullmatch(value.get_secret_value()):
            raise _refused(
                name,
                "has a value that is empty or not printable ASCII",
                "look for a line break or space at its end",
            )
    if sum(len(n) + len(v.get_secret_value()) for n, v in headers) > MAX_BYTES:
        raise InvalidSubmission(
            f"agent_endpoint: its headers are longer than {MAX_BYTES} bytes", remedy="shorten them"
        )


def _refused(name: str, reason: str, remedy: str) -> InvalidSubmission:
    return InvalidSubmission(
        f"agent_endpoint: the header {one_line(name, 80)!r} {reason}", remedy=remedy
    )
