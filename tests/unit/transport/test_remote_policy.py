"""The settings as the policy for agents behind a URL."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from runner.bootstrap.remote import remote_policy_of
from runner.config import Settings, load_settings
from runner.errors import InvalidConfiguration
from runner.transport.remote_policy import RemotePolicy


def settings(**flags: object) -> Settings:
    given = {f"remote.{name}": value for name, value in flags.items()}
    return load_settings(given, cwd=Path("/nonexistent"), environ={}).settings


def test_the_defaults_are_those_of_the_settings() -> None:
    assert remote_policy_of(settings(), {}) == RemotePolicy()


def test_everything_is_taken_over() -> None:
    given = {
        "allow_addresses": ["10.1.0.0/16", "::1/128"],
        "allow_plain_http": True,
        "ca_file": "/ca.pem",
        "connect_seconds": 3,
        "retries": 2,
        "max_wait_seconds": 9,
    }
    policy = remote_policy_of(settings(**given), {})
    expected = given | {"allow_addresses": (ip_network("10.1.0.0/16"), ip_network("::1/128"))}
    assert {name: getattr(policy, name) for name in given} == expected


def test_only_the_variables_that_match_get_in_and_are_not_shown() -> None:
    environ = {"AGENT_KEY": "hunter22", "AGENTTRACE_STORE": "hunter23", "PATH": "hunter24"}
    policy = remote_policy_of(settings(), environ)
    assert {name: value.get_secret_value() for name, value in policy.credentials.items()} == {
        "AGENT_KEY": "hunter22"
    }
    assert "hunter" not in repr(policy)


def test_an_address_that_is_none() -> None:
    with pytest.raises(InvalidConfiguration, match=r"remote\.allow_addresses: 'nowhere'"):
        remote_policy_of(settings(allow_addresses=["nowhere"]), {})
