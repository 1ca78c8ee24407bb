"""A plain socket in front of one that asyncio cannot poll: TLS, or a channel of an ssh client."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from contextlib import suppress
from typing import Any

CHUNK = 65_536
_NOT_NOW = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)


def pumped(raw: Any) -> socket.socket:
    """A socket through which threads of ours move all bytes to and from `raw`.

    They end, and close both, once either side has ended.
    """
    ours, theirs = socket.socketpair()
    if isinstance(raw, ssl.SSLSocket):
        _start(_relay_tls, raw, theirs)
        return ours
    with suppress(AttributeError):
        raw.settimeout(None)  # an agent may be silent for longer than any answer of the engine
    _start(_copy, raw, theirs)
    _start(_copy, theirs, raw)
    return ours


def _start(function: Any, *arguments: Any) -> None:
    threading.Thread(target=function, args=arguments, name="engine-pump", daemon=True).start()


def _copy(source: Any, target: Any) -> None:
    """One way of two."""
    with suppress(OSError, ValueError):
        while data := source.recv(CHUNK):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError, ValueError, AttributeError):
            end.shutdown(socket.SHUT_RDWR)
    for end in (source, target):
        with suppress(OSError):
            end.close()


def _relay_tls(tls: ssl.SSLSocket, plain: socket.socket) -> None:
    """Both ways in one thread: OpenSSL's connections must not be used by two at once."""
    with tls, plain, suppress(OSError, ValueError):
        tls.setblocking(False)
        plain.setblocking(False)
        arrived, leaving = _Way(tls, plain), _Way(plain, tls)
        while not (arrived.ended or leaving.ended):
            _wait(tls, plain, arrived, leaving)
            arrived.move()
            leaving.move()


def _wait(tls: ssl.SSLSocket, plain: socket.socket, arrived: _Way, leaving: _Way) -> None:
    if tls.pending() and not arrived.held:
        return  # decrypted already, so the kernel has nothing more to tell
    poll = select.poll()
    for end, arriving, going in ((tls, arrived, leaving), (plain, leaving, arrived)):
        readable = 0 if arriving.held else select.POLLIN
        writable = select.POLLOUT if going.held else 0
        poll.register(end, readable | writable)
    poll.poll()


class _Way:
    """One direction; holds at most one chunk."""

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self._source = source
        self._target = target
        self.held = b""
        self.ended = False

    def move(self) -> None:
        """As much as goes without waiting."""
        with suppress(*_NOT_NOW):
            if not self.held:
                self.held = self._source.recv(CHUNK)
                self.ended = not self.held
            while self.held:
                self.held = self.held[self._target.send(self.held) :]
