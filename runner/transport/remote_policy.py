"""What the operator allows of agents behind a URL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import SecretStr

from runner.transport.addresses import Network


@dataclass(frozen=True, kw_only=True)
class RemotePolicy:
    """The same for every endpoint."""

    allow_addresses: tuple[Network, ...] = ()
    """May be connected to beside the public internet."""
    allow_plain_http: bool = False
    credential_variables: tuple[str, ...] = ("AGENT_*",)
    """Shell patterns of the variables that a manifest may name."""
    credentials: Mapping[str, SecretStr] = field(default_factory=dict)
    """The environment's variables that match, and no others."""
    ca_file: str = ""
    """Trusted in place of the public authorities; empty: those."""
    connect_seconds: float = 10.0
    """Longest wait for a connection, name and TLS included."""
    retries: int = 4
    """Further requests within one attempt."""
    max_wait_seconds: float = 120.0
    """Longest waiting within one attempt, all together; what is under way is finished."""
