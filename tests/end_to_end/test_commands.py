"""The commands around a run, on what one has left; each line a newcomer might type."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from runner.engine import EngineClient

from .shell import AGENTTRACE, Shell

pytestmark = pytest.mark.docker

COMMANDS = (
    "setup",
    "doctor",
    "run",
    "runs list",
    "runs show",
    "trace show",
    "suite list",
    "suite show",
    "cleanup",
    "config show",
    "completion",
)


@pytest.fixture
def beside(finished: Path, client: EngineClient) -> Shell:
    """In the directory of a finished run, to read it."""
    return Shell(finished, client)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(beside: Shell, command: str) -> None:
    outcome = beside(*command.split(), "--help")
    assert outcome.code == 0
    assert f"agenttrace {command}" in outcome.out.partition("Options:")[2]


def test_version(beside: Shell) -> None:
    outcome = beside("--version")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("agenttrace ")


def test_a_mistyped_command(beside: Shell) -> None:
    outcome = beside("rnu")
    assert outcome.code == 2
    assert "Did you mean 'run'?" in outcome.err


def test_runs_list_and_show(beside: Shell) -> None:
    [run] = beside.runs
    [listed] = beside("runs", "list", "--json").json
    assert (listed["run_id"], listed["status"], listed["score"]) == (run.name, "completed", 25.0)
    assert run.name in beside("runs", "list").out
    shown = beside("runs", "show", run.name[:-1])
    assert shown.code == 0
    assert "◐" not in shown.out.partition("category")[0]
    assert {"alpha", "beta", "gamma"} <= set(shown.out.split())
    data = beside("runs", "show", run.name, "--json").json
    assert data["execution"]["overall_score"] == 25.0
    assert len(data["attempts"]) == 3


def test_one_attempt(beside: Shell) -> None:
    [run] = beside.runs
    shown = beside("runs", "show", run.name, "beta")
    assert shown.code == 0, shown.err
    assert "alpha" in shown.out  # its answer
    assert "wrong" in shown.out


def test_trace_show(beside: Shell) -> None:
    [run] = beside.runs
    shown = beside("trace", "show", run.name, "alpha")
    assert shown.code == 0
    assert "invoke_agent" in shown.out
    spans = beside("trace", "show", run.name, "alpha", "--json").json
    assert any(span["name"].startswith("invoke_agent") for span in spans)


@pytest.mark.slow
def test_suites_are_shown_without_their_answers(beside: Shell) -> None:
    assert "starter" in beside("suite", "list").out
    shown = beside("suite", "show", "suite", "--json")
    assert [task["task_id"] for task in shown.json["tasks"]].count("alpha") == 1
    assert "expected" not in shown.out
    assert "alpha" in beside("suite", "show", "suite").out


def test_config_says_who_set_what(beside: Shell) -> None:
    variable = {"AGENTTRACE_LIMITS__PIDS": "77"}
    shown = beside("config", "show", "limits", "--origin", **variable)
    assert shown.code == 0
    [line] = [line for line in shown.out.splitlines() if line.startswith("limits.pids")]
    assert line.split() == ["limits.pids", "77", "env", "AGENTTRACE_LIMITS__PIDS"]
    assert beside("config", "show", "limits.pids", **variable).out == "limits.pids = 77\n"


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_completion(beside: Shell, shell_name: str) -> None:
    outcome = beside("completion", shell_name)
    assert outcome.code == 0
    assert "_AGENTTRACE_COMPLETE" in outcome.out
    if shell_name == "bash":
        subprocess.run(["bash", "-n"], input=outcome.out, text=True, check=True)


def test_completion_knows_runs_and_commands(beside: Shell) -> None:
    def complete(*words: str) -> str:
        return beside(
            _AGENTTRACE_COMPLETE="bash_complete",
            COMP_WORDS=" ".join(words),
            COMP_CWORD=str(len(words) - 1),
        ).out

    [run] = beside.runs
    assert "plain,doctor" in complete("agenttrace", "doc").split()
    assert f"plain,{run.name}" in complete("agenttrace", "runs", "show", "2").split()


def test_cleanup_where_nobody_was_killed(beside: Shell) -> None:
    """Shims of other versions may be there; containers are not."""
    outcome = beside("cleanup", "--dry-run", "--json")
    assert outcome.code == 0
    assert not [name for name in outcome.json["removed"] if name.startswith("agenttrace-")]


@pytest.mark.slow
def test_cleanup_of_everything_is_only_said(beside: Shell, base_image: str) -> None:
    outcome = beside("cleanup", "--all", "--dry-run", "--json")
    assert f"image {base_image}" in outcome.json["removed"]
    assert beside("run", "agent.py:right", "--suite", "suite", "--dry-run").code == 0


@pytest.mark.slow
def test_doctor(beside: Shell) -> None:
    outcome = beside("doctor", "--json")
    assert outcome.code == (0 if outcome.json["healthy"] else 3)
    checks = {check["name"]: check for check in outcome.json["checks"]}
    assert checks["container"]["ok"] is True


def test_setup_again_is_quick_and_changes_nothing(beside: Shell) -> None:
    first, second = (beside("setup", "--json") for _ in range(2))
    assert second.code == 0, second.err
    assert first.json | {"seconds": 0} == second.json | {"seconds": 0}
    assert second.json["seconds"] < 2


@pytest.mark.parametrize("stream", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_not_matter(beside: Shell, stream: str) -> None:
    line = f'"{AGENTTRACE}" runs list {stream}'
    ended = subprocess.run(
        ["sh", "-c", line],
        cwd=beside.directory,
        env=beside.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.slow
def test_output_that_nobody_can_keep(beside: Shell) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [AGENTTRACE, "runs", "list", "--json"],
            cwd=beside.directory,
            env=beside.environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.returncode == 3
    assert ended.stderr.startswith("error: output: no space left on device\nnext: ")


@pytest.mark.parametrize(
    ("arguments", "codes"),
    [
        ("config show | head -1", ("0", "141")),
        ("runs show nope 2>&1 | true", ("2",)),
        ("runs nope 2>&1 | true", ("2", "141")),
    ],
)
@pytest.mark.slow
def test_a_reader_that_goes_away(beside: Shell, arguments: str, codes: tuple[str, ...]) -> None:
    line = f'"{AGENTTRACE}" {arguments}; echo ${{PIPESTATUS[0]}}'
    ended = subprocess.run(
        ["bash", "-c", line],
        cwd=beside.directory,
        env=beside.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stderr == ""
    assert ended.stdout.splitlines()[-1] in codes
