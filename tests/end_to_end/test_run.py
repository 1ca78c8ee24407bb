"""`agenttrace run`: each kind of submission, each option, and what it leaves on disk."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from runner.domain import BenchmarkExecution, ExecutionStatus, TaskExecution
from runner.engine import EngineClient

from .conftest import FUNCTION, LOCAL, MANIFEST, SESSION
from .shell import Outcome, Shell

pytestmark = pytest.mark.docker

ECHO = "import json, sys; print(json.load(sys.stdin)['prompt'][4:-1])"
"""An agent in one line, for `python3 -c`: what it is asked to say."""
OTHER_SEED = "1"
FILES_OF_A_RUN = {
    "submission.json",
    "config.json",
    "lock.json",
    "execution.json",
    "events.jsonl",
    "tasks",
}
FILES_OF_AN_ATTEMPT = {
    "execution.json",
    "trace.otlp.jsonl",
    "stdout.log",
    "stderr.log",
    "artifacts",
}


def execution_of(outcome: Outcome) -> BenchmarkExecution:
    """Of a run with --json that went well."""
    assert outcome.code == 0, outcome.err
    return BenchmarkExecution.model_validate_json(outcome.out)


def tasks_of(outcome: Outcome) -> list[TaskExecution]:
    return execution_of(outcome).task_executions


def order_of(shell: Shell) -> list[str]:
    """Tasks of the last run in the order in which they were begun."""
    lines = (shell.runs[-1] / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    return [event["task_id"] for event in events if event["kind"] == "task_started"]


# -- kinds of submission ---------------------------------------------------------------------------


def test_a_directory_with_a_manifest(shell: Shell) -> None:
    shell.write("my agent/submission.toml", LOCAL)
    shell.write("my agent/agent.py", FUNCTION)
    outcome = shell.run("my agent", "--json")
    execution = execution_of(outcome)
    assert (execution.agent_name, execution.agent_version) == ("echo", "2.0.0")
    assert execution.overall_score == 100
    assert {str(name) for name in execution.category_executions} == {"reasoning", "planning"}
    assert re.search(r"^\[3/3\] \w+: completed, score 100.0, [\d.]+ s$", outcome.err, re.MULTILINE)
    assert outcome.err.splitlines()[-1] == f"evidence: runs/{execution.run_id}"


def test_a_function(shell: Shell) -> None:
    outcome = shell.run("agent.py:right", "-n", "1")
    assert outcome.code == 0, outcome.err
    assert re.search(r"alpha +✔ solved +100\.0", outcome.out)
    assert re.search(rf"evidence +runs/{shell.runs[0].name}$", outcome.out, re.MULTILINE)
    assert "\x1b" not in outcome.out + outcome.err


def test_an_image_with_a_command(shell: Shell, base_image: str) -> None:
    command = f'python3 -c "{ECHO}"'
    [task] = tasks_of(
        shell.run("--image", base_image, "--command", command, "-t", "alpha", "--json", "-q")
    )
    assert (task.output, task.normalized_score) == ("alpha\n", 100)


def test_a_dockerfile_and_its_image_in_an_archive(shell: Shell, client: EngineClient) -> None:
    shell.write("docker/agent.py", f"# {SESSION}\n{ECHO}")
    shell.write(
        "docker/Dockerfile",
        "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nCOPY agent.py /srv/\n"
        'ENTRYPOINT ["python3", "-I", "/srv/agent.py"]\n',
    )
    container = MANIFEST + 'endpoint_type = "container"\n'
    shell.write("docker/submission.toml", container + 'dockerfile = "Dockerfile"\n')
    built = execution_of(shell.run("docker", "--json", "-q"))
    assert built.overall_score == 100

    def save(api: Any) -> None:
        with (shell.directory / "image.tar").open("wb") as file:
            for part in api.get_image(built.image_id):
                file.write(part)

    client.call_blocking("save", save)
    shell.write("archive/submission.toml", container + 'archive = "image.tar"\n')
    (shell.directory / "image.tar").rename(shell.directory / "archive/image.tar")
    loaded = execution_of(shell.run("archive", "--json", "-q", "-l", "1"))
    assert loaded.overall_score == 100


# -- options -------------------------------------------------------------------------------------


def test_stdout_is_one_execution_and_the_same_as_on_disk(finished: Path) -> None:
    text = (finished / "stdout.json").read_text()
    assert text.isascii()
    printed = BenchmarkExecution.model_validate_json(text)
    [run] = (finished / "runs").iterdir()
    assert run.name == printed.run_id
    assert BenchmarkExecution.model_validate_json((run / "execution.json").read_bytes()) == printed
    assert printed.status is ExecutionStatus.COMPLETED
    scores = {task.task_id: task.normalized_score for task in printed.task_executions}
    assert scores == {"alpha": 100, "beta": 0, "gamma": 0}


def test_the_run_directory_is_complete(finished: Path) -> None:
    [run] = (finished / "runs").iterdir()
    assert {path.name for path in run.iterdir()} == FILES_OF_A_RUN
    assert {path.name for path in (run / "tasks").iterdir()} == {"alpha", "beta", "gamma"}
    for task in (run / "tasks").iterdir():
        [attempt] = task.iterdir()
        assert attempt.name == "1-1"
        assert {path.name for path in attempt.iterdir()} == FILES_OF_AN_ATTEMPT
        execution = TaskExecution.model_validate_json((attempt / "execution.json").read_bytes())
        assert execution.task_id == task.name
        assert execution.resource_usage.memory_peak_source == "cgroup_peak"
    kinds = [json.loads(line)["kind"] for line in (run / "events.jsonl").read_text().splitlines()]
    assert (kinds[0], kinds[-1]) == ("run_started", "run_finished")
    assert (kinds.count("task_started"), kinds.count("task_finished")) == (3, 3)
    lock = json.loads((run / "lock.json").read_text())
    assert (lock["suite_name"], lock["suite_version"]) == ("tiny", "1.2.3")
    assert json.loads((run / "submission.json").read_text())["agent_name"] == "agent"
    assert json.loads((run / "config.json").read_text())["repeats"] == 1


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("-c", "planning", "-c", "reasoning", "-t", "al*", "-t", "gam?a"), {"alpha", "gamma"}),
        (("-c", "reasoning", "-t", "*a", "-l", "2"), {"alpha", "beta"}),
    ],
)
@pytest.mark.slow
def test_a_dry_run_says_which_tasks_and_runs_none(
    shell: Shell, options: tuple[str, ...], expected: set[str]
) -> None:
    outcome = shell.run("agent.py:right", "--dry-run", "--json", *options)
    assert outcome.code == 0, outcome.err
    assert set(outcome.json["tasks"]) == expected
    assert not shell.runs


def test_a_dry_run_for_a_person(shell: Shell) -> None:
    outcome = shell.run("agent.py:right", "--dry-run", "--seed", "7", "-k", "3", "--pids", "99")
    assert outcome.code == 0, outcome.err
    for line in ("seed: 7", "repeats: 3", "overrides: pids 99", "suite: tiny 1.2.3"):
        assert line in outcome.out.splitlines()
    assert not shell.runs


def test_limits_of_the_command_line_hold_and_are_recorded(shell: Shell) -> None:
    options = ("--memory", "128MiB", "--pids", "50", "--cpus", "0.5", "--time-limit", "1m")
    [task] = tasks_of(shell.run("agent.py:right", "-l", "1", "--json", "-q", *options))
    expected = {"memory_bytes": 128 * 1024**2, "pids": 50, "cpus": 0.5, "time_seconds": 60}
    assert task.limit_overrides == expected
    assert task.limits.model_dump(include=set(expected)) == expected
    assert task.sandbox
    applied = {name: task.sandbox.applied[name] for name in ("memory_bytes", "pids", "cpus")}
    assert applied == {"memory_bytes": 128 * 1024**2, "pids": 50, "cpus": 0.5}


@pytest.mark.slow
def test_the_time_limit_ends_an_agent(shell: Shell) -> None:
    outcome = shell.run("agent.py:patient", "-l", "1", "--json", "-q", "--time-limit", "300ms")
    [task] = tasks_of(outcome)
    assert (task.status, str(task.failure_reason)) == (ExecutionStatus.TIMEOUT, "agent_timeout")
    assert 0.3 <= task.resource_usage.execution_time_seconds < 5


@pytest.mark.slow
def test_repeats_and_order(shell: Shell) -> None:
    """The same seed gives the same order, each task is run as often as asked, and -n 1 is one."""
    run = ("agent.py:right", "-c", "reasoning", "-q", "--json", "--seed", "11", "-n", "1")
    ran = sorted(tasks_of(shell.run(*run, "-k", "2")), key=lambda task: task.started_at)
    assert sorted((task.task_id, task.repeat) for task in ran) == [
        (name, repeat) for name in ("alpha", "beta") for repeat in (1, 2)
    ]
    for earlier, later in pairwise(ran):
        assert earlier.finished_at <= later.started_at
    order = order_of(shell)
    assert order == 2 * order[:2]
    assert shell.run(*run).code == 0
    assert order_of(shell) == order[:2]


@pytest.mark.slow
def test_the_seed_comes_from_the_submission(shell: Shell) -> None:
    plans = [
        shell.run("agent.py:right", "--dry-run", "--json", *options).json
        for options in ((), (), ("--seed", OTHER_SEED))
    ]
    assert plans[0] == plans[1]
    assert plans[2]["tasks"] != plans[0]["tasks"]
    assert plans[2]["seed"] == int(OTHER_SEED) != plans[0]["seed"]


def test_the_exit_code_is_the_threshold_s(shell: Shell) -> None:
    one = ("agent.py:sometimes", "-t", "beta", "-q", "-o", "elsewhere")
    passed = shell.run(*one, "--fail-under", "0")
    assert (passed.code, passed.err) == (0, "")
    failed = shell.run(*one, "--fail-under", "0.1")
    assert failed.code == 1
    assert failed.err == "score 0.0 is below --fail-under 0.1\n"
    assert len(list((shell.directory / "elsewhere").iterdir())) == 2
    assert not shell.runs


@pytest.mark.slow
def test_an_agent_that_fails_is_no_failure_of_the_command(shell: Shell) -> None:
    shell.write("crash.py", f"# {SESSION}\ndef answer(prompt, config):\n    raise SystemExit(3)\n")
    [task] = tasks_of(shell.run("crash.py:answer", "-l", "1", "-q", "--json"))
    assert (task.status, str(task.failure_reason)) == (ExecutionStatus.FAILED, "agent_error")


@pytest.mark.slow
def test_where_runs_go_can_begin_with_a_tilde(shell: Shell) -> None:
    shell.write("agenttrace.toml", '[storage]\nruns_dir = "~/evidence"\n')
    (shell.directory / "home").mkdir()
    home = {"HOME": str(shell.directory / "home")}
    assert shell.run("agent.py:right", "-l", "1", "-q", **home).code == 0
    assert len(list((shell.directory / "home/evidence").iterdir())) == 1
    assert len(shell("runs", "list", "--json", **home).json) == 1


@pytest.mark.slow
def test_two_runs_at_once(shell: Shell) -> None:
    both = [shell.start_run("agent.py:right", "--json", "-q") for _ in range(2)]
    ended = [execution_of(running.end()) for running in both]
    assert [execution.overall_score for execution in ended] == [100, 100]
    assert {execution.run_id for execution in ended} == {path.name for path in shell.runs}
