"""From `agenttrace submit` to a result, by workers: the commands of a shared host."""

from __future__ import annotations

import json
import re
import signal
import sys
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from .conftest import LOCAL
from .shell import SUITE, Outcome, Running, Shell, release

pytestmark = [pytest.mark.docker, pytest.mark.slow]

CHECKS = 11
SECRET = "s3cr3t-t0ken-of-an-agent"
IDENTITY = 'submitted_by = "team-echo"\ncontact_email = "dev@example.com"\n'
BY_TEAM = ("--as", "team-echo", "--email", "dev@example.com", "--accept-terms")

SERVER = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Agent(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = self.headers["Authorization"] + asked["prompt"][4:-1]
        body = json.dumps({"output": said}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Agent)
print("port", server.server_port, file=sys.stderr, flush=True)
server.serve_forever()
"""
REMOTE = (
    IDENTITY
    + """
agent_name = "far"
agent_version = "1.0.0"
terms_accepted = true
[agent_endpoint]
endpoint_type = "http"
url = "http://127.0.0.1:{port}/"
auth_type = "bearer"
auth_env = "AGENT_TOKEN"
"""
)


def submit(shell: Shell, *arguments: str, **variables: str) -> str:
    """The run's id, which is all that stdout has."""
    outcome = shell("submit", *arguments, *BY_TEAM, "--suite", SUITE, **variables)
    assert outcome.code == 0, outcome.err
    [run_id] = outcome.out.splitlines()
    return run_id


def work_off(shell: Shell, **variables: str) -> Outcome:
    outcome = shell("worker", "--until-empty", **variables)
    assert outcome.code == 0, outcome.err
    assert outcome.out == ""
    return outcome


def logged(outcome: Outcome) -> list[dict[str, Any]]:
    """Each line of stderr, which has to be one JSON object."""
    return [json.loads(line) for line in outcome.err.splitlines()]


def test_from_submission_to_result(shell: Shell) -> None:
    run_id = submit(shell, "agent.py:right", "-q")
    waiting = shell("queue", "--json").json
    assert (waiting["queue_size"], waiting["active_executions"]) == (1, 0)
    assert [job["run_id"] for job in waiting["jobs"]] == [run_id]
    assert run_id in shell("queue").out

    work_off(shell)

    done = shell("queue", "--json").json
    assert (done["queue_size"], done["finished"], done["failed"]) == (0, 1, 0)
    assert done["workers"] == []
    shown = shell("queue", "show", run_id[:-2], "--json").json
    assert (shown["job"]["state"], shown["quota_entry"]["state"]) == ("finished", "committed")
    kinds = [each["event"]["kind"] for each in shown["events"]]
    assert kinds[:3] == ["submitted", "claimed", "run_started"]
    assert kinds[-1] == "run_finished"
    assert kinds.count("task_finished") == 3
    assert "finished" in shell("queue", "show", run_id).out

    result = shell("runs", "show", run_id, "--json").json
    assert result["execution"]["overall_score"] == 100
    assert {"alpha", "beta", "gamma"} <= set(shell("runs", "show", run_id).out.split())
    [listed] = shell("runs", "list", "--json").json
    assert (listed["run_id"], listed["status"]) == (run_id, "completed")

    quota = shell("queue", "quota", "team-echo", "--json").json
    assert [(use["submitter"], use["day"], use["week"]) for use in quota["uses"]] == [
        ("team-echo", 1, 1)
    ]
    assert "team-echo" in shell("queue", "quota").out


def test_a_check_shows_all_that_is_wrong_and_queues_nothing(shell: Shell) -> None:
    """No check hides another one."""
    shell.write(
        "sub/submission.toml",
        LOCAL.replace("terms_accepted = true", "terms_accepted = false")
        .replace('"2.0.0"', '"two"')
        .replace('agent_name = "echo"', 'agent_name = "echo"\ncontact_email = "nobody"'),
    )
    outcome = shell("submit", "sub", "--check", "--json")
    assert outcome.code == 2
    data = outcome.json
    assert (data["run_id"], data["job"], data["is_valid"]) == (None, None, False)
    assert len(data["checks"]) == CHECKS
    refused = {line.partition(":")[0] for line in data["errors"]}
    assert {"required_fields", "terms_accepted", "email_valid", "endpoint_reachable"} <= refused
    assert [line.partition(":")[0] for line in data["warnings"]] == ["version_format"]
    shown = shell("submit", "sub", "--check")
    assert shown.code == 2
    assert [name for name in refused if name not in shown.out] == []
    plain = shell("submit", "sub")
    assert (plain.code, plain.out) == (2, "")
    assert [name for name in refused if name not in plain.err] == []
    assert shell("queue", "--json").json["queue_size"] == 0


def test_a_check_of_what_is_valid_queues_nothing(shell: Shell) -> None:
    outcome = shell("submit", "agent.py:right", *BY_TEAM, "--suite", SUITE, "--check", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["is_valid"]
    assert shell("queue", "--json").json["queue_size"] == 0


def test_a_quota_that_is_used_up(shell: Shell) -> None:
    one = {"AGENTTRACE_SUBMISSIONS__QUOTA_PER_DAY": "1"}
    submit(shell, "agent.py:right", **one)
    refused = shell("submit", "agent.py:right", *BY_TEAM, "--suite", SUITE, **one)
    assert (refused.code, refused.out) == (4, "")
    said = re.search(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d", refused.err)
    assert said, refused.err
    datetime.fromisoformat(said[0])
    assert shell("queue", "--json").json["queue_size"] == 1


# -- a worker while it runs -----------------------------------------------------------------------


@pytest.fixture
def busy(shell: Shell) -> Iterator[tuple[Running, str, str]]:
    """A worker with metrics, its run, and the container that waits for a word from us."""
    run_id = submit(shell, "agent.py:patient", "-l", "1")
    worker = shell.start("worker", "--metrics-port", "0", AGENTTRACE_RUN__PARALLELISM="1")
    [name] = shell.wait_until_running()
    yield worker, run_id, name
    if worker.process.poll() is None:
        worker.interrupt(signal.SIGTERM)
        worker.interrupt(signal.SIGTERM)  # its agent waits for a word that will not come
        worker.end()


def test_metrics_and_a_drain(shell: Shell, busy: tuple[Running, str, str]) -> None:
    worker, run_id, name = busy
    url = worker.wait_for("metrics: ").split()[-1]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/metrics", url)
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    assert "agenttrace_" in text
    [shown] = shell("queue", "--json").json["workers"]
    assert shown["running"] == [run_id]
    worker.interrupt(signal.SIGTERM)
    release(shell.client, name)
    assert worker.end().code == 0
    done = shell("queue", "--json").json
    assert (done["finished"], done["active_executions"], done["workers"]) == (1, 0, [])


def test_a_queued_run_is_watched_to_its_end(shell: Shell) -> None:
    run_id = submit(shell, "agent.py:right")
    watching = shell.start("runs", "watch", run_id, "--json")
    work_off(shell)
    watched = watching.end()
    assert watched.code == 0, watched.err
    kinds = [json.loads(line)["kind"] for line in watched.out.splitlines()]
    assert kinds[-1] == "run_finished"
    assert kinds.count("task_finished") == 3


def test_drain_from_another_process(shell: Shell, busy: tuple[Running, str, str]) -> None:
    worker, run_id, name = busy
    draining = shell.start("worker", "--drain")
    draining.wait_for("is draining")
    release(shell.client, name)
    assert draining.end().code == 0
    assert worker.end().code == 0
    assert shell("queue", "show", run_id, "--json").json["job"]["state"] == "finished"


# -- what a worker says ---------------------------------------------------------------------------


def test_logs_are_json_and_say_whose_line_it_is(shell: Shell) -> None:
    run_id = submit(shell, "agent.py:right")
    lines = logged(work_off(shell, AGENTTRACE_LOG__LEVEL="info"))
    assert {"timestamp", "level", "logger", "event"} <= set.intersection(*map(set, lines))
    assert run_id in {line.get("run") for line in lines}
    assert all(line["submission"] for line in lines if "run" in line)


def test_no_secret_is_kept_or_said(shell: Shell) -> None:
    shell.write("server.py", SERVER)
    server = Shell(shell.directory, shell.client, (sys.executable, "server.py")).start()
    try:
        port = server.wait_for("port ").split()[1]
        shell.write("far/submission.toml", REMOTE.format(port=port))
        known = {
            "AGENTTRACE_REMOTE__ALLOW_ADDRESSES": "127.0.0.1/32",
            "AGENTTRACE_REMOTE__ALLOW_PLAIN_HTTP": "true",
            "AGENTTRACE_LOG__LEVEL": "debug",
        }
        run_id = submit(shell, "far", AGENT_TOKEN=SECRET, **known)
        said = work_off(shell, AGENT_TOKEN=SECRET, **known)
    finally:
        server.interrupt(signal.SIGKILL)
        server.end()
    logged(said)
    assert shell("queue", "show", run_id, "--json").json["job"]["state"] == "finished"
    job = shell("queue", "show", run_id, "--json").json["job"]
    assert job["note"].startswith("score"), job
    [alpha] = shell.runs[-1].glob("tasks/alpha/*/execution.json")
    assert json.loads(alpha.read_text())["output"] == "Bearer [redacted]alpha", "it was sent"
    assert SECRET not in said.err
    files = [path for path in shell.directory.rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
