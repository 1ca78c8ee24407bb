"""The shim's relay as it is, on this host: its listener, its windows, and how connections end.

Its signals and its kill are taken away; nothing here starts a process.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from runner.transport.frames import (
    ACCEPTED_NUMBERS,
    COUNT,
    WINDOW,
    Frame,
    FrameDecoder,
    Kind,
    encode,
)
from tests.unit.transport.shim_program import load

MOST = 3
FIRST = ACCEPTED_NUMBERS
TURNS = 5000


@dataclass
class Rig:
    """A shim that listens, with the host's end in the test's hands."""

    module: ModuleType
    shim: Any
    host: socket.socket
    sent: Path
    clients: list[socket.socket]

    def connect(self) -> socket.socket:
        client = socket.create_connection(self.shim.listener.socket.getsockname())
        client.settimeout(20)
        self.clients.append(client)
        return client

    def connected(self) -> tuple[socket.socket, int]:
        """A client, and the number that the shim gave it."""
        before = len(self.accepted())
        client = self.connect()
        self.until(lambda: len(self.accepted()) > before)
        return client, self.accepted()[-1]

    def say(self, kind: Kind, payload: bytes = b"", stream: int = FIRST) -> None:
        self.host.sendall(encode(Frame(kind, payload, stream)))
        self.until(lambda: not select.select([self.shim_stdin()], [], [], 0)[0])

    def shim_stdin(self) -> int:
        return int(self.module.STDIN)

    def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            assert self.shim.poll.poll(20_000), "nothing more happens"
            self.shim.turn()

    def rest(self) -> None:
        """Until nothing is left to do; a loop that turns for nothing never comes there."""
        for _ in range(TURNS):
            if not self.shim.poll.poll(0):
                return
            self.shim.turn()
        raise AssertionError("it never rests")

    def heard(self, *kinds: Kind, stream: int | None = None) -> list[Frame]:
        frames = FrameDecoder().feed(self.sent.read_bytes())
        return [
            f
            for f in frames
            if (not kinds or f.kind in kinds) and (stream is None or f.stream == stream)
        ]

    def accepted(self) -> list[int]:
        return [frame.stream for frame in self.heard(Kind.ACCEPTED)]

    def data(self, stream: int = FIRST) -> bytes:
        return b"".join(frame.payload for frame in self.heard(Kind.DATA, stream=stream))

    def credited(self, stream: int = FIRST) -> int:
        return sum(COUNT.unpack(f.payload)[0] for f in self.heard(Kind.CREDIT, stream=stream))


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    module = load()
    harmless = SimpleNamespace(
        SIGCHLD=0, SIG_IGN=0, signal=lambda *_: None, set_wakeup_fd=lambda *_, **__: None
    )
    monkeypatch.setattr(module, "signal", harmless)
    monkeypatch.setattr(module, "kill_everything", lambda: None)
    monkeypatch.setattr(module, "wait_until_alone", lambda: 0)
    host, ours = socket.socketpair()
    sent = os.open(tmp_path / "sent", os.O_WRONLY | os.O_CREAT)
    monkeypatch.setattr(module, "STDIN", ours.fileno())
    monkeypatch.setattr(module, "STDOUT", sent)
    shim = module.Shim()
    shim.watch(module.STDIN, shim.on_request)
    shim.listener = module.Listener(shim, 0, MOST)
    made = Rig(module, shim, host, tmp_path / "sent", [])
    yield made
    shim.hang_up()
    for client in made.clients:
        client.close()
    host.close()
    ours.close()
    os.close(sent)
    os.close(shim.wakeup)


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def read_all(client: socket.socket) -> bytes:
    data = bytearray()
    while part := client.recv(65_536):
        data += part
    return bytes(data)


# -- there and back -----------------------------------------------------------------------------


def test_a_connection_from_its_beginning_to_its_end(rig: Rig) -> None:
    client, number = rig.connected()
    assert number == FIRST
    client.sendall(b"question")
    client.shutdown(socket.SHUT_WR)
    rig.until(lambda: bool(rig.heard(Kind.END)))
    assert rig.data() == b"question"
    rig.say(Kind.DATA, b"answer")
    rig.say(Kind.CLOSE)
    assert read_all(client) == b"answer"
    rig.rest()
    assert [frame.kind for frame in rig.heard()] == [Kind.ACCEPTED, Kind.DATA, Kind.END]
    assert rig.shim.connections == {}


def test_the_hosts_end_is_passed_on_and_the_agent_may_go_on(rig: Rig) -> None:
    client, _ = rig.connected()
    rig.say(Kind.DATA, b"all")
    rig.say(Kind.END)
    assert read_all(client) == b"all"
    client.sendall(b"more")
    rig.until(lambda: rig.data() == b"more")
    client.close()
    rig.until(lambda: bool(rig.heard(Kind.CLOSE)))
    assert [f.kind for f in rig.heard()][-2:] == [Kind.END, Kind.CLOSE]
    rig.say(Kind.CLOSE)
    assert rig.shim.connections == {}


def test_nothing_of_it_is_inherited(rig: Rig) -> None:
    rig.connected()
    sockets = [rig.shim.listener.socket, *(c.socket for c in rig.shim.connections.values())]
    assert [os.get_inheritable(s.fileno()) for s in sockets] == [False, False]


# -- windows ------------------------------------------------------------------------------------


def test_the_agent_is_read_a_window_ahead_and_no_further(rig: Rig) -> None:
    client, _ = rig.connected()
    client.setblocking(False)
    for extra in (0, 1, 1000):
        if extra:
            rig.say(Kind.CREDIT, COUNT.pack(extra))
        for _ in range(20):
            try:
                client.send(b"x" * 65_536)
            except BlockingIOError:
                break
        rig.rest()
        assert len(rig.data()) == WINDOW + (extra and 1) + (extra if extra > 1 else 0)


def slow(rig: Rig) -> tuple[socket.socket, int]:
    """A client that reads nothing, with as little as can be between it and the shim."""
    rig.shim.listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(20)
    client.connect(rig.shim.listener.socket.getsockname())
    rig.clients.append(client)
    rig.until(lambda: bool(rig.accepted()))
    return client, rig.accepted()[-1]


def test_only_what_the_agent_took_is_credited(rig: Rig) -> None:
    client, number = slow(rig)
    for _ in range(WINDOW // 32_768):
        rig.say(Kind.DATA, b"x" * 32_768)
    rig.rest()
    assert rig.credited() == 0
    assert 0 < len(rig.shim.connections[number].pending) <= WINDOW
    taken = 0
    while taken < WINDOW:
        taken += len(client.recv(65_536))
        rig.rest()
    assert not rig.shim.connections[number].pending
    assert WINDOW // 2 <= rig.credited() <= WINDOW


def test_one_who_does_not_read_holds_up_no_other(rig: Rig) -> None:
    slow(rig)
    for _ in range(WINDOW // 32_768):
        rig.say(Kind.DATA, b"x" * 32_768)
    client, number = rig.connected()
    client.sendall(b"question")
    rig.until(lambda: rig.data(number) == b"question")
    rig.say(Kind.DATA, b"answer", number)
    assert client.recv(100) == b"answer"
    rig.rest()


def test_what_the_host_wrote_before_its_close_is_delivered_to_a_slow_reader(rig: Rig) -> None:
    client, _ = slow(rig)
    client.sendall(b"nobody reads this" * 1000)
    rig.say(Kind.DATA, b"x" * 65_000)
    rig.say(Kind.CLOSE)
    taken = 0
    while taken < 65_000:
        taken += len(client.recv(65_536))
        rig.rest()
    assert client.recv(1) == b""


# -- how many -----------------------------------------------------------------------------------


def test_beyond_the_maximum_the_backlog_waits_for_the_host_to_close(rig: Rig) -> None:
    clients = [rig.connected()[0] for _ in range(MOST)]
    rig.connect()
    rig.rest()
    assert len(rig.accepted()) == MOST
    clients[0].close()
    rig.rest()
    reset(clients[1])
    rig.rest()
    assert len(rig.accepted()) == MOST, "what the agent closes the host may still be busy with"
    rig.say(Kind.CLOSE, stream=FIRST)
    rig.until(lambda: len(rig.accepted()) == MOST + 1)
    rig.rest()
    assert len(set(rig.accepted())) == MOST + 1


def test_an_endless_row_of_connections_leaves_nothing_behind(rig: Rig) -> None:
    for number in range(100):
        client, stream = rig.connected()
        if number % 2:
            reset(client)
        else:
            client.close()
        rig.rest()
        rig.say(Kind.CLOSE, stream=stream)
        rig.rest()
    assert rig.shim.connections == {}
    assert rig.shim.pauses == {}
    assert len(rig.shim.handlers) == 2, "the host and the listener"
    assert rig.shim.listener.room == MOST


def test_a_client_that_never_closes_keeps_its_place_only_for_a_while(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.module, "PAUSE_SECONDS", 0.05)
    kept = [rig.connected() for _ in range(MOST)]
    rig.connect()
    for _, number in kept:
        rig.say(Kind.CLOSE, stream=number)
    while len(rig.accepted()) < MOST + 1:
        rig.shim.turn()
    assert len(rig.shim.connections) <= MOST


class Exhausted:
    """A listening socket for which there is no descriptor left, once."""

    def __init__(self, real: Any) -> None:
        self.real, self.refusals = real, [OSError(errno.EMFILE, "too many open files")]

    def _accept(self) -> Any:
        if self.refusals:
            raise self.refusals.pop()
        return self.real._accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def test_without_a_descriptor_left_it_tries_again_later_and_does_not_spin(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.module, "PAUSE_SECONDS", 0.05)
    rig.shim.listener.socket = Exhausted(rig.shim.listener.socket)
    rig.connect()
    rig.rest()
    assert rig.accepted() == []
    while not rig.accepted():
        rig.shim.turn()


# -- ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("waiting", [False, True])
def test_a_reset_is_told_at_once_whatever_is_waited_for(rig: Rig, waiting: bool) -> None:
    client, _ = rig.connected()
    if waiting:  # for nothing: the agent has ended its side, and there is nothing for it
        client.shutdown(socket.SHUT_WR)
        rig.until(lambda: bool(rig.heard(Kind.END)))
        rig.rest()
    reset(client)
    rig.until(lambda: bool(rig.heard(Kind.CLOSE)))
    rig.say(Kind.DATA, b"too late")
    rig.say(Kind.CREDIT, COUNT.pack(1))
    rig.say(Kind.END)
    rig.say(Kind.CLOSE)
    rig.rest()
    assert len(rig.heard(Kind.CLOSE)) == 1
    assert rig.shim.connections == {}


def test_a_reset_by_one_whose_data_nobody_takes_does_not_spin(rig: Rig) -> None:
    client, _ = rig.connected()
    rig.say(Kind.END)
    client.setblocking(False)
    while True:
        try:
            client.send(b"x" * 65_536)
        except BlockingIOError:
            break
        rig.rest()
    client.close()
    rig.rest()
    assert len(rig.data()) == WINDOW
    rig.say(Kind.CLOSE)
    rig.rest()


def test_stop_ends_every_connection_and_the_listener(rig: Rig) -> None:
    client, _ = rig.connected()
    waiting = rig.connect()
    rig.rest()
    address = rig.shim.listener.socket.getsockname()
    rig.say(Kind.STOP, stream=0)
    assert rig.heard()[-1] == Frame(Kind.STOPPED, b'{"remaining": 0}')
    for closed in (client, waiting):
        assert closed.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    assert (rig.shim.connections, rig.shim.listener) == ({}, None)
    for kind in (Kind.DATA, Kind.CREDIT, Kind.END, Kind.CLOSE):
        rig.say(kind)
    rig.rest()


def test_the_host_is_heard_within_one_turn_of_a_flood(rig: Rig) -> None:
    for _ in range(MOST):
        client, number = rig.connected()
        client.sendall(b"x" * 100_000)
    for _ in range(50):
        rig.connect()
    rig.host.sendall(encode(Frame(Kind.STOP)))
    rig.shim.turn()
    assert rig.heard(Kind.STOPPED)
    assert number == FIRST + MOST - 1


def test_an_event_is_not_told_to_one_who_came_later(rig: Rig) -> None:
    """A descriptor's number is given anew as soon as it is closed, also within one turn."""
    (first, first_end), (second, second_end) = os.pipe(), os.pipe()
    told = []

    def replace(other: int) -> Callable[[int], None]:
        def handler(_event: int) -> None:
            rig.shim.unwatch(first)
            rig.shim.unwatch(second)
            rig.shim.watch(other, told.append)

        return handler

    rig.shim.watch(first, replace(second))
    rig.shim.watch(second, replace(first))
    for end in (first_end, second_end):
        os.write(end, b"x")
    rig.shim.turn()
    assert told == []
    rig.shim.turn()
    assert told == [select.POLLIN]
    for descriptor in (first, second):
        rig.shim.unwatch(descriptor)
    for descriptor in (first, first_end, second, second_end):
        os.close(descriptor)


# -- dialed -------------------------------------------------------------------------------------


def test_a_dialed_connection_ends_like_the_others(rig: Rig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        request = b'{"port": %d}' % server.getsockname()[1]
        rig.say(Kind.DIAL, request, 16)
        assert rig.heard()[-1] == Frame(Kind.DIALED, b"{}", 16)
        agent, _ = server.accept()
        with agent:
            rig.say(Kind.DATA, b"question", 16)
            assert agent.recv(100) == b"question"
            agent.sendall(b"answer")
        rig.until(lambda: bool(rig.heard(Kind.END)))
        assert rig.data(16) == b"answer"
        rig.say(Kind.CLOSE, stream=16)
        rig.rest()
        assert rig.shim.connections == {}
        assert rig.shim.listener.room == MOST
    rig.say(Kind.DIAL, request, 17)
    assert rig.heard()[-1].kind is Kind.DIALED
    assert b"refused" in rig.heard()[-1].payload
