"""What agents against the gateway have at hand: raw bytes, an honest client, and how to report.

Its text is put before theirs; it runs in their containers.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

PORT = int(os.environ["AGENTTRACE_GATEWAY_URL"].rsplit(":", 1)[1])
KEY = os.environ["AGENTTRACE_GATEWAY_KEY"]
CHAT = "/v1/chat/completions"


def prompt() -> str:
    """What was asked, over stdin."""
    return str(json.load(sys.stdin)["prompt"])


def connect(timeout: float | None = 20) -> socket.socket:
    """A bare connection to the gateway."""
    return socket.create_connection(("127.0.0.1", PORT), timeout)


def raw(data: bytes, timeout: float = 5) -> bytes:
    """All that is said to these bytes, up to the end or until nothing has come for so long."""
    said = b""
    with connect(timeout) as connection:
        try:
            connection.sendall(data)
            while part := connection.recv(65536):
                said += part
        except OSError:
            pass
    return said


def statuses(said: bytes) -> list[int]:
    """Of each answer in it."""
    lines = [line for line in said.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    return [int(line.split()[1]) for line in lines]


def post(path: str, length: int, *headers: str) -> bytes:
    """The head of a request that is whole but for its body."""
    lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{PORT}", f"Authorization: Bearer {KEY}"]
    lines += ["Content-Type: application/json", f"Content-Length: {length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def call(
    path: str, body: object = None, key: str | None = KEY, method: str = "", **headers: str
) -> tuple[int, bytes]:
    """An honest request over a connection of its own, and what came: status and body."""
    client = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
    given = {"Connection": "close", "Content-Type": "application/json"}
    given |= {"Authorization": f"Bearer {key}"} if key else {}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    try:
        client.request(method or ("GET" if data is None else "POST"), path, data, given)
        answer = client.getresponse()
        return answer.status, answer.read()
    finally:
        client.close()


def chat(text: str, model: str = "agenttrace/scripted", **more: Any) -> tuple[int, bytes]:
    """Asks a model."""
    messages = [{"role": "user", "content": text}]
    return call(CHAT, {"model": model, "messages": messages, **more})


def code(said: bytes) -> str:
    """Of the error in an answer."""
    try:
        return str(json.loads(said.rpartition(b"\r\n\r\n")[2])["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return ""


def each(cases: dict[str, Any], ask: Any) -> None:
    """Asks about all at once: what is refused may take a second to end."""
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda case: ask(*case), cases.items()))


def refused(what: str, status: int | None, *allowed: int) -> None:
    """Reports one attempt at something that must not work."""
    well = status in allowed
    line = f"refused: {what}: {status}" if well else f"BREACH: {what}: {status}"
    sys.stdout.write(f"{line}\n")
