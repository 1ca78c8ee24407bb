"""The edge: help at once, one line for each error, an exit code for each kind."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

from runner import errors
from runner.cli.program import COMMANDS, program

from .conftest import FakeBootstrap, Outcome

Agenttrace = Callable[..., Outcome]

SLOW_IMPORTS = ("pydantic", "docker", "rich", "httpx", "runner.domain", "runner.config", "asyncio")
COMMAND_NAMES = [
    "setup",
    "doctor",
    "run",
    "resume",
    "runs",
    "submit",
    "queue",
    "worker",
    "trace",
    "suite",
    "cleanup",
    "config",
    "completion",
]


def leaves() -> list[tuple[str, click.Command]]:
    """Every command that does something, with its path."""
    found = []
    for name, (target, _) in COMMANDS.items():
        module, _, function = target.partition(":")
        command = getattr(importlib.import_module(module), function)
        if isinstance(command, click.Group):
            found += [(f"{name} {inner}", leaf) for inner, leaf in command.commands.items()]
        else:
            found.append((name, command))
    return found


# -- help ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_every_command(agenttrace: Agenttrace, flag: str) -> None:
    shown = agenttrace(flag)
    assert shown.code == 0
    for name in COMMAND_NAMES:
        assert f"\n  {name} " in shown.out
    assert "Exit codes:" in shown.out


def test_the_table_says_what_the_commands_say() -> None:
    for name, (_, summary) in COMMANDS.items():
        command = program.get_command(click.Context(program), name)
        assert command is not None
        assert command.name == name
        assert command.get_short_help_str(100) == summary


@pytest.mark.parametrize(("path", "command"), leaves(), ids=[path for path, _ in leaves()])
def test_each_command_explains_itself_with_examples(path: str, command: click.Command) -> None:
    assert command.help
    assert f"agenttrace {path}" in (command.epilog or "")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{path} {parameter.name}"
    names = {name for parameter in command.params for name in parameter.opts}
    if path != "completion":
        assert {"--profile", "--verbose", "-v"} <= names
    if path not in ("completion", "worker"):  # those that print no data
        assert "--json" in names


@pytest.mark.parametrize("path", [path for path, _ in leaves()])
def test_help_of_each_command(agenttrace: Agenttrace, path: str) -> None:
    shown = agenttrace(*path.split(), "-h")
    assert shown.code == 0
    assert f"Usage: agenttrace {path}" in shown.out
    assert shown.err == ""


def test_run_has_the_options_of_the_product() -> None:
    [run] = [command for path, command in leaves() if path == "run"]
    names = {name for parameter in run.params for name in parameter.opts}
    assert {
        *("--image", "--interface", "--command", "--port", "--suite", "-c", "--category"),
        *("-t", "--task", "-l", "--limit", "-n", "--concurrency", "-k", "--repeats", "--seed"),
        *("--time-limit", "--memory", "--cpus", "--pids", "--token-budget", "--dry-run"),
        *("--fail-under", "-o", "--output", "--json", "-q", "--quiet", "-v", "--profile"),
    } <= names


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_help_imports_nothing_slow() -> None:
    done = python("-X", "importtime", "-m", "runner", "--help")
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "click" in imported
    assert imported.isdisjoint(SLOW_IMPORTS)


def test_version(agenttrace: Agenttrace) -> None:
    shown = agenttrace("--version")
    assert shown.code == 0
    assert shown.out.startswith("agenttrace 0")


# -- usage errors --------------------------------------------------------------------------------


def test_a_mistyped_command_is_a_usage_error_with_a_hint(agenttrace: Agenttrace) -> None:
    shown = agenttrace("cleanpu")
    assert shown.code == 2
    assert shown.out == ""
    assert "Did you mean 'cleanup'?" in shown.err


@pytest.mark.parametrize(
    "line",
    ["--no-such-option", "run --no-such-option", "runs show", "run", "completion tcsh"],
)
def test_usage_errors_exit_with_2(agenttrace: Agenttrace, line: str) -> None:
    shown = agenttrace(*line.split())
    assert shown.code == 2
    assert "Error: " in shown.err
    assert shown.out == ""


# -- everything else that can go wrong -----------------------------------------------------------


def every_error() -> list[type[errors.RunnerError]]:
    pending, found = [errors.RunnerError], []
    while pending:
        kind = pending.pop()
        found.append(kind)
        pending += kind.__subclasses__()
    return [kind for kind in found if kind.__module__ == "runner.errors"]


@pytest.mark.parametrize("kind", every_error())
def test_our_errors_are_two_lines_and_their_exit_code(
    agenttrace: Agenttrace, bootstrap: FakeBootstrap, kind: type[errors.RunnerError]
) -> None:
    further = {"until": datetime.now(UTC)} if kind is errors.Postponed else {}
    bootstrap.answers["cleanup"] = kind("it \x1b[31m broke", remedy="mend it", **further)
    shown = agenttrace("cleanup")
    assert shown.code == kind.exit_code
    assert shown.out == ""
    assert shown.err == "error: it \\x1b[31m broke\nnext: mend it\n"


def test_the_end_of_a_failed_build_is_shown_inert(
    agenttrace: Agenttrace, bootstrap: FakeBootstrap
) -> None:
    log = b"".join(b"step %d\n" % number for number in range(100)) + b"\x1b[2Jno such wheel \xff\n"
    bootstrap.answers["cleanup"] = errors.BuildFailed("did not build", log=log)
    shown = agenttrace("cleanup")
    assert shown.code == 2
    assert "  | \\x1b[2Jno such wheel \\xff\nerror: did not build\n" in shown.err
    assert "step 99" in shown.err
    assert "step 50" not in shown.err


def test_what_was_not_foreseen_is_one_line_and_where_to_report_it(
    agenttrace: Agenttrace, bootstrap: FakeBootstrap
) -> None:
    bootstrap.answers["cleanup"] = ZeroDivisionError("by \x1b zero")
    shown = agenttrace("cleanup")
    assert shown.code == 3
    assert shown.err.startswith("error: unexpected ZeroDivisionError: by \\x1b zero\nnext: ")
    assert "report" in shown.err
    assert "Traceback" not in shown.err


@pytest.mark.parametrize("how", ["-v", "AGENTTRACE_DEBUG"])
def test_a_traceback_only_on_demand(
    agenttrace: Agenttrace, bootstrap: FakeBootstrap, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    bootstrap.answers["cleanup"] = ZeroDivisionError("by zero")
    if how != "-v":
        monkeypatch.setenv(how, "1")
    shown = agenttrace("cleanup", *(["-v"] if how == "-v" else []))
    assert shown.code == 3
    assert "Traceback" in shown.err
    assert "ZeroDivisionError: by zero" in shown.err


def test_ctrl_c_ends_with_130(agenttrace: Agenttrace, bootstrap: FakeBootstrap) -> None:
    bootstrap.answers["cleanup"] = KeyboardInterrupt()
    shown = agenttrace("cleanup")
    assert shown.code == 130
    assert "interrupted" in shown.err
    assert "Traceback" not in shown.err


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd()), "HOME": str(tmp_path)}
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "runner", "config", "show", "--origin"],
        stdout=writer,
        stderr=subprocess.PIPE,
        env=environ,
        check=False,
        timeout=60,
    )
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode == 128 + 13


def test_bad_configuration_ends_with_2(agenttrace: Agenttrace, tmp_path: Path) -> None:
    (tmp_path / "agenttrace.toml").write_text("[limits]\npid = 3")
    shown = agenttrace("config", "show")
    assert shown.code == 2
    assert "limits.pid" in shown.err
    assert "next: did you mean limits.pids?" in shown.err
