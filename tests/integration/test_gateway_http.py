"""Agents in real containers without a network, and the real gateway on the other side."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from runner.domain import (
    AnswerKey,
    Attempt,
    BenchmarkCategory,
    BenchmarkTask,
    BudgetKind,
    EndingKind,
    ExactCriterion,
    GatewayUse,
    Prompt,
)
from runner.evaluation.attempt import attempt
from runner.gateway.counting import TokenCounter
from runner.gateway.exchanges import load_exchanges
from runner.gateway.gateway import GatewayPolicy, ModelGateway
from runner.gateway.prices import Prices
from runner.gateway.upstreams.script import Rule, Script
from runner.gateway.upstreams.scripted import ScriptedUpstream, load_script
from tests.integration.conftest import MIB, Lab
from tests.integration.outcomes import SMALL

pytestmark = pytest.mark.docker

LIMITS = SMALL.model_copy(
    update={"time_seconds": 120, "pids": 64, "memory_bytes": 128 * MIB, "output_bytes": 100_000}
)
LONG = Script(rule=(Rule(reply="x" * 2_000_000, chunk_count=2000),))

PREAMBLE = """
import json, os, socket, sys, threading, urllib.error, urllib.request
URL, KEY = os.environ["AGENTTRACE_GATEWAY_URL"], os.environ["AGENTTRACE_GATEWAY_KEY"]
HOST, PORT = URL.removeprefix("http://").split(":")
CHAT = {"model": "agenttrace/scripted", "messages": [{"role": "user", "content": "6*7?"}]}

def ask(path, body=None, key=KEY):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Authorization": "Bearer " + key}
    try:
        with urllib.request.urlopen(urllib.request.Request(URL + path, data, headers)) as said:
            return said.status, said.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()

def raw(data):
    with socket.create_connection((HOST, int(PORT)), timeout=20) as s:
        try:
            s.sendall(data)
        except ConnectionError:
            pass
        said = bytearray()
        try:
            while part := s.recv(65536): said += part
        except ConnectionError:
            pass
        return bytes(said)

def head(*lines):
    return "\\r\\n".join([*lines, "", ""]).encode()

def say(value):
    print(json.dumps(value), end="")
"""


def task(**more: Any) -> BenchmarkTask:
    return BenchmarkTask(
        task_id="t",
        category=BenchmarkCategory.TOOL_USE,
        name="t",
        prompt=Prompt(task_id="t", text="What is 6*7?", tools=("calculator",)),
        answer_key=AnswerKey(criteria=(ExactCriterion(expected="42"),)),
        **more,
    )


def gateway(script: Script | None = None) -> ModelGateway:
    return ModelGateway(
        GatewayPolicy(models=("agenttrace/scripted",)),
        own_upstreams=lambda: [ScriptedUpstream(script or load_script(), TokenCounter())],
        prices=lambda: Prices({}),
    )


async def attempted(
    lab: Lab, agent: str, script: Script | None = None, **of_task: Any
) -> tuple[Attempt, GatewayUse]:
    """What came of an agent, and of all that it did with the gateway."""
    asked = task(**of_task)
    directory = lab.new_directory()
    opened = gateway(script).open(asked, 1, LIMITS, exchanges_of(directory))
    async with opened as access:
        made = await attempt(
            *(asked.prompt, {"seed": 1}, lab.python(PREAMBLE + agent), LIMITS),
            *(lab.sandbox, lab.transport, directory, access),
        )
        use = access.use()
    return made, use


def exchanges_of(directory: Path) -> Path:
    return directory.with_name(directory.name + ".jsonl")


def said(made: Attempt) -> Any:
    assert made.reply.ending.kind is EndingKind.ANSWERED, (made.reply.ending, made.reply.stderr)
    return json.loads(made.reply.output)


async def test_an_agent_without_a_network_calls_a_model_and_a_tool(lab: Lab) -> None:
    agent = """
tools = json.loads(ask("/tools?format=openai")[1])["tools"]
call = json.loads(ask("/v1/chat/completions", {**CHAT, "tools": tools})[1])
function = call["choices"][0]["message"]["tool_calls"][0]["function"]
status, result = ask("/tools/" + function["name"], json.loads(function["arguments"]))
say([status, json.loads(result), json.loads(ask("/v1/models")[1])["data"][0]["id"]])
"""
    made, use = await attempted(lab, agent)
    status, result, model = said(made)
    assert (status, result["error"], model) == (200, "", "agenttrace/scripted")
    assert "42" in json.dumps(result)
    assert [(call.number, call.status) for call in use.model_calls] == [(1, 200)]
    assert [(call.number, call.succeeded) for call in use.tool_calls] == [(2, True)]
    assert [each.kind for each in load_exchanges(exchanges_of(lab.artifacts))] == ["model", "tool"]


async def test_parallel_streams_all_arrive_whole(lab: Lab) -> None:
    agent = """
ends = []
def stream():
    for _ in range(5):
        status, text = ask("/v1/chat/completions", {**CHAT, "stream": True})
        ends.append(text.endswith("data: [DONE]\\n\\n"))
threads = [threading.Thread(target=stream) for _ in range(40)]
for each in threads: each.start()
for each in threads: each.join()
say([len(ends), all(ends)])
"""
    made, use = await attempted(lab, agent)
    assert said(made) == [200, True]
    assert sorted(call.number for call in use.model_calls) == list(range(1, 201))
    assert not any(call.aborted for call in use.model_calls)


async def test_what_may_be_read_in_two_ways_and_other_hosts_are_refused(lab: Lab) -> None:
    agent = """
chat = json.dumps(CHAT).encode()
auth, host = "Authorization: Bearer " + KEY, f"Host: {HOST}:{PORT}"
post = "POST /v1/chat/completions HTTP/1.1"
length = f"Content-Length: {len(chat)}"
requests = {
    "fine": head(post, host, auth, length, "Connection: close") + chat,
    "both lengths": head(post, host, auth, length, "Transfer-Encoding: chunked") + chat,
    "two lengths": head(post, host, auth, length, "Content-Length: 1") + chat,
    "folded": head(post, host, auth, length, "X: a", " b") + chat,
    "bare LF": head(post, host, auth, length, "X: a\\nY: b") + chat,
    "huge header": head(post, host, auth, length, "X: " + "x" * 200_000) + chat,
    "many headers": head(post, host, auth, length, *["X: y"] * 5000) + chat,
    "proxied": head("GET http://192.0.2.1/ HTTP/1.1", "Host: 192.0.2.1"),
    "tunnel": head("CONNECT 192.0.2.1:443 HTTP/1.1", "Host: 192.0.2.1:443"),
    "another host": head(post, "Host: api.openai.com", auth, length) + chat,
    "too large": head(post, host, auth, "Content-Length: 999999999"),
    "TLS": bytes.fromhex("160301020001000000"),
}
say({name: int(raw(each).split(b" ")[1]) for name, each in requests.items()})
"""
    made, use = await attempted(lab, agent)
    assert said(made) == {
        "fine": 200,
        "both lengths": 400,
        "two lengths": 400,
        "folded": 400,
        "bare LF": 400,
        "huge header": 431,
        "many headers": 431,
        "proxied": 400,
        "tunnel": 405,
        "another host": 421,
        "too large": 413,
        "TLS": 400,
    }
    assert len(use.model_calls) == 1


async def test_another_attempts_key_opens_nothing(lab: Lab) -> None:
    async with gateway().open(task(), 2, LIMITS, Path("/nonexistent")) as other:
        key = other.environment["AGENTTRACE_GATEWAY_KEY"]
        agent = f"""
say([ask("/v1/chat/completions", CHAT, {key!r})[0], ask("/tools", None, {key!r})[0],
     ask("/v1/chat/completions", CHAT, "")[0], ask("/v1/chat/completions", CHAT)[0]])
"""
        made, use = await attempted(lab, agent)
        assert said(made) == [401, 401, 401, 200]
        assert len(use.model_calls) == 1
        assert other.use().connections == 0


async def test_a_race_for_the_budget_ends_the_attempt_and_never_exceeds_it(lab: Lab) -> None:
    agent = """
def race():
    while True: ask("/v1/chat/completions", {**CHAT, "max_tokens": 20})
threads = [threading.Thread(target=race, daemon=True) for _ in range(40)]
for each in threads: each.start()
for each in threads: each.join()
"""
    made, use = await attempted(lab, agent, token_budget=2000)
    assert made.reply.ending.kind is EndingKind.BUDGET_SPENT
    assert use.over_budget is BudgetKind.TOKENS
    assert 0 < use.tokens_input + use.tokens_output <= 2000


async def test_streams_that_are_abandoned_or_never_read_are_settled(lab: Lab) -> None:
    agent = """
chat = json.dumps({**CHAT, "stream": True}).encode()
request = head("POST /v1/chat/completions HTTP/1.1", f"Host: {HOST}:{PORT}",
               "Authorization: Bearer " + KEY, f"Content-Length: {len(chat)}") + chat
held = []
for number in range(20):
    s = socket.create_connection((HOST, int(PORT)))
    s.sendall(request)
    s.recv(1)
    if number % 2: s.close()
    else: held.append(s)
say(len(held))
"""
    made, use = await attempted(lab, agent, LONG)
    assert said(made) == 10
    assert [call.aborted for call in use.model_calls] == [True] * 20
    assert all(call.token_source is not None for call in use.model_calls)


async def test_slow_bodies_and_a_flood_of_connections_leave_nothing(lab: Lab) -> None:
    agent = """
held = []
for number in range(400):
    try:
        s = socket.create_connection((HOST, int(PORT)), timeout=5)
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\\r\\nHost: " + HOST.encode())
        held.append(s)
    except OSError:
        break
say(len(held) > 100)
"""
    before = asyncio.all_tasks()
    made, use = await attempted(lab, agent)
    assert said(made) is True
    assert use.model_calls == ()
    assert use.connections >= 100
    assert asyncio.all_tasks() == before
