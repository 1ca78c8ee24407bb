"""TLS to a remote agent: its name must be in a certificate that somebody we trust has signed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from runner.domain import EndingKind
from runner.errors import InvalidConfiguration, InvalidSubmission
from runner.transport.remote import RemoteAgent, reach
from tests.unit.transport.remote_endpoint import (
    OK,
    POLICY,
    PUBLIC,
    World,
    asked,
    endpoint,
    listening,
    raw,
    serving,
    silent,
)

NOW = datetime.now(UTC)
NAME = "agent.test"


@dataclass(frozen=True)
class Authority:
    """Signs certificates; its own is in `ca_file`."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    directory: Path

    @property
    def ca_file(self) -> Path:
        return self.directory / "ca.pem"

    def server(self, *names: str, days: int = 30) -> ssl.SSLContext:
        """A server's side, for those names, with a certificate that ends in so many days."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = [_alternative(name) for name in names]
        certificate = (
            _builder("server", self.certificate.subject, key, NOW + timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        path = self.directory / f"server-{certificate.serial_number}.pem"
        path.write_bytes(_pem(certificate) + _key_pem(key))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(
    name: str, issuer: x509.Name | None, key: ec.EllipticCurvePrivateKey, until: datetime
) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=60))
        .not_valid_after(until)
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    constraints = x509.BasicConstraints(ca=True, path_length=None)
    certificate = (
        _builder("authority", None, key, NOW + timedelta(days=90))
        .add_extension(constraints, critical=True)
        .sign(key, hashes.SHA256())
    )
    made = Authority(key, certificate, tmp_path_factory.mktemp("authority"))
    made.ca_file.write_bytes(_pem(certificate))
    return made


async def test_a_valid_certificate(authority: Authority) -> None:
    policy = replace(POLICY, ca_file=str(authority.ca_file), allow_plain_http=False)
    world = World([PUBLIC])  # the name is checked, although the address is what is dialled
    async with serving(OK, tls=authority.server(NAME)) as served:
        where = endpoint(
            f"https://{NAME}:{served.port}/",
            auth_type="bearer",
            auth_credentials={"token": "hunter22"},
        )
        made = await asked(where, world, policy)
        line = await reach(where, policy, world.outside)
    assert made.reply.output == "42"
    assert served.header("Authorization") == "Bearer hunter22"
    assert served.header("Host") == f"{NAME}:{served.port}"
    assert world.dialler.dialled == [PUBLIC] * 2
    assert "certificate valid until" in line
    assert str((NOW + timedelta(days=30)).year) in line


async def test_an_address_in_the_certificate(authority: Authority) -> None:
    policy = replace(POLICY, ca_file=str(authority.ca_file))
    async with serving(OK, tls=authority.server("127.0.0.1")) as served:
        made = await asked(f"https://127.0.0.1:{served.port}/", policy=policy)
    assert made.reply.output == "42"


Server = Callable[[Authority], ssl.SSLContext]


@pytest.mark.parametrize(
    ("server", "trusted", "says_so"),
    [
        (lambda a: a.server(NAME), False, "certificate"),
        (lambda a: a.server("other.test"), True, "Hostname mismatch"),
        (lambda a: a.server("127.0.0.1"), True, "Hostname mismatch"),
        (lambda a: a.server(NAME, days=-1), True, "expired"),
    ],
    ids=["unknown authority", "other name", "the address alone", "expired"],
)
async def test_a_certificate_that_is_not_valid(
    authority: Authority, server: Server, trusted: bool, says_so: str
) -> None:
    policy = replace(POLICY, ca_file=str(authority.ca_file) if trusted else "")
    world = World([PUBLIC])
    async with serving(OK, tls=server(authority)) as served:
        where = endpoint(f"https://{NAME}:{served.port}/")
        made = await asked(where, world, policy)
        with pytest.raises(InvalidSubmission, match=r"remote\.ca_file"):
            await reach(where, policy, world.outside)
    assert made.reply.ending.kind is EndingKind.UNREACHABLE
    assert says_so in made.reply.ending.detail
    assert (served.heads, world.slept) == ([], [])  # nothing was sent, nothing is tried again


async def test_a_server_without_tls() -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n" * 10)
        await writer.drain()

    async with listening(greet) as port:
        made = await asked(f"https://127.0.0.1:{port}/", world := World([]))
    assert made.reply.ending.kind is EndingKind.UNREACHABLE
    assert "no TLS" in made.reply.ending.detail
    assert world.slept == []


async def test_a_handshake_that_is_cut_off_is_tried_again() -> None:
    async def hang_up(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(1)

    async with listening(hang_up) as port:
        made = await asked(f"https://127.0.0.1:{port}/", world := World([]))
    assert made.reply.ending.kind is EndingKind.UNREACHABLE
    assert len(world.slept) == POLICY.retries


async def test_a_handshake_that_never_ends_is_given_up() -> None:
    policy = replace(POLICY, connect_seconds=0.1, retries=1)
    async with listening(silent) as port:
        made = await asked(f"https://127.0.0.1:{port}/", World([]), policy)
    assert made.reply.ending.kind is EndingKind.UNREACHABLE
    assert "within 0.1 s (tries: 2" in made.reply.ending.detail


async def test_a_connection_cut_under_tls_is_not_asked_again(authority: Authority) -> None:
    policy = replace(POLICY, ca_file=str(authority.ca_file))
    cut = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{")
    async with serving(cut, OK, tls=authority.server("127.0.0.1")) as served:
        made = await asked(f"https://127.0.0.1:{served.port}/", policy=policy)
    assert made.reply.ending.kind is EndingKind.CRASHED
    assert len(served.heads) == 1


@pytest.mark.parametrize("content", [None, b"", b"not a certificate"])
def test_a_ca_file_that_is_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidConfiguration, match=r"remote\.ca_file"):
        RemoteAgent(endpoint("https://a.example/"), replace(POLICY, ca_file=str(path)))
