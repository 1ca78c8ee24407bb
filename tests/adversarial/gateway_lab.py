"""A real gateway before a real container, and providers on loopback that do as they are told."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil

from runner.bootstrap.policies import breaker_policy
from runner.config import load_settings
from runner.domain import (
    AnswerKey,
    Attempt,
    BenchmarkCategory,
    BenchmarkTask,
    Budget,
    ExactCriterion,
    GatewayUse,
    Image,
    Limits,
    Prompt,
    Spending,
)
from runner.evaluation.attempt import attempt
from runner.gateway.calls import Price, Upstream
from runner.gateway.counting import TokenCounter
from runner.gateway.gateway import GatewayPolicy, ModelGateway
from runner.gateway.ledger import Ledger
from runner.gateway.prices import Prices
from runner.gateway.upstreams.http import HttpPolicy, HttpUpstream
from runner.gateway.upstreams.script import Script, load_script
from runner.gateway.upstreams.scripted import ScriptedUpstream
from runner.orchestrator.breakers import MemoryBreakerStore, SharedBreakers
from tests.adversarial.conftest import CONFIG, Lab

SECRET = "sk-operator-0123456789abcdef0123456789abcdef"
"""The operator's key for the provider: nothing but the provider may ever get it."""
OF_THE_MCP_PACKAGE = "_shutdown_watcher()"
"""A task of sse-starlette's, one for each event loop, that lives as long as that."""
PIECE = {"choices": [{"index": 0, "delta": {"content": "more "}, "finish_reason": None}]}


# -- providers ------------------------------------------------------------------------------------


class Asked(BaseHTTPRequestHandler):
    """One request to a provider."""

    protocol_version = "HTTP/1.1"
    server: Provider

    def do_POST(self) -> None:
        """Whatever the provider does."""
        self.body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.requests += 1
        try:
            self.server.answer(self)
        except ConnectionError:
            self.close_connection = True

    do_GET = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = do_CONNECT = do_POST  # noqa: N815

    def say(self, status: int, body: bytes, kind: str = "application/json", **more: str) -> None:
        """A whole answer."""
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **more}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def stream(self, pieces: Iterator[bytes], kind: str = "text/event-stream") -> None:
        """An answer in chunks."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Nothing."""


class Provider(ThreadingHTTPServer):
    """A server of this test, on loopback."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024

    def __init__(self, answer: Callable[[Asked], None]) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.answer = answer
        self.requests = 0

    def handle_error(self, *_: object) -> None:
        """A client that went away."""


def completion(text: str) -> bytes:
    """A whole chat completion that tells its usage."""
    usage = {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 20}
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage}).encode()


def honest(asked: Asked) -> None:
    """Answers."""
    asked.say(200, completion("well"))


def echo(asked: Asked) -> None:
    """Tells all that it was sent, key and all: in headers, in the body, in streams, in errors."""
    sent = f"{asked.requestline}\n{asked.headers}\n{asked.body.decode(errors='replace')}"
    leak = {"X_Leak": SECRET, "Set_Cookie": f"key={SECRET}", "Location": f"/{SECRET}"}
    if b"please fail" in asked.body:
        said = {"error": {"message": sent, "code": SECRET, "type": SECRET}}
        asked.say(400, json.dumps(said).encode(), **leak)
    elif b'"stream":true' in asked.body:
        events = b"data: " + json.dumps({"choices": [{"delta": {"content": sent}}]}).encode()
        asked.stream(bytes([byte]) for byte in events + b"\n\ndata: [DONE]\n\n")
    else:
        asked.say(200, completion(sent), **leak)


def overloaded(asked: Asked) -> None:
    """Never has room."""
    asked.say(429, b'{"error": {"message": "later"}}', Retry_After="0")


def endless(asked: Asked) -> None:
    """A stream that ends when nobody listens any more."""

    def pieces() -> Iterator[bytes]:
        while True:
            yield b"data: " + json.dumps(PIECE).encode() + b"\n\n"
            time.sleep(0.02)

    asked.stream(pieces())


def large(asked: Asked) -> None:
    """Answers of 24 MB, which are no stream."""
    asked.say(200, large_completion())


@cache
def large_completion() -> bytes:
    """Made once: the providers' memory is this process's too."""
    return completion("x" * 24_000_000)


PROVIDERS = {each.__name__: each for each in (honest, echo, overloaded, endless, large)}


@contextmanager
def provided(name: str) -> Iterator[Provider]:
    """It serves, and has gone on exit."""
    server = Provider(PROVIDERS[name])
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    serving.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        serving.join()


# -- the gateway ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a folder says of the gateway that its agent meets: `[gateway]` in expected.toml."""

    provider: str = "honest"
    """Which of `PROVIDERS` is at `local/*`."""
    policy: dict[str, Any] = field(default_factory=dict)
    """In place of what `GatewayPolicy` has."""
    tools: tuple[str, ...] = ("calculator", "key_value")
    rules: tuple[dict[str, Any], ...] = ()
    """Of agenttrace/scripted; none: those that are shipped."""
    token_budget: int | None = None
    run_tokens: int | None = None
    """Budget of the whole run."""
    # -- what must come out
    model_calls: int | None = None
    """So many that were not refused."""
    model_calls_min: int = 0
    tool_calls: int | None = None
    aborted_min: int = 0
    tokens_min: int = 0
    over_budget: str | None = None
    spent_out: bool = False
    refusals: tuple[str, ...] | None = None
    """Codes that calls must have been refused with, and no others; None: any."""
    provider_requests: int | None = None
    """So many reached the provider."""
    recorded_bytes_max: int | None = None
    false_claims: int = 0
    """How many of the agent's claims must be flagged."""


@dataclass(frozen=True)
class Seen:
    """One attempt, and all that the gateway saw of it."""

    made: Attempt
    use: GatewayUse
    exchanges: Path
    spending: list[Spending]
    provider_requests: int
    key: str
    """The attempt's."""


@dataclass
class GatewayLab:
    """Attempts through the gateway, as the executor makes them."""

    lab: Lab
    directory: Path
    number: int = 0

    async def run(self, image: Image, limits: Limits, terms: Terms, text: str) -> Seen:
        """One attempt; `text` may ask for {provider_port} and {old_key}."""
        self.number += 1
        place = self.directory / str(self.number)
        (place / "artifacts").mkdir(parents=True)  # noqa: ASYNC240 - nothing else runs here
        tasks, spending = asyncio.all_tasks(), []
        with provided(terms.provider) as provider:
            port = provider.server_address[1]
            gateway = gateway_of(terms, port, spending)
            task = task_of(terms)
            async with gateway.open(task, 1, limits, place / "earlier.jsonl") as earlier:
                old_key = earlier.key
            given = text.replace("{provider_port}", str(port)).replace("{old_key}", old_key)
            try:
                async with gateway.open(task, 1, limits, place / "exchanges.jsonl") as access:
                    made = await attempt(
                        *(Prompt(task_id="hostile", text=given), CONFIG, image, limits),
                        *(self.lab.sandbox, self.lab.transport, place / "artifacts", access),
                    )
            finally:
                await gateway.close()
            left = [str(task) for task in asyncio.all_tasks() - tasks]
            left = [task for task in left if OF_THE_MCP_PACKAGE not in task]
            assert not left, left
            sockets = await settled_sockets(port)
            assert not sockets, sockets
            return Seen(
                *(made, access.use(), place / "exchanges.jsonl", spending),
                *(provider.requests, access.key),
            )


async def settled_sockets(port: int) -> list[str]:
    """Connections of this process to a provider; those that it closes itself may take a moment."""
    deadline = time.monotonic() + 5
    while True:
        connections = psutil.Process(os.getpid()).net_connections("tcp")
        left = [str(one) for one in connections if one.raddr and one.raddr.port == port]
        if not left or time.monotonic() > deadline:
            return left
        await asyncio.sleep(0.05)


def task_of(terms: Terms) -> BenchmarkTask:
    """What the attempt is at."""
    return BenchmarkTask(
        task_id="hostile",
        category=BenchmarkCategory.TOOL_USE,
        name="hostile",
        prompt=Prompt(task_id="hostile", text="?", tools=terms.tools),
        answer_key=AnswerKey(criteria=(ExactCriterion(expected="42"),)),
        token_budget=terms.token_budget,
    )


def gateway_of(terms: Terms, port: int, spending: list[Spending]) -> ModelGateway:
    """As `runner.bootstrap.gateway` makes it."""
    settings = load_settings({}, cwd=Path("/"), environ={}).settings
    breakers = SharedBreakers(MemoryBreakerStore(), breaker_policy(settings))
    script = Script.model_validate({"rule": terms.rules}) if terms.rules else load_script()
    price = Price(input_usd=Decimal("0.000001"), output_usd=Decimal("0.000001"))

    def shared() -> Sequence[Upstream]:
        return [
            HttpUpstream(
                name="local",
                api="openai",
                base_url=f"http://127.0.0.1:{port}/v1",
                key=SECRET,
                policy=HttpPolicy(retries=1000),
                breakers=breakers,
            ),
            HttpUpstream(
                name="claude",
                api="anthropic",
                base_url=f"http://127.0.0.1:{port}",
                key=SECRET,
                breakers=breakers,
            ),
        ]

    return ModelGateway(
        GatewayPolicy(**{"models": ("agenttrace/*", "local/*", "claude/*"), **terms.policy}),
        shared_upstreams=shared,
        own_upstreams=lambda: [ScriptedUpstream(script, TokenCounter())],
        prices=lambda: Prices({("local", "m"): price, ("claude", "c"): price}),
        ledger=Ledger(Budget(tokens=terms.run_tokens)) if terms.run_tokens else None,
        on_spending=spending.append,
        seed=7,
    )
