"""No address that is not on the public internet, in whatever clothes, unless it is listed."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner.errors import InvalidConfiguration, InvalidSubmission
from runner.transport.addresses import (
    is_public,
    loopback_alone,
    parse_networks,
    public_or_listed,
)
from runner.transport.endpoints import Target, breaker_name, parse_target
from tests.unit.transport.remote_endpoint import endpoint

NOT_PUBLIC = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1"),
    *("127.255.255.254", "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255"),
    *("192.0.0.192", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1"),
    *("203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1"),
    *("2001:db8::1", "3fff::1", "100::1", "5f00::1", "4000::1", "2001:2::1", "2001:10::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:8.8.8.8"),
    *("::127.0.0.1", "::8.8.8.8"),  # the old "compatible" form
    *("2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:a00:1::1"),  # 6to4
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",  # Teredo
    *("64:ff9b::127.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b:1::8.8.8.8", "64:ff9b:1::1"),
    "2606:4700::1%eth0",
]
PUBLIC = ["8.8.8.8", "93.184.216.34", "100.63.255.255", "100.128.0.1", "172.32.0.1", "2606:4700::1"]
PUBLIC += ["64:ff9b::8.8.8.8", "2002:808:808::1", "2a00:1450::1"]

NOTHING_LISTED = public_or_listed(())


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_refused(text: str) -> None:
    assert NOTHING_LISTED(ip_address(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_public(text: str) -> None:
    assert NOTHING_LISTED(ip_address(text)) == ""


@given(st.ip_addresses())
@example(IPv6Address("::ffff:8.8.8.8"))
def test_what_the_standard_library_calls_not_global_is_never_allowed(
    address: IPv4Address | IPv6Address,
) -> None:
    if not address.is_global or address.is_multicast:
        assert not is_public(address)
        assert NOTHING_LISTED(address)


@given(st.ip_addresses(v=4))
@example(IPv4Address("127.0.0.1"))
def test_carried_addresses_are_judged_by_what_they_carry(address: IPv4Address) -> None:
    if not is_public(address):
        inner = int(address)
        for outer in (
            inner,
            0xFFFF_0000_0000 | inner,
            int(IPv6Address("64:ff9b::")) | inner,
            int(IPv6Address("2002::")) | inner << 80,
            int(IPv6Address("2001::")) | inner ^ 0xFFFF_FFFF,
        ):
            assert not is_public(IPv6Address(outer))


def test_a_listed_network_is_allowed_and_no_more() -> None:
    rule = public_or_listed(parse_networks(["10.1.0.0/16", "::1/128"]))
    allowed = ["10.1.2.3", "::1", "::ffff:10.1.2.3", "8.8.8.8"]
    assert [rule(ip_address(text)) for text in allowed] == [""] * 4
    assert all(rule(ip_address(text)) for text in ("10.2.0.1", "::2", "::ffff:10.2.0.1"))


def test_all_of_ipv6_does_not_list_ipv4() -> None:
    rule = public_or_listed(parse_networks(["::/0"]))
    assert rule(ip_address("fd00::1")) == ""
    assert rule(ip_address("::ffff:127.0.0.1"))


@pytest.mark.parametrize("text", ["10.0.0.1/8", "localhost", "", "10.0.0.0/33", "fe80::1%eth0/64x"])
def test_a_network_that_is_none_is_named(text: str) -> None:
    with pytest.raises(InvalidConfiguration, match=r"remote\.allow_addresses"):
        parse_networks([text])


@pytest.mark.parametrize("text", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_loopback(text: str) -> None:
    assert loopback_alone(ip_address(text)) == ""


@pytest.mark.parametrize("text", ["10.0.0.1", "8.8.8.8", "fd00::1", "0.0.0.0"])
def test_not_loopback(text: str) -> None:
    assert loopback_alone(ip_address(text))


# -- URLs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "target", "authority", "origin"),
    [
        ("https://Agent.Example/ask?a=b", ("agent.example", 443, "/ask?a=b"), "agent.example", 0),
        ("HTTPS://agent.example", ("agent.example", 443, "/"), "agent.example", 0),
        ("https://a.example?x=/@", ("a.example", 443, "/?x=/@"), "a.example", 0),
        ("https://a.example:8443/", ("a.example", 8443, "/"), "a.example:8443", 0),
        ("https://192.0.2.7/", ("192.0.2.7", 443, "/"), "192.0.2.7", 0),
        ("https://[2001:DB8::0:7]:1/x", ("2001:db8::7", 1, "/x"), "[2001:db8::7]:1", 0),
        ("https://xn--bcher-kva.example/", ("xn--bcher-kva.example", 443, "/"), None, 0),
        ("https://my_agent:9/", ("my_agent", 9, "/"), "my_agent:9", "https://my_agent:9"),
    ],
)
def test_a_url_is_taken_apart(
    url: str, target: tuple[str, int, str], authority: str | None, origin: object
) -> None:
    host, port, path = target
    parsed = parse_target(url)
    assert parsed == Target(scheme="https", host=host, port=port, path=path)
    assert parsed.authority == (authority or host)
    assert not origin or parsed.origin == origin


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "agent.example",
            "ftp://a.example/",
            "//a.example",
            "https:///x",
            "https://",
            "https:/a",
        ),
        *("https://user@a.example/", "https://user:hunter22@a.example/", "https://a.example#f"),
        *("https://a.example\\@b.example/", "https://a.example/ x", "https://a.example/\n"),
        *("https://2130706433/", "https://0x7f000001/", "https://0x7f.1/", "https://127.1/"),
        *("https://0177.0.0.1/", "https://017700000001/", "https://127.0.0.01/", "https://a.0x7f/"),
        *("https://127.0.0.1./", "https://a.example./", "https://a..example/", "https://.a/"),
        *("https://bücher.example/", "https://\uff11\uff12\uff17.0.0.1/", "https://127。0。0。1/"),
        *("https://[fe80::1%25eth0]/", "https://[fe80::1%eth0]/", "https://[::1/", "https://[]/"),
        *("https://[127.0.0.1]/", "https://::1/", "https://%31%32%37.0.0.1/", "https://a b/"),
        *("https://a.example:0/", "https://a.example:65536/", "https://a.example:999999/"),
        *("https://a.example:80:80/", "https://a.example:-1/", "https://-a.example/"),
        *("https://a.example:+80/", "https://" + "a" * 64 + ".example/", "https://a*b/"),
        *("https://" + "a." * 130 + "example/", "https://a.example/" + "x" * 2100),
    ],
)
def test_odd_urls_are_refused_and_not_shown(url: str) -> None:
    with pytest.raises(InvalidSubmission) as caught:
        parse_target(url)
    assert caught.value.remedy
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://A.example/ask?key=hunter22", "endpoint https://a.example:443"),
        ("http://[::1]:8000/", "endpoint http://[::1]:8000"),
    ],
)
def test_one_breaker_for_each_origin(url: str, name: str) -> None:
    assert breaker_name(endpoint(url)) == name
