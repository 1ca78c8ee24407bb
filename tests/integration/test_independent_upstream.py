"""The gateway in front of a server that is not ours: llama.cpp's, from PyPI, with a tiny model."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from runner import ExecutionStatus
from runner.domain import Api, ModelCall, TokenSource
from tests.integration.evaluated import Ran, evaluate, task
from tests.integration.test_sdks import SDK_AGENT

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]

SERVE = Path(__file__).with_name("llama_server") / "serve.py"
REQUIREMENTS = Path(__file__).parents[2] / "requirements/peer-server.txt"
SCENARIOS = (
    "local_chat",
    "local_responses",
    "local_messages",
    "local_embeddings",
    "local_errors",
    "local_left_early",
    "local_priced",
    "local_unpriced",
)
RETRIES = 2


class Llama:
    """One server process; it ends with us, since its standard input does."""

    def __init__(self, python: Path, model: Path, port: int = 0) -> None:
        with model.with_suffix(".log").open("ab") as log:
            self._process = subprocess.Popen(
                [python, SERVE, str(port), model],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout
        self.url = self._process.stdout.readline().strip()
        assert self.url.startswith("http://127.0.0.1:"), model.with_suffix(".log").read_text()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has the server, and nothing that is ours."""
    place = tmp_path_factory.mktemp("peer-server")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(place / "bin/python"), "install", "--quiet"]
    pip += ["--disable-pip-version-check", "--require-hashes", "--only-binary", ":all:"]
    subprocess.run([*pip, "-r", REQUIREMENTS], check=True)
    return place / "bin/python"


@pytest.fixture
def llama(python: Path, tmp_path: Path) -> Iterator[Llama]:
    server = Llama(python, tmp_path / "tiny.gguf")
    yield server
    server.kill()


def flags(url: str) -> dict[str, object]:
    """The same server under three names: by each API, and with a price."""
    price = {"input_usd_per_million": 2, "output_usd_per_million": 10}
    return {
        "gateway.models": ["local/*", "claudish/*", "priced/*"],
        "gateway.upstreams": {
            "local": {"api": "openai", "base_url": f"{url}/v1"},
            "claudish": {"api": "anthropic", "base_url": url},
            "priced": {"api": "openai", "base_url": f"{url}/v1", "prices": {"tiny": price}},
        },
        "gateway.retries": RETRIES,
        "limits.model_calls": 1_000_000,
    }


@pytest.fixture(scope="module")
def ran(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """All scenarios in which the server stays up, once."""
    directory = tmp_path_factory.mktemp("upstream")
    server = Llama(python, directory / "tiny.gguf")
    extra = dict.fromkeys(("local_priced", "local_unpriced"), "cost_budget_usd = 1.0")
    suite = "".join(task(name, extra.get(name, "")) for name in SCENARIOS)
    yield evaluate(directory, SDK_AGENT, suite, flags(server.url))
    server.kill()


def tokens(call: ModelCall) -> list[int]:
    return [call.tokens_input, call.tokens_output]


def test_answers_and_streams(ran: Ran) -> None:
    said, made = ran.said("local_chat"), ran.task("local_chat")
    assert [json.loads(text) for text in said["texts"]] == [{"answer": 42}] * 3
    assert said["pieces"] > 5
    whole, streamed, silent = made.model_calls
    assert said["usage"] == tokens(whole)
    assert said["streamed_usage"] == sum(tokens(streamed))
    assert not said["silent_usage"], "a usage chunk that the agent had not asked for"
    assert silent.tokens_input == streamed.tokens_input == whole.tokens_input
    assert silent.tokens_output > 5
    assert [call.token_source for call in made.model_calls] == [TokenSource.PROVIDER] * 3
    assert {call.finish_reasons for call in made.model_calls} == {("stop",)}
    assert {(call.upstream, call.api) for call in made.model_calls} == {("local", Api.CHAT)}


def test_what_nobody_has_a_price_for_has_no_known_cost(ran: Ran) -> None:
    used = ran.task("local_chat").resource_usage
    assert used.cost_usd is None
    assert used.tokens_total > 0
    assert used.token_source is TokenSource.PROVIDER
    assert ran.said("local_unpriced") == "price_unknown"
    assert [call.refused for call in ran.task("local_unpriced").model_calls] == ["price_unknown"]


def test_a_price_of_the_settings(ran: Ran) -> None:
    assert ran.said("local_priced") is True
    made = ran.task("local_priced")
    [call] = made.model_calls
    cost = call.tokens_input * 2e-6 + call.tokens_output * 10e-6
    assert made.resource_usage.cost_usd == pytest.approx(cost)
    assert call.cost_usd == made.resource_usage.cost_usd


def test_responses(ran: Ran) -> None:
    said, made = ran.said("local_responses"), ran.task("local_responses")
    assert said["text"]
    assert said["streamed"]
    assert said["usage"] == [tokens(call) for call in made.model_calls]
    assert {call.api for call in made.model_calls} == {Api.RESPONSES}
    assert all(call.tokens_output == 20 for call in made.model_calls)


def test_messages(ran: Ran) -> None:
    said, made = ran.said("local_messages"), ran.task("local_messages")
    assert [[each["input"], each["output"]] for each in said] == [
        tokens(call) for call in made.model_calls
    ]
    assert {each["stop"] for each in said} == {"max_tokens"}
    assert {call.finish_reasons for call in made.model_calls} == {("max_tokens",)}
    assert {call.upstream for call in made.model_calls} == {"claudish"}


def test_embeddings(ran: Ran) -> None:
    said, made = ran.said("local_embeddings"), ran.task("local_embeddings")
    assert said["size"] == 64
    assert said["distances"][0] < 0.01 < said["distances"][1]
    assert [tokens(call) for call in made.model_calls] == [[said["tokens"], 0]]


def test_what_the_server_refuses_is_the_agents_to_read(ran: Ran) -> None:
    assert ran.said("local_errors") == [400, "exceed_context_size_error"]
    [call] = ran.task("local_errors").model_calls
    assert (call.status, call.refused, call.retries) == (400, "", 0)
    assert tokens(call) == [0, 0]


def test_an_agent_that_hangs_up_has_used_what_had_come(ran: Ran) -> None:
    assert ran.said("local_left_early") == 3
    [call] = ran.task("local_left_early").model_calls
    assert (call.streamed, call.aborted) == (True, True)
    assert call.token_source is not TokenSource.PROVIDER, "the usage chunk never came"
    assert call.tokens_input > 0
    assert call.tokens_output > 0


def test_a_server_that_goes_down_is_not_the_agents_fault(llama: Llama, tmp_path: Path) -> None:
    def kill_after_the_first_call() -> None:
        while not any(tmp_path.glob("runs/*/spending.jsonl")):
            time.sleep(0.01)
        llama.kill()

    killer = threading.Thread(target=kill_after_the_first_call, daemon=True)
    killer.start()
    ran = evaluate(tmp_path, SDK_AGENT, task("local_goes_down"), flags(llama.url))
    killer.join()
    said, made = ran.said("local_goes_down"), ran.task("local_goes_down")
    assert said["answered"]
    assert said["failures"] == [[502, "upstream_failed"]] * 2
    assert made.score
    assert made.score.normalized == 100
    *before, broken, unreachable = made.model_calls
    assert {call.status for call in before} == {200}
    assert broken.refused == unreachable.refused == "upstream_failed"
    assert unreachable.retries == RETRIES
    assert unreachable.waited_seconds > 0
    assert tokens(unreachable) == [0, 0]
    assert made.resource_usage.provider_wait_seconds > 0


class Starting(BaseHTTPRequestHandler):
    """What stands in front of a server that is being started."""

    asked_seconds = 16

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(503)
        self.send_header("Retry-After", str(self.asked_seconds))
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_waiting_for_a_server_is_not_the_agents_time(python: Path, tmp_path: Path) -> None:
    """It waits longer than its time limit allows, and has its whole time all the same."""
    front = HTTPServer(("127.0.0.1", 0), Starting)
    port = front.server_port
    servers: list[Llama] = []

    def refuse_one_and_start() -> None:
        with front:
            front.handle_request()
        servers.append(Llama(python, tmp_path / "tiny.gguf", port))

    starter = threading.Thread(target=refuse_one_and_start, daemon=True)
    starter.start()
    limit = "[task.limits]\ntime_seconds = 15"
    suite = task("local_comes_up", limit)
    ran = evaluate(tmp_path, SDK_AGENT, suite, flags(f"http://127.0.0.1:{port}"))
    starter.join()
    servers[0].kill()
    said, made = ran.said("local_comes_up"), ran.task("local_comes_up")
    assert made.status is ExecutionStatus.COMPLETED
    assert said["finish"] == "length"
    [call] = made.model_calls
    assert call.retries == 1
    assert call.waited_seconds >= Starting.asked_seconds
    used = made.resource_usage
    assert used.provider_wait_seconds >= Starting.asked_seconds
    assert used.execution_time_seconds < 15
