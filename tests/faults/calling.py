"""Agents that call a model and a tool, points of their calls to die at, and what has to hold.

    python -m tests.faults.calling KILL|STOP POINT[:N] -- run DIR ...

As `tests.faults.halting`, with the points of a call.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.domain import TaskExecution
from runner.gateway.exchanges import load_exchanges
from runner.records import layout
from runner.records.spending import load_spending
from tests.end_to_end.conftest import CATEGORIES
from tests.end_to_end.shell import SUITE, Running, Shell

from . import halting, killing
from .upstream import TOKENS, Upstream
from .whole import assert_whole_attempt, attempts_of

ROOT = Path(__file__).parents[2]
POINTS = {
    "before reserving": "before runner.gateway.ledger:Ledger.reserve",
    "reserved": "after runner.gateway.ledger:Ledger.reserve",
    "about to be sent": "after runner.gateway.open_call:OpenCall.sent",
    "answered": "before runner.gateway.ledger:Reservation.settle",
    "settled": "after runner.gateway.ledger:Reservation.settle",
    "before its spending is noted": "before runner.records.spending:SpendingJournal.append",
    "its spending is noted": "after runner.records.spending:SpendingJournal.append",
    "before its exchange": "before runner.gateway.exchanges:ExchangeLog.write",
    "its exchange is written": "after runner.gateway.exchanges:ExchangeLog.write",
}
"""In the order in which a call comes to them."""

MODEL_CALLS, TOOL_CALLS = 3, 1
"""Of each attempt of the agent `calls`."""
AGENT = '''
import json, os, time, urllib.error, urllib.request

def ask(path, body):
    url = os.environ["AGENTTRACE_GATEWAY_URL"] + path
    headers = {"Content-Type": "application/json",
               "Authorization": "Bearer " + os.environ["AGENTTRACE_GATEWAY_KEY"]}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as said:
        return said.read().decode()

def chat(text, **more):
    messages = [{"role": "user", "content": text}]
    body = {"model": "local/m", "messages": messages, "max_tokens": 5, **more}
    return ask("/v1/chat/completions", body)

def said(text):
    return json.loads(chat(text))["choices"][0]["message"]["content"]

def streamed(text):
    lines = chat(text, stream=True).splitlines()
    events = [json.loads(l[6:]) for l in lines if l.startswith("data: {")]
    deltas = [each["choices"][0]["delta"] for each in events if each["choices"]]
    assert lines[-2] == "data: [DONE]", lines[-3:]
    return "".join(delta.get("content", "") for delta in deltas)

def calls(prompt, config):
    said("first: " + prompt)
    ask("/tools/calculator", {"expression": "6*7"})
    said("second: " + prompt)
    return streamed("third: " + prompt)

def one_call(prompt, config):
    return said(prompt)

def one_stream(prompt, config):
    return streamed(prompt)

def shrugs(prompt, config):
    """Six calls, whatever comes of each; it answers all the same."""
    got = []
    for _ in range(6):
        try:
            got.append(said(prompt))
        except urllib.error.HTTPError as error:
            got.append(str(error.code))
    return got[-1] if got[-1].isalpha() else " ".join(got)

def insists(prompt, config):
    """As the SDKs: a call that failed is made again."""
    for _ in range(20):
        try:
            return said(prompt)
        except urllib.error.HTTPError as error:
            assert error.code in (500, 502, 503), error.code
'''


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def caller(shell: Shell, upstream: Upstream) -> Shell:
    """A shell whose agents call models."""
    equip(shell, upstream)
    return shell


def equip(shell: Shell, upstream: Upstream) -> None:
    """Its agents call models, and its tasks have a tool."""
    path = shell.directory / "agent.py"
    shell.write("agent.py", path.read_text() + AGENT)
    for category in CATEGORIES:
        file = shell.directory / SUITE / f"{category}.toml"
        if file.exists():
            named = '\ntools = ["calculator"]\n[[task.criteria]]'
            file.write_text(file.read_text().replace("\n[[task.criteria]]", named))
    shell.environment |= upstream.environment


def doomed(
    shell: Shell, point: str, *arguments: str, how: str = "KILL", **variables: str
) -> Running:
    """A command that comes to that point and no further, or stops there."""
    command = (sys.executable, "-m", "tests.faults.calling", how, point, "--")
    shell.command, usual = command, shell.command
    try:
        return shell.start(*arguments, PYTHONPATH=str(ROOT), **variables)
    finally:
        shell.command = usual


# -- what has to hold ----------------------------------------------------------------------------


def assert_calls_whole(run: Path, damaged: int = 0) -> list[TaskExecution]:
    """All attempts: their recordings can be read and are theirs, and what they used is noted."""
    kept = [assert_whole_attempt(run, which) for which in attempts_of(run)]
    for one in kept:
        _assert_recorded(run, one)
    lines = load_spending(run / layout.SPENDING)
    noted = Counter((each.task_id, each.repeat) for each in lines)
    assert lines.damaged == damaged
    used = Counter((o.task_id, o.repeat) for o in kept for c in o.model_calls if c.token_source)
    assert used <= noted, "a kept attempt's call is not in spending.jsonl"
    return kept


def _assert_recorded(run: Path, one: TaskExecution) -> None:
    file = layout.attempt_path(run, one.task_id, one.repeat, one.attempt) / layout.EXCHANGES
    calls = {call.number: call.digest for call in (*one.model_calls, *one.tool_calls)}
    if not calls:
        assert not file.exists()
        return
    assert file.read_bytes().endswith(b"\n")
    assert {each.number: each.digest for each in load_exchanges(file)} == calls


def spent_tokens(run: Path) -> int:
    """As `spending.jsonl` has it."""
    return sum(each.tokens_input + each.tokens_output for each in load_spending(_spending(run)))


def noted_calls(run: Path) -> int:
    """The same of calls, each of them as its provider counted it."""
    tokens = [each.tokens_input + each.tokens_output for each in load_spending(_spending(run))]
    assert set(tokens) <= {TOKENS}
    return len(tokens)


def _spending(run: Path) -> Path:
    return run / layout.SPENDING


def main() -> int:
    """Adds the points, and goes on as `tests.faults.halting` does."""
    killing.POINTS.update(POINTS)
    return halting.main()


if __name__ == "__main__":
    sys.exit(main())
