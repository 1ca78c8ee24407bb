"""Calls a model as it is told, and tells how long that took.

The same file is the agent inside a container, where its calls go through the gateway, and a process
on the host, which calls the provider directly. The standard library alone is there.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

QUESTION = "What is the capital of France? Answer in one sentence, please."
CPU_FILES = {"cpu.stat": 1e-6, "cpuacct/cpuacct.usage": 1e-9}
"""Of a container's cgroup, version 2 and 1, and the unit of their first number."""
DONE = b"data: [DONE]"


def answer(prompt: str, config: dict[str, Any]) -> str:
    """The agent in a container."""
    Caller("gateway").work()
    return "none"


class Caller:
    """One client with one connection that is kept."""

    def __init__(self, side: str) -> None:
        self._side = side
        url = urlsplit(os.environ["OPENAI_BASE_URL"])
        self._host, self._port = str(url.hostname), int(url.port or 80)
        self._path = f"{url.path}/chat/completions"
        key = os.environ["OPENAI_API_KEY"]
        self._headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        self._connection = http.client.HTTPConnection(self._host, self._port)

    def work(self) -> None:
        """Asks what to do and tells how it went, until it is told to end."""
        result = None
        while job := self._next_job(result):
            result = self._done(**job)

    def _next_job(self, result: Any) -> dict[str, Any]:
        asked = json.dumps({"side": self._side, "result": result})
        said = json.loads(self._ask("bench/turn", asked))["choices"][0]["message"]["content"]
        job: dict[str, Any] = json.loads(said)
        return job

    def _done(
        self, model: str, times: int = 1, request_bytes: int = 0, at_once: int = 0
    ) -> dict[str, Any]:
        """The seconds of each call, or of all streams together."""
        question = QUESTION if not request_bytes else "word " * (request_bytes // 5)
        cpu, cgroup = time.process_time(), cgroup_seconds()
        if at_once:
            began = time.perf_counter()
            failed = asyncio.run(self._streams(model, at_once))
            seconds = [time.perf_counter() - began]
        else:
            failed, seconds = 0, [self._timed(model, question) for _ in range(times)]
        own = time.process_time() - cpu
        others = max(0.0, cgroup_seconds() - cgroup - own)
        return {"seconds": seconds, "failed": failed, "cpu": own, "cpu_of_others": others}

    def _timed(self, model: str, question: str) -> float:
        began = time.perf_counter()
        self._ask(model, question)
        return time.perf_counter() - began

    def _ask(self, model: str, question: str) -> bytes:
        self._connection.request("POST", self._path, _body(model, question), self._headers)
        response = self._connection.getresponse()
        said = response.read()
        if response.status != 200:
            raise SystemExit(f"{model}: {response.status} {said[:1000]!r}")
        return said

    # -- many at once ----------------------------------------------------------------------------

    async def _streams(self, model: str, count: int) -> int:
        """How many of them failed."""
        whole = await asyncio.gather(
            *(self._stream(model) for _ in range(count)), return_exceptions=True
        )
        return sum(one is not True for one in whole)

    async def _stream(self, model: str) -> bool:
        """Whether all of it came."""
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            body = _body(model, QUESTION, stream=True)
            headers = {"Host": f"{self._host}:{self._port}", "Content-Length": str(len(body))}
            lines = [f"{name}: {value}" for name, value in (headers | self._headers).items()]
            head = "\r\n".join([f"POST {self._path} HTTP/1.1", *lines, "", ""])
            writer.write(head.encode() + body)
            status = await reader.readuntil(b"\r\n\r\n")
            text = b"".join([piece async for piece in _pieces(reader)])
            events = text.count(b"data: {")
            return b" 200 " in status and DONE in text and events == 50
        finally:
            writer.close()


async def _pieces(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Of a body in chunks."""
    while size := int(await reader.readline(), 16):
        yield (await reader.readexactly(size + 2))[:-2]


def _body(model: str, question: str, *, stream: bool = False) -> bytes:
    asked = {"model": model, "messages": [{"role": "user", "content": question}], "stream": stream}
    return json.dumps(asked).encode()


def cgroup_seconds() -> float:
    """CPU time of all in this container; 0 where that cannot be read."""
    for name, unit in CPU_FILES.items():
        try:
            words = Path("/sys/fs/cgroup", name).read_text().split()
        except OSError:
            continue
        return next((int(word) for word in words if word.isdigit()), 0) * unit
    return 0.0


if __name__ == "__main__":
    Caller(sys.argv[1]).work()
