"""A provider of models on the loopback that stalls, refuses, breaks off and goes away, as told.

It counts: every request that came, and every answer that was begun.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.end_to_end.shell import PATIENCE_SECONDS, wait_until

TOKENS_INPUT, TOKENS_OUTPUT = 10, 5
TOKENS = TOKENS_INPUT + TOKENS_OUTPUT
"""Of each call, as the provider counts them."""
PIECES = 20
"""Of a streamed answer."""
LINGER_NOT = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Play:
    """What becomes of one request."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    held: bool = False
    """It is answered when the test says so (`Upstream.release`)."""
    cut: bool = False
    """A stream is broken off in its middle."""


WELL = Play()
HELD = Play(held=True)
CUT = Play(cut=True)
BROKEN = Play(status=500)


def busy(seconds: float) -> Play:
    """Too many requests."""
    return Play(status=429, headers={"retry-after": str(seconds)})


class Upstream:
    """A context manager; `down` is what a killed process looks like from afar."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        """The last message of each request, in order."""
        self.answered = 0
        """Requests to which a model's answer was sent, as far as anybody took it."""
        self._always = WELL
        self._next: deque[Play] = deque()
        self._released = threading.Event()
        self._guard = threading.Lock()
        self._server: _Server | None = None
        self._port = 0

    def __enter__(self) -> Upstream:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self.down()

    @property
    def environment(self) -> dict[str, str]:
        """Settings for runners: this upstream is `local`, and agents may call its models."""
        url = f"http://127.0.0.1:{self._port}/v1"
        price = {"input_usd_per_million": 1, "output_usd_per_million": 2}
        given = {"local": {"api": "openai", "base_url": url, "prices": {"m": price}}}
        return {
            "AGENTTRACE_GATEWAY__MODELS": '["local/*", "agenttrace/scripted"]',
            "AGENTTRACE_GATEWAY__UPSTREAMS": json.dumps(given),
        }

    def next(self, *plays: Play) -> None:
        """Of the next requests, one each."""
        with self._guard:
            self._next.extend(plays)

    def always(self, play: Play) -> None:
        """Of all others."""
        self._always = play

    def release(self) -> None:
        """Lets all held requests be answered."""
        self._released.set()

    def wait_for_asked(self, count: int) -> None:
        """Until so many requests have come."""
        wait_until(lambda: len(self.asked) >= count)

    def up(self) -> None:
        """It listens; after `down` at the same port again."""
        self._server = _Server(self, self._port)
        self._port = self._server.server_address[1]
        self._server.begin()

    def down(self) -> None:
        """Nobody listens any more, and every connection is reset."""
        server, self._server = self._server, None
        if server is not None:
            server.end()

    def _came(self, text: str) -> Play:
        with self._guard:
            self.asked.append(text)
            play = self._next.popleft() if self._next else self._always
        if play.held:
            assert self._released.wait(PATIENCE_SECONDS)
        return play

    def _answers(self) -> None:
        with self._guard:
            self.answered += 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, upstream: Upstream, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.upstream = upstream
        self.connections: set[socket.socket] = set()
        self._serving = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    def begin(self) -> None:
        self._serving.start()

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        self._serving.join()
        for connection in list(self.connections):
            _reset(connection)

    def handle_error(self, *_: Any) -> None:
        """A runner that was killed is what this is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        with suppress(OSError, ValueError):
            super().finish()

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        play = self.server.upstream._came(str(asked["messages"][-1]["content"]))
        if play.status != 200:
            self._say(play.status, b'{"error": {"message": "as the test wants"}}', play.headers)
            return
        self.server.upstream._answers()
        text = str(asked["messages"][-1]["content"]).partition("Say ")[2].rstrip(".")
        if asked.get("stream"):
            self._stream(text, play)
        else:
            self._say(200, json.dumps(_whole(text)).encode(), {})

    def _say(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, text: str, play: Play) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        events = _events(text)
        for event in events[: len(events) // 2] if play.cut else events:
            data = b"data: " + json.dumps(event).encode() + b"\n\n"
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        if play.cut:
            self.close_connection = True
            _reset(self.connection)
            return
        end = b"data: [DONE]\n\n"
        self.wfile.write(f"{len(end):x}\r\n".encode() + end + b"\r\n0\r\n\r\n")

    def log_message(self, *_: Any) -> None:
        """Nothing."""


def _reset(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        connection.shutdown(socket.SHUT_RDWR)


def _usage() -> dict[str, int]:
    return {
        "prompt_tokens": TOKENS_INPUT,
        "completion_tokens": TOKENS_OUTPUT,
        "total_tokens": TOKENS,
    }


def _whole(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [choice],
        "usage": _usage(),
    }


def _events(text: str) -> list[dict[str, Any]]:
    """Its text, then pieces that are empty, then how many tokens it was."""
    head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    said = [text, *[""] * PIECES]
    pieces = [{**head, "choices": [{"index": 0, "delta": {"content": each}}]} for each in said]
    end = {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    return [*pieces, end, {**head, "choices": [], "usage": _usage()}]
