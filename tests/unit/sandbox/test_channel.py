"""The engine's stream, demultiplexed; and moved by threads where asyncio cannot poll it."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from runner.sandbox.channel import (
    DIAGNOSTIC_BYTES,
    MAX_CHUNK,
    STREAM_HEADER,
    AttachedChannel,
    open_channel,
)
from runner.sandbox.pump import pumped


def chunk(stream: int, data: bytes) -> bytes:
    return STREAM_HEADER.pack(stream, len(data)) + data


async def read_all(*sent: bytes) -> tuple[list[bytes], str]:
    """What is read until the end, and the diagnostics."""
    ours, theirs = socket.socketpair()
    channel = await open_channel(ours, theirs)
    with theirs:
        for data in sent:
            await asyncio.to_thread(theirs.sendall, data)
        theirs.shutdown(socket.SHUT_WR)
        got = []
        while data := await channel.read():
            got.append(data)
        assert await channel.read() == b""
        await channel.close()
    return got, channel.diagnostics


async def test_stdout_is_the_channel_and_stderr_is_kept_aside() -> None:
    got, said = await read_all(
        chunk(1, b"one"), chunk(2, b"oops\xff"), chunk(1, b""), chunk(1, b"2")
    )
    assert got == [b"one", b"2"]
    assert said == "oops\ufffd"


async def test_chunks_arrive_however_the_stream_is_cut() -> None:
    sent = chunk(1, b"x" * 100_000) + chunk(1, b"y")
    got, _ = await read_all(*(sent[at : at + 7777] for at in range(0, len(sent), 7777)))
    assert got == [b"x" * 100_000, b"y"]


@pytest.mark.parametrize(
    "rest", [b"\x01", chunk(1, b"whole")[:-1], STREAM_HEADER.pack(1, MAX_CHUNK + 1) + b"x"]
)
async def test_a_stream_that_breaks_off_has_ended(rest: bytes) -> None:
    assert await read_all(chunk(1, b"before"), rest) == ([b"before"], "")


async def test_diagnostics_are_capped() -> None:
    _, said = await read_all(*[chunk(2, b"x" * 4000)] * 10)
    assert said == "x" * DIAGNOSTIC_BYTES


async def write_a_lot(channel: AttachedChannel) -> None:
    for _ in range(100):
        await channel.write(b"x" * 100_000)


async def test_writing_to_a_container_that_has_ended() -> None:
    ours, theirs = socket.socketpair()
    channel = await open_channel(ours, theirs)
    theirs.close()
    with pytest.raises(ConnectionError):
        await write_a_lot(channel)
    await channel.close()


async def test_closing_closes_both() -> None:
    ours, theirs = socket.socketpair()
    wrapper, other = socket.socketpair()
    channel = await open_channel(ours, wrapper)
    await channel.close()
    assert (theirs.recv(1), other.recv(1)) == (b"", b"")
    assert ours.fileno() == wrapper.fileno() == -1
    theirs.close()
    other.close()


# -- what asyncio cannot poll -------------------------------------------------------------------


class SshLike:
    """A socket of another library's: no descriptor, and a time-out that it starts with."""

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner
        inner.settimeout(0.05)

    def settimeout(self, seconds: float | None) -> None:
        self._inner.settimeout(seconds)

    def recv(self, size: int) -> bytes:
        return self._inner.recv(size)

    def sendall(self, data: bytes) -> None:
        self._inner.sendall(data)

    def shutdown(self, how: int) -> None:
        self._inner.shutdown(how)

    def close(self) -> None:
        self._inner.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate with")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=engine -keyout"
    subprocess.run([*command.split(), path, "-out", f"{path}.crt"], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


def tls_pair(certificate: Path) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    """Client and server, connected; the server greets with session tickets, as TLS 1.3 does."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate)
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.check_hostname, asking.verify_mode = False, ssl.CERT_NONE
    one, other = socket.socketpair()
    made: list[ssl.SSLSocket] = []
    accept = threading.Thread(target=lambda: made.append(serving.wrap_socket(other, True)))
    accept.start()
    client = asking.wrap_socket(one)
    accept.join()
    return client, made[0]


@pytest.fixture(params=["tls", "ssh"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, Any]]:
    """Our plain socket, and the engine's end behind the pump."""
    if request.param == "tls":
        raw, far = tls_pair(request.getfixturevalue("certificate"))
    else:
        inner, far = socket.socketpair()  # type: ignore[assignment]
        raw = SshLike(inner)  # type: ignore[assignment]
    before = set(threading.enumerate())
    ours = pumped(raw)
    threads = set(threading.enumerate()) - before
    ours.settimeout(20)
    far.settimeout(20)
    yield ours, far
    ours.close()
    far.close()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def receive(end: Any, size: int) -> bytes:
    got = bytearray()
    while len(got) < size and (data := end.recv(65_536)):
        got += data
    return bytes(got)


def test_bytes_go_both_ways(ends: tuple[socket.socket, Any]) -> None:
    ours, far = ends
    ours.sendall(b"question")
    assert receive(far, 8) == b"question"
    far.sendall(b"answer")
    assert receive(ours, 6) == b"answer"


def test_a_lot_goes_both_ways_at_once(ends: tuple[socket.socket, Any]) -> None:
    ours, _ = ends
    there, back = b"a" * 3_000_000, b"b" * 3_000_000
    got: list[bytes] = []

    def engine(far: Any) -> None:
        got.append(receive(far, len(there)))
        far.sendall(back)

    answering = threading.Thread(target=engine, args=(ends[1],))
    answering.start()
    ours.sendall(there)
    assert receive(ours, len(back)) == back
    answering.join()
    assert got == [there]


def test_silence_is_not_an_end(ends: tuple[socket.socket, Any]) -> None:
    ours, far = ends
    ours.settimeout(0.2)  # longer than the time-out that the engine's socket came with
    with pytest.raises(TimeoutError):
        ours.recv(1)
    ours.settimeout(20)
    far.sendall(b"late")
    assert receive(ours, 4) == b"late"


def test_the_engines_end_is_ours(ends: tuple[socket.socket, Any]) -> None:
    ours, far = ends
    far.sendall(b"last")
    far.close()
    assert receive(ours, 100) == b"last"


def test_our_end_is_the_engines(ends: tuple[socket.socket, Any]) -> None:
    ours, far = ends
    ours.close()
    with suppress(ssl.SSLEOFError):  # closed without a farewell
        assert far.recv(1) == b""
