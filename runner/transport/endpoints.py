"""The URL of an endpoint, read strictly: one spelling for each place, and nothing hidden in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from runner.domain import AgentEndpoint
from runner.domain.text import one_line
from runner.errors import InvalidSubmission
from runner.transport.addresses import literal

MAX_URL = 2048
MAX_HOST = 253
_DEFAULT_PORTS: dict[str, int] = {"http": 80, "https": 443}

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?",
    re.IGNORECASE,
)
_CHARACTERS = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*")
_AUTHORITY = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*)(?::(?P<port>[0-9]{1,5}))?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_LIKE_A_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A last label that some resolvers read as (part of) an IPv4 address."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where requests go."""

    scheme: Literal["http", "https"]
    host: str
    """In lower case; an IPv6 address without its brackets."""
    port: int
    path: str
    """Path and query, which may hold secrets: not for display."""

    @property
    def authority(self) -> str:
        """As the Host header has it."""
        default = self.port == _DEFAULT_PORTS[self.scheme]
        return self._bracketed if default else f"{self._bracketed}:{self.port}"

    @property
    def place(self) -> str:
        """`host:port`, for people."""
        return f"{self._bracketed}:{self.port}"

    @property
    def origin(self) -> str:
        """`scheme://host:port`, for people."""
        return f"{self.scheme}://{self.place}"

    @property
    def _bracketed(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


def breaker_name(endpoint: AgentEndpoint) -> str:
    """`endpoint scheme://host:port`; raises InvalidSubmission."""
    return f"endpoint {target_of(endpoint).origin}"


def target_of(endpoint: AgentEndpoint) -> Target:
    """Where that endpoint is; raises InvalidSubmission."""
    return parse_target(endpoint.url or "")


def parse_target(url: str) -> Target:
    """The parts of an http(s) URL; raises InvalidSubmission.

    Refused is what two parsers could read differently, and what is no part of an address: user
    names, fragments, zones, numbers in odd spellings, dots at the end, letters beyond ASCII.
    """
    if len(url) > MAX_URL:
        raise _refused(f"it is longer than {MAX_URL} characters", "shorten it")
    if "@" in re.split(r"[/?#]", url.partition("://")[2])[0]:
        raise _refused("it holds a user name or password", "name a variable in auth_env instead")
    if not _CHARACTERS.fullmatch(url):
        raise _refused(
            "it holds characters that a URL cannot", "write names as xn--..., the rest as %XX"
        )
    if not (match := _URL.fullmatch(url)):
        raise _refused("it is not http(s)://HOST[:PORT][/PATH]", "correct it")
    scheme: Literal["http", "https"] = "https" if match["scheme"].lower() == "https" else "http"
    host, port = _parse_authority(match["authority"], _DEFAULT_PORTS[scheme])
    path = (match["path"] or "/") + (match["query"] or "")
    return Target(scheme=scheme, host=host, port=port, path=path)


def _parse_authority(authority: str, default_port: int) -> tuple[str, int]:
    match = _AUTHORITY.fullmatch(authority)
    if not match:
        raise _refused("its host and port cannot be read", "write HOST or HOST:PORT")
    port = int(match["port"]) if match["port"] else default_port
    if not 1 <= port <= 65535:
        raise _refused(f"there is no port {port}", "use one from 1 to 65535")
    return _parse_host(match["host"].lower()), port


def _parse_host(host: str) -> str:
    if host.startswith("["):
        address = literal(host[1:-1])
        if not isinstance(address, IPv6Address) or address.scope_id is not None:
            raise _refused(f"{_shown(host)} is not an IPv6 address", "write one without a zone")
        return str(address)
    labels = host.split(".")
    if _LIKE_A_NUMBER.fullmatch(labels[-1]):
        if not isinstance(literal(host), IPv4Address):
            raise _refused(
                f"{_shown(host)} is an odd spelling of an address", "write four decimal numbers"
            )
        return host
    if len(host) > MAX_HOST or not all(map(_LABEL.fullmatch, labels)):
        raise _refused(f"{_shown(host)!r} is not a host name", "write it without a dot at its end")
    return host


def _shown(host: str) -> str:
    return one_line(host, 80)


def _refused(reason: str, remedy: str) -> InvalidSubmission:
    """The URL itself is not shown: it may hold a secret."""
    return InvalidSubmission(f"agent_endpoint.url: {reason}", remedy=remedy)
