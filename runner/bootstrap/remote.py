"""From the settings to what is allowed of agents behind a URL."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from pydantic import SecretStr

from runner.config import Settings
from runner.transport.addresses import parse_networks
from runner.transport.remote_policy import RemotePolicy


def remote_policy_of(settings: Settings, environ: Mapping[str, str]) -> RemotePolicy:
    """The operator's policy, with those variables that manifests may name and no others.

    Raises InvalidConfiguration.
    """
    remote = settings.remote
    return RemotePolicy(
        allow_addresses=parse_networks(remote.allow_addresses),
        allow_plain_http=remote.allow_plain_http,
        credential_variables=remote.credential_variables,
        credentials={
            name: SecretStr(value)
            for name, value in environ.items()
            if any(fnmatchcase(name, pattern) for pattern in remote.credential_variables)
        },
        ca_file=remote.ca_file,
        connect_seconds=remote.connect_seconds,
        retries=remote.retries,
        max_wait_seconds=remote.max_wait_seconds,
    )
