"""An engine's unix socket over TCP on 127.0.0.1, so that it looks like one on another host."""

from __future__ import annotations

import socket
import socketserver
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any


class Proxy(socketserver.ThreadingTCPServer):
    """A context manager; `url` is for DOCKER_HOST, `drop` is a network that fails."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, target: Path) -> None:
        super().__init__(("127.0.0.1", 0), Relay)
        self.target = str(target)
        self.open: set[socket.socket] = set()
        self._serving = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Proxy:
        self._serving.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.drop()
        self.shutdown()
        self.server_close()
        self._serving.join()

    def drop(self) -> None:
        """Ends every connection there is; new ones are taken."""
        for end in list(self.open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: Any) -> None:
        """A connection that broke is what this is for."""


class Relay(socketserver.BaseRequestHandler):
    """One connection, moved both ways until both sides have ended."""

    server: Proxy

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as engine:
            engine.connect(self.server.target)
            ends = {engine, self.request}
            self.server.open |= ends
            try:
                back = threading.Thread(target=move, args=(engine, self.request), daemon=True)
                back.start()
                move(self.request, engine)
                back.join()
            finally:
                self.server.open -= ends


def move(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
