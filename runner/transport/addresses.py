"""Which addresses may be connected to: what a submission names must not lead into our networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from runner.errors import InvalidConfiguration

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

Rule = Callable[[Address], str]
"""Why an address may not be connected to; empty: it may."""

SETTING = "remote.allow_addresses"

# What the standard library calls global changes from release to release; these never are, for us.
# https://www.iana.org/assignments/iana-ipv4-special-registry
_NOT_PUBLIC_4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; some clouds' metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host agent, at an address that looks public
        "169.254.0.0/16",  # most clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# https://www.iana.org/assignments/iana-ipv6-special-registry
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_SIX_TO_FOUR = IPv6Network("2002::/16")
_NOT_PUBLIC_6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # Teredo and other protocols' own
        "2001:db8::/32",
        "3fff::/20",
    )
)


def is_public(address: Address) -> bool:
    """Whether it is unicast on the public internet, also by the IPv4 address that it carries."""
    if not address.is_global or address.is_multicast:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    if address.scope_id is not None or any(address in network for network in _NOT_PUBLIC_6):
        return False
    if address in _NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
    if address in _SIX_TO_FOUR:
        return is_public(IPv4Address((int(address) >> 80) & 0xFFFF_FFFF))
    return address in _GLOBAL_UNICAST


def public_or_listed(listed: Iterable[Network]) -> Rule:
    """Public addresses, and those that the operator lists.

    An IPv4 address in the clothes of IPv6 (`::ffff:10.0.0.1`) passes only where the IPv4 address
    is listed: nothing honest answers with one.
    """
    networks = tuple(listed)

    def rule(address: Address) -> str:
        mapped = getattr(address, "ipv4_mapped", None)
        if any((mapped or address) in network for network in networks):
            return ""
        return "" if is_public(address) else f"is not a public address, nor listed in {SETTING}"

    return rule


def loopback_alone(address: Address) -> str:
    """A Rule: this host itself, and nothing beyond it."""
    mapped = getattr(address, "ipv4_mapped", None)
    return "" if (mapped or address).is_loopback else "is not a loopback address"


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """The networks written as CIDR; raises InvalidConfiguration."""
    return tuple(_network(text) for text in texts)


def _network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise InvalidConfiguration(
            f"{SETTING}: {text!r} is not a network: {error}",
            remedy='write networks such as "10.1.0.0/16" or "127.0.0.1/32"',
        ) from error


def literal(host: str) -> Address | None:
    """The address that `host` spells out; None for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None
