"""Agents with models and tools, by the commands that a user has: run, replay, budgets, cost."""

from __future__ import annotations

import csv
import io
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from runner.domain import BenchmarkExecution, TaskExecution

from .conftest import LOCAL, SESSION
from .shell import SUITE, Outcome, Shell, release, wait_until

pytestmark = pytest.mark.docker

EXAMPLE = str(Path(__file__).parents[2] / "examples/model_and_tools")
CALCULATOR = "tool_use-calculator-01"
KEY = "sk-of-the-provider"
TOKENS_A_CALL = 15
PRICES = '[gateway.upstreams.local.prices."m"]\ninput_usd_per_million = 1000\n'
COST_A_CALL = 0.03
"""Of 10 tokens of input at 1,000 dollars a million, and 5 of output at 4,000."""

CALLER = f"""# {SESSION}
import json, os, time, urllib.error, urllib.request

def ask(prompt, **fields):
    messages = [{{"role": "user", "content": prompt}}]
    body = {{"model": "local/m", "messages": messages, "max_tokens": 5, **fields}}
    headers = {{"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}}
    url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()

def said(text):
    told = json.loads(text)
    return told["choices"][0]["message"]["content"] if "choices" in told else text

def answer(prompt, config):
    return said(ask(prompt, temperature=0))

def warm(prompt, config):
    return said(ask(prompt, temperature=1))

def unsteady(prompt, config):
    return said(ask(f"{{prompt}} It is {{time.time()}}."))

def random(prompt, config):
    return said(ask(prompt + os.urandom(8).hex()))

def patient(prompt, config):
    return ask(prompt, stream=True)

def variables(prompt, config):
    return ",".join(sorted(n for n in os.environ if "GATEWAY" in n or "_API_KEY" in n)) or "none"
"""


class Provider:
    """On the loopback: it answers with what it is asked to say; a stream waits to be let go."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.go_on = threading.Event()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                provider.requests.append(asked)
                provider.keys.add(self.headers["Authorization"])
                self.send_response(200)
                kind = "text/event-stream" if asked.get("stream") else "application/json"
                self.send_header("Content-Type", kind)
                self.end_headers()
                if asked.get("stream"):
                    self.wfile.write(b'data: {"choices": []}\n\n')
                    self.wfile.flush()
                    provider.go_on.wait(60)
                    self.wfile.write(b"data: [DONE]\n\n")
                else:
                    self.wfile.write(json.dumps(answer_to(asked)).encode())

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        """It is gone; may be repeated."""
        self.go_on.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


def answer_to(asked: dict[str, Any]) -> dict[str, Any]:
    """To `Say alpha.`: alpha."""
    content = asked["messages"][-1]["content"].removeprefix("Say ").partition(".")[0]
    message = {"role": "assistant", "content": content}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": TOKENS_A_CALL},
    }


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    yield made
    made.close()


@pytest.fixture
def local(shell: Shell, provider: Provider) -> Shell:
    """A shell whose settings name the provider, with a price and a key; the key is exported."""
    shell.write("caller.py", CALLER)
    shell.write(
        "agenttrace.toml",
        f'[gateway.upstreams.local]\napi = "openai"\nbase_url = "{provider.url}"\n'
        f'key_env = "LOCAL_KEY"\n{PRICES}output_usd_per_million = 4000\n',
    )
    shell.environment["LOCAL_KEY"] = KEY
    return shell


@pytest.fixture(scope="session")
def example(shells: Callable[[], Shell]) -> Shell:
    """A shell with one finished run of the example; further runs go elsewhere."""
    shell = shells()
    run = ("run", EXAMPLE, "--suite", "tools", "-t", CALCULATOR)
    outcome = shell(*run)
    assert outcome.code == 0, outcome.err
    shell.write("table.txt", outcome.out)
    return shell


def model(*names: str) -> tuple[str, ...]:
    """The options of `run` that let agents call these."""
    return tuple(part for name in names or ("local/*",) for part in ("--model", name))


def execution_of(outcome: Outcome, code: int = 0) -> BenchmarkExecution:
    assert outcome.code == code, outcome.err
    return BenchmarkExecution.model_validate_json(outcome.out)


def tasks_of(outcome: Outcome) -> list[TaskExecution]:
    return execution_of(outcome).task_executions


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def attempt_of(shell: Shell, task: str = CALCULATOR) -> Path:
    return shell.runs[0] / "tasks" / task / "1-1"


# -- what a run keeps and shows --------------------------------------------------------------------


def test_calls_and_cost_are_columns_of_the_table(example: Shell) -> None:
    header, row = (
        next(
            line.split()
            for line in (example.directory / "table.txt").read_text().splitlines()
            if it in line
        )
        for it in ("task  ", CALCULATOR)
    )
    assert header[-4:] == ["calls", "tokens", "cost", "$"]
    assert row[-3] == "2+1"
    assert row[-1] == "0.0000"


def test_each_call_is_in_the_result_and_in_the_recording(example: Shell) -> None:
    shown = example("runs", "show", example.runs[0].name, "--json").json
    [task] = BenchmarkExecution.model_validate(shown["execution"]).task_executions
    assert task.normalized_score == 100
    assert [call.finish_reasons for call in task.model_calls] == [("tool_calls",), ("stop",)]
    assert [(call.name, call.succeeded) for call in task.tool_calls] == [("calculator", True)]
    usage = task.resource_usage
    assert (usage.api_calls_count, usage.tool_calls_count, usage.cost_usd) == (2, 1, 0.0)
    kept = lines_of(attempt_of(example) / "exchanges.jsonl")
    assert [(each["number"], each["kind"]) for each in kept] == [
        (1, "model"),
        (2, "tool"),
        (3, "model"),
    ]
    spent = lines_of(example.runs[0] / "spending.jsonl")
    assert sum(each["tokens_input"] + each["tokens_output"] for each in spent) == usage.tokens_total


def test_each_call_is_a_span(example: Shell) -> None:
    shown = example("trace", "show", example.runs[0].name, CALCULATOR)
    assert shown.code == 0, shown.err
    spans = [line.split()[2:] for line in shown.out.splitlines() if line.startswith("+")]
    named = [" ".join(words) for words in spans]
    assert sum("chat agenttrace/scripted" in each for each in named) == 2
    assert sum("execute_tool calculator" in each for each in named) == 1
    assert "The answer is 291177." in shown.out


@pytest.mark.parametrize("kind", ["otlp", "atif", "inspect"])
def test_a_run_is_exported(example: Shell, kind: str) -> None:
    outcome = example("trace", "export", example.runs[0].name, "--to", kind)
    assert outcome.code == 0, outcome.err
    assert outcome.json
    assert "291177" in outcome.out
    assert "at-" not in outcome.out, "no key of an attempt"


# -- replay ----------------------------------------------------------------------------------------


def test_a_replay_is_identical_and_so_is_its_own_replay(example: Shell) -> None:
    original = example.runs[0].name
    told = example("replay", original)
    assert told.code == 0, told.err
    assert "1 of 1 identical to run " + original in told.out
    replay = example.runs[-1].name
    again = example("replay", replay, "-q", "--json", "--task", "tool_use-*")
    assert (again.code, again.err) == (0, "")
    assert (again.json["replay_of"], again.json["identical"]) == (replay, True)
    assert f"{replay}  model-and-tools 1.0.0  tools 1.0.0  " in example("runs", "list").out
    listed = {run["run_id"]: run["replay_of"] for run in example("runs", "list", "--json").json}
    assert listed == {original: "", replay: original, example.runs[-1].name: replay}
    assert example("runs", "diff", original, replay).code == 0


def test_a_replay_needs_no_key_no_settings_and_no_upstream(
    local: Shell, provider: Provider
) -> None:
    ran = execution_of(local.run("caller.py:answer", *model(), "--json", "-q"))
    assert ran.overall_score == 100
    assert ran.task_executions[0].resource_usage.cost_usd == pytest.approx(COST_A_CALL)
    assert provider.keys == {f"Bearer {KEY}"}
    assert all(KEY not in path.read_text() for path in local.runs[0].rglob("*.json*"))
    provider.close()
    (local.directory / "agenttrace.toml").unlink()
    del local.environment["LOCAL_KEY"]
    replayed = local("replay", ran.run_id, "--json", "-q")
    assert replayed.code == 0, replayed.out + replayed.err
    assert len(replayed.json["tasks"]) == 3
    report = local("cost", "report", "--by", "run", "--json").json
    costs = {each["name"]: each["totals"]["cost_usd"] for each in report["groups"]}
    assert costs == {ran.run_id: pytest.approx(3 * COST_A_CALL), replayed.json["run_id"]: 0.0}


@pytest.mark.parametrize("agent", ["unsteady", pytest.param("random", marks=pytest.mark.slow)])
def test_what_differs_from_run_to_run_is_shown(local: Shell, agent: str) -> None:
    assert local.run(f"caller.py:{agent}", *model(), "-q", "-t", "alpha").code == 0
    told = local("replay", local.runs[0].name, "-q")
    assert (told.code, told.err) == (1, "")
    assert "diverged at call 1" in told.out
    assert "RECORDED" in told.out
    assert "0 of 1 identical" in told.out
    assert "\x1b" not in told.out
    data = local("replay", local.runs[0].name, "-q", "--json")
    assert data.code == 1
    [task] = data.json["tasks"]
    assert not task["identical"]
    asked, recorded = (
        task["divergence"][side]["body"]["messages"][0]["content"]
        for side in ("requested", "recorded")
    )
    assert asked != recorded
    assert asked[:10] == recorded[:10] == "Say alpha."


def test_without_a_recording_there_is_no_replay(local: Shell) -> None:
    off = {"AGENTTRACE_GATEWAY__RECORD": "false"}
    assert local.run("caller.py:answer", *model(), "-q", "-t", "alpha", **off).code == 0
    [run] = local.runs
    refused = local("replay", run.name)
    assert refused.code == 2
    assert refused.error == (
        f"the calls of alpha were not recorded in run {run.name} (gateway.record was off)"
    )
    assert "gateway.record = true" in refused.next
    unknown = local("replay", run.name, "--task", "nothing")
    assert unknown.code == 2
    assert unknown.next == f"`agenttrace runs show {run.name}` lists them"
    assert len(local.runs) == 1


@pytest.mark.slow
def test_an_interrupted_replay_is_not_gone_on_with(shell: Shell) -> None:
    """It would ask the models."""
    running = shell.start_run("agent.py:patient", "-t", "alpha", "-q")
    release(shell.client, *shell.wait_until_running())
    assert running.end().code == 0
    [original] = shell.runs
    replaying = shell.start("replay", original.name)
    shell.wait_until_running()
    replaying.interrupt()
    replaying.wait_for("stopping: what runs may finish")
    replaying.interrupt()
    stopped = replaying.end()
    assert (stopped.code, stopped.out) == (130, "")
    assert stopped.next.endswith(f"`agenttrace replay {original.name}` makes another replay")
    replay = shell.runs[-1].name
    resumed = shell("resume", replay)
    assert resumed.code == 2
    assert resumed.error == f"run {replay} is a replay, and is not gone on with"
    assert resumed.next == f"`agenttrace replay {original.name}` makes another"
    assert "resume" not in shell("runs", "list").out


# -- budgets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--token-budget", "10"), "token_budget_exceeded"),
        pytest.param(("--cost-budget", "0.001"), "cost_budget_exceeded", marks=pytest.mark.slow),
    ],
)
def test_the_budget_of_an_attempt_ends_it(
    local: Shell, provider: Provider, options: tuple[str, ...], reason: str
) -> None:
    run = ("caller.py:answer", *model(), "-q", "--json", "-t", "alpha", *options)
    [task] = tasks_of(local.run(*run))
    assert task.failure_reason == reason
    assert task.has_verdict
    assert [call.refused for call in task.model_calls] == ["budget_exceeded"]
    assert not provider.requests
    assert local("replay", local.runs[0].name, "-q").code == 0, "it is met in a replay too"


@pytest.mark.parametrize(
    ("option", "enough_for_two", "enough"),
    [
        ("--max-tokens", "38", "1000"),
        pytest.param("--max-cost", "0.07", "10", marks=pytest.mark.slow),
    ],
)
def test_the_budget_of_a_run_stops_it_and_a_larger_one_goes_on(
    local: Shell, provider: Provider, option: str, enough_for_two: str, enough: str
) -> None:
    """Also without `--model`: what the agent may call is what it was when the run began."""
    run = ("caller.py:answer", *model(), "-n", "1", "--json", option, enough_for_two)
    stopped = local.run(*run)
    [directory] = local.runs
    assert (stopped.code, stopped.out) == (4, "")
    assert stopped.error.startswith("the budget of the run is spent, after 30 tokens and 0.06")
    assert f"`agenttrace resume {directory.name}` goes on" in stopped.next
    assert option in stopped.next
    assert len(provider.requests) == 2
    again = local("resume", directory.name)
    assert (again.code, len(provider.requests)) == (4, 2)
    kept = local("runs", "show", directory.name, "--json").json["attempts"]
    judged = [each["execution"]["score"] is not None for each in kept]
    assert (judged.count(True), judged.count(False)) == (2, 2)
    done = execution_of(local("resume", directory.name, option, enough, "--json", "-q"))
    assert (done.overall_score, len(provider.requests)) == (100, 3)
    assert len(lines_of(directory / "spending.jsonl")) == 3


# -- models ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "without", "code", "error", "remedy"),
    [
        (("local/m",), "LOCAL_KEY", 3, "LOCAL_KEY is not set", "export LOCAL_KEY"),
        (("nowhere/m",), "", 2, "'nowhere/m', but there is no upstream", "agenttrace, local"),
    ],
)
def test_models_that_cannot_be_called_are_told_before_anything_runs(
    local: Shell, names: tuple[str, ...], without: str, code: int, error: str, remedy: str
) -> None:
    local.environment.pop(without, None)
    outcome = local.run("caller.py:answer", *model(*names))
    assert outcome.code == code
    assert error in outcome.error
    assert remedy in outcome.next
    assert local.run("caller.py:answer", *model(*names), "--dry-run").error == outcome.error
    assert not local.runs


def test_a_model_that_is_not_allowed_is_refused(local: Shell, provider: Provider) -> None:
    run = ("caller.py:answer", *model("local/another-*"), "-q", "--json", "-t", "alpha")
    [task] = tasks_of(local.run(*run))
    assert [(call.status, call.refused) for call in task.model_calls] == [
        (403, "model_not_allowed")
    ]
    assert "agents may call: local/another-*" in task.output
    assert not provider.requests


@pytest.mark.slow
def test_a_dry_run_says_what_may_be_called_and_spent(local: Shell) -> None:
    run = ("caller.py:answer", *model("local/m"), "--max-cost", "2", "--token-budget", "9")
    planned = local.run(*run, "--dry-run", "--json").json
    assert planned["models"] == ["local/m"]
    assert planned["budget"] == {"max_cost_usd": 2.0}
    assert planned["overrides"] == {"token_budget": 9}


@pytest.mark.parametrize("enabled", ["true", "false"])
def test_the_gateway_can_be_off(local: Shell, enabled: str) -> None:
    off = {"AGENTTRACE_GATEWAY__ENABLED": enabled}
    [task] = tasks_of(local.run("caller.py:variables", "-q", "--json", "-t", "alpha", **off))
    found = (
        "AGENTTRACE_GATEWAY_KEY,AGENTTRACE_GATEWAY_URL,ANTHROPIC_API_KEY,OPENAI_API_KEY"
        if enabled == "true"
        else "none"
    )
    assert task.output.strip() == found


# -- results and answers that are there already ----------------------------------------------------


@pytest.mark.slow
def test_a_result_is_reused_unless_caches_are_off(local: Shell, provider: Provider) -> None:
    run = ("caller.py:answer", *model(), "-q", "--json", "-t", "alpha", "--reuse")
    first = execution_of(local.run(*run))
    [reused] = tasks_of(local.run(*run))
    assert reused.reused_from == first.run_id
    assert len(provider.requests) == 1
    refused = local("replay", local.runs[-1].name)
    assert refused.code == 2
    assert refused.next == f"`agenttrace replay {first.run_id}` replays that one"
    [made] = tasks_of(local.run(*run, "--no-cache"))
    assert (made.reused_from, len(provider.requests)) == ("", 2)


@pytest.mark.slow
def test_an_answer_is_cached_where_the_request_is_deterministic(
    local: Shell, provider: Provider
) -> None:
    on = {"AGENTTRACE_GATEWAY__CACHE_MODELS": "true"}
    for agent, asked, cached in (("answer", 1, True), ("warm", 2, False)):
        before = len(provider.requests)
        run = (f"caller.py:{agent}", *model(), "-q", "-t", "alpha")
        assert local.run(*run, **on).code == 0
        again = local.run(*run, **on)
        assert ("1 tasks had answers from a cache" in again.out) is cached
        assert len(provider.requests) - before == asked
    totals = local("cost", "report", "--json").json["total"]
    assert (totals["calls"], totals["cached_calls"]) == (4, 1)
    assert totals["cost_usd"] == pytest.approx(3 * COST_A_CALL)


# -- comparing and cost ----------------------------------------------------------------------------


@pytest.mark.slow
def test_two_runs_are_compared_and_what_they_cost_is_told(local: Shell) -> None:
    for agent in ("answer", "answer", "random"):
        assert local.run(f"caller.py:{agent}", *model(), "-q", "-t", "alpha").code == 0
    first, same, other = (run.name for run in local.runs)
    assert local("runs", "diff", first, same).code == 0
    asked_otherwise = local("runs", "diff", first, other)
    assert asked_otherwise.code == 0, "the same was answered"
    assert "same status, score and answer of every task" in asked_otherwise.out
    assert asked_otherwise.out.count("local/m ") == 2, "the first call that differs, of both"
    assert local.run("caller.py:variables", *model(), "-q", "-t", "alpha").code == 0
    assert local("runs", "diff", first, local.runs[-1].name).code == 1
    for by, rows in (("model", 1), ("run", 3), ("day", 1), ("submitter", 1)):
        told = local("cost", "report", "--by", by, "--csv")
        table = list(csv.DictReader(io.StringIO(told.out)))
        assert len(table) == rows, told.out
        assert sum(float(row["cost_usd"]) for row in table) == pytest.approx(3 * COST_A_CALL)
    assert "local/m" in local("cost", "report").out


@pytest.mark.slow
def test_a_pilot_is_the_ground_of_a_forecast_and_so_are_earlier_runs(local: Shell) -> None:
    estimate = ("cost", "estimate", "caller.py:answer", "--suite", SUITE, "--json")
    unknown = local(*estimate)
    assert (unknown.code, unknown.json["cost_usd"]) == (0, None)
    piloted = local(*estimate, "--pilot", "2", *model())
    assert piloted.code == 0, piloted.err
    later = local(*estimate)
    for outcome in (piloted, later):
        forecast = outcome.json["cost_usd"]
        assert forecast["low"] <= 3 * COST_A_CALL * 1.001
        assert forecast["high"] >= 3 * COST_A_CALL * 0.999


# -- stopping --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_while_an_agent_waits_for_a_model(
    local: Shell, provider: Provider, times: int
) -> None:
    run = ("caller.py:patient", *model(), "-t", "alpha", "-t", "beta", "-n", "1", "--json")
    running = local.start_run(*run)
    wait_until(lambda: provider.requests)
    running.interrupt()
    running.wait_for("stopping: what runs may finish")
    if times == 2:
        running.interrupt(signal.SIGINT)
    else:
        provider.go_on.set()
    outcome = running.end()
    assert outcome.code == 130
    stopped = BenchmarkExecution.model_validate_json(outcome.out)
    assert len(stopped.task_executions) == (1 if times == 1 else 0)
    assert len(lines_of(local.runs[0] / "spending.jsonl")) == 1, "what was asked, counts"
    provider.go_on.set()
    resumed = execution_of(local("resume", stopped.run_id, "--json", "-q"))
    assert len(resumed.task_executions) == 2
    assert len(provider.requests) == (2 if times == 1 else 3)


# -- the queue, and Python -------------------------------------------------------------------------


@pytest.mark.slow
def test_a_worker_records_what_a_submission_asks(local: Shell, provider: Provider) -> None:
    local.write("team/submission.toml", LOCAL.replace('"right"', '"answer"'))
    local.write("team/agent.py", CALLER)
    who = ("--as", "team-a", "--email", "dev@example.org", "--accept-terms")
    submitted = local("submit", "team", "--suite", SUITE, "-q", *who)
    assert submitted.code == 0, submitted.err
    allowed = {"AGENTTRACE_GATEWAY__MODELS": "local/*"}
    keyless = local("worker", "--until-empty", LOCAL_KEY="", **allowed)
    assert (keyless.code, "LOCAL_KEY is not set" in keyless.err) == (3, True)
    worked = local("worker", "--until-empty", **allowed)
    assert worked.code == 0, worked.err
    [run] = local.runs
    assert run.name == submitted.out.strip()
    assert len(provider.requests) == 3
    assert len(list(run.rglob("exchanges.jsonl"))) == 3
    report = local("cost", "report", "--by", "submitter", "--json").json
    [team] = report["groups"]
    assert (team["name"], team["totals"]["calls"]) == ("team-a", 3)
    assert team["totals"]["cost_usd"] == pytest.approx(3 * COST_A_CALL)
    assert local("replay", run.name, "-q", LOCAL_KEY="").code == 0


PYTHON = """
import asyncio, sys
from pathlib import Path
from runner import ExecutionRecorder, ReproducibilityVerifier, TaskExecutor, load_submission
from runner.records import load_run

executor = TaskExecutor(suite="tools")
submission = load_submission(sys.argv[1])
for _ in range(2):
    print(asyncio.run(executor.execute_category(submission, "tool_use")).normalized_score)
one, other = (load_run(Path("runs"), path.name).execution for path in Path("runs").iterdir())
print(ReproducibilityVerifier().verify_executions_match(one, other))
recorder = ExecutionRecorder()
for task in one.task_executions:
    for call in task.tool_calls:
        recorder.record_tool_call(call.name, {}, call.succeeded)
recorder.save_to_file("kept.json")
same = ExecutionRecorder.load_from_file("kept.json")
print(len(recorder.entries), ReproducibilityVerifier().verify_executions_match(recorder, same))
"""


@pytest.mark.slow
def test_python_evaluates_with_tools_and_compares(shell: Shell) -> None:
    shell.write("evaluate.py", PYTHON)
    python = replace(shell, command=(sys.executable,), started=[])
    outcome = python("evaluate.py", EXAMPLE)
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines() == ["25.0", "25.0", "(True, [])", "1 (True, [])"]
