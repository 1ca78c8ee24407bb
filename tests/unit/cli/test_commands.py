"""Each command: its options become one call, its answer becomes lines or JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.domain import (
    BenchmarkCategory,
    FailureReason,
    FunctionInterface,
    Image,
    LimitOverrides,
    Limits,
    RunPlan,
)
from runner.domain.submission import AgentEndpoint, BenchmarkSubmission
from runner.errors import Interrupted

from .conftest import NOW, SUITE, FakeBootstrap, Outcome, execution

Agenttrace = Callable[..., Outcome]


# -- run -----------------------------------------------------------------------------------------


def test_run_without_options(agenttrace: Agenttrace, bootstrap: FakeBootstrap) -> None:
    shown = agenttrace("run", "some/dir")
    assert shown.code == 0
    assert "echo" in shown.out
    assert "reasoning" in shown.out
    assert re.search(r"evidence +runs/r1", shown.out)
    assert "\x1b" not in shown.out
    request = bootstrap.request
    assert (request.target, request.image) == ("some/dir", None)
    assert (request.interface, request.command, request.port) == (None, (), None)
    assert (request.suite, request.parallelism, request.repeats) == ("starter", 3, 1)
    assert (request.categories, request.tasks, request.limit) == ((), (), None)
    assert (request.seed, request.token_budget, request.output) == (None, None, None)
    assert request.overrides == LimitOverrides()


def test_run_with_every_option(agenttrace: Agenttrace, bootstrap: FakeBootstrap) -> None:
    shown = agenttrace(
        *("run", "--image", "repo/agent:1", "--interface", "http", "--port", "9000"),
        *("--command", "python 'my agent.py'", "--suite", "other", "-c", "reasoning"),
        *("-c", "planning", "-t", "plan-*", "-t", "reasoning-00?", "-l", "5", "-n", "2"),
        *("-k", "4", "--seed", "7", "--time-limit", "5m", "--memory", "1GiB", "--cpus", "0.5"),
        *("--pids", "64", "--token-budget", "1000", "--cost-budget", "0.5"),
        *("--model", "openai/*", "--model", "local/m", "--max-tokens", "9000", "--max-cost", "2"),
        *("--reuse", "-o", "elsewhere", "-q"),
        *("--profile", "competition"),
    )
    assert shown.code == 0, shown.err
    request = bootstrap.request
    assert (request.target, request.image) == (None, "repo/agent:1")
    assert (request.interface, request.port) == ("http", 9000)
    assert request.command == ("python", "my agent.py")
    assert request.suite == "other"
    assert request.categories == (BenchmarkCategory.REASONING, BenchmarkCategory.PLANNING)
    assert request.tasks == ("plan-*", "reasoning-00?")
    assert (request.limit, request.parallelism, request.repeats) == (5, 2, 4)
    assert (request.seed, request.token_budget, request.cost_budget_usd) == (7, 1000, 0.5)
    assert bootstrap.settings.gateway.models == ("openai/*", "local/m")
    assert bootstrap.settings.run.max_tokens == 9000
    assert bootstrap.settings.run.max_cost_usd == 2.0
    assert bootstrap.settings.run.reuse
    assert request.overrides == LimitOverrides(
        time_seconds=300, memory_bytes=1024**3, cpus=0.5, pids=64
    )
    assert request.output == Path("elsewhere")
    assert bootstrap.settings.profile == "competition"
    assert bootstrap.settings.storage.runs_dir == Path("elsewhere")


def test_no_cache_turns_every_cache_off(
    agenttrace: Agenttrace, bootstrap: FakeBootstrap, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RUN__REUSE", "GATEWAY__CACHE_MODELS", "GATEWAY__CACHE_TOOLS"):
        monkeypatch.setenv(f"AGENTTRACE_{name}", "true")
    assert agenttrace("run", "dir").code == 0
    assert bootstrap.settings.run.reuse
    assert agenttrace("run", "dir", "--reuse", "--no-cache").code == 0
    settings = bootstrap.settings
    assert not settings.run.reuse
    assert not settings.gateway.cache_models
    assert not settings.gateway.cache_tools


def test_an_image_speaks_stdio_unless_told_otherwise(
    agenttrace: Agenttrace, bootstrap: FakeBootstrap
) -> None:
    assert agenttrace("run", "--image", "x").code == 0
    assert bootstrap.request.interface == "stdio"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("run", "either SUBMISSION or --image"),
        ("run dir --image x", "either SUBMISSION or --image"),
        ("run dir --interface http", "--interface belongs to --image"),
        ("run dir --command x", "--command belongs to --image"),
        ("run --image x --port 80", "--port belongs to --interface http"),
        ("run dir --memory lots", "not a size"),
        ("run dir --memory 0", "must be more than 0"),
        ("run dir --time-limit soon", "not a duration"),
        ("run dir --pids 1", "--pids"),
        ("run dir --cpus 0", "--cpus"),
        ("run dir --fail-under 101", "--fail-under"),
        ("run dir -n 0", "--concurrency"),
    ],
)
def test_options_that_cannot_be(
    agenttrace: Agenttrace, bootstrap: FakeBootstrap, line: str, complaint: str
) -> None:
    shown = agenttrace(*line.split())
    assert shown.code == 2
    assert complaint in shown.err
    assert not bootstrap.calls


def test_a_command_that_no_shell_could_split(
    agenttrace: Agenttrace, bootstrap: FakeBootstrap
) -> None:
    shown = agenttrace("run", "--image", "x", "--command", "say 'hello")
    assert shown.code == 2
    assert "No closing quotation" in shown.err


@pytest.mark.parametrize(
    ("options", "complaint", "hint"),
    [
        ("-c reasonning", "there is no category 'reasonning'", "did you mean reasoning"),
        ("-c xyz", "there is no category 'xyz'", "categories: reasoning, tool_use"),
        ("-t reasoning-01", "no task that fits 'reasoning-01'", "reasoning-001"),
        ("-t trip", "no task that fits 'trip'", "did you mean plan-trip?"),
        ("-t zzz*", "no task that fits 'zzz*'", "tasks: reasoning-001"),
        ("-c planning -t reasoning-001", "no task of category planning fits", "--category"),
        ("-c robustness", "has no task of category robustness", "suite show starter"),
    ],
)
def test_a_mistyped_selection_names_what_is_near(
    agenttrace: Agenttrace, bootstrap: FakeBootstrap, options: str, complaint: str, hint: str
) -> None:
    shown = agenttrace("run", "dir", *options.split())
    assert shown.code == 2
    error, following = shown.err.splitlines()
    assert complaint in error
    assert hint in following
    assert [name for name, _, _ in bootstrap.calls if name == "run"] == []


def test_json_is_one_execution_and_harmless_on_a_terminal(
    agenttrace: Agenttrace, bootstrap: FakeBootstrap
) -> None:
    shown = agenttrace("run", "dir", "--json")
    data = json.loads(shown.out)
    [task] = data["category_executions"]["reasoning"]["task_executions"]
    assert task["output"] == "\x1b]0;owned\x07\u202e"
    assert shown.out.isascii()
    assert "\x1b" not in shown.out
    assert "evidence: runs/r1" in shown.err


@pytest.mark.parametrize(("threshold", "code"), [("0", 0), ("0.1", 1), ("100", 1)])
def test_fail_under(
    agenttrace: Agenttrace, bootstrap: FakeBootstrap, threshold: str, code: int
) -> None:
    shown = agenttrace("run", "dir", "--fail-under", threshold)
    assert shown.code == code
    assert "0.0" in shown.out
    assert ("below --fail-under" in shown.err) == (code == 1)


@pytest.mark.parametrize("reason", list(FailureReason))
def test_only_a_failure_of_ours_is_infrastructure(
    agenttrace: Agenttrace, bootstrap: FakeBootstrap, tmp_path: Path, reason: FailureReason
) -> None:
    bootstrap.answers["run"] = (execution(reason, "why \x1b"), tmp_path)
    shown = agenttrace("run", "dir", "--fail-under", "50")
    assert shown.code == (3 if reason is FailureReason.INTERNAL_ERROR else 1)
    assert "\x1b" not in shown.err


def test_an_interrupted_run_shows_what_it_has(
    agenttrace: Agenttrace, bootstrap: FakeBootstrap, tmp_path: Path
) -> None:
    bootstrap.answers["run"] = Interrupted(
        "stopped by you", remedy="run it again", execution=execution(), path=tmp_path / "runs/r1"
    )
    shown = agenttrace("run", "dir")
    assert shown.code == 130
    assert "0.0" in shown.out
    assert "error: stopped by you\nnext: run it again\n" in shown.err


def test_an_interrupt_before_anything_was_run(
    agenttrace: Agenttrace, bootstrap: FakeBootstrap
) -> None:
    bootstrap.answers["run"] = Interrupted("stopped by you")
    shown = agenttrace("run", "dir")
    assert (shown.code, shown.out) == (130, "")


@pytest.fixture
def plan() -> RunPlan:
    return RunPlan(
        run_id="r1",
        submission=BenchmarkSubmission(
            agent_name="echo",
            agent_version="1.0.0",
            agent_endpoint=AgentEndpoint(endpoint_type="local", module_path="a", function_name="f"),
        ),
        suite=SUITE,
        tasks=SUITE.tasks[:2],
        seed=7,
        limits=Limits(),
        image=Image(
            image_id="sha256:aa",
            reference="x",
            interface=FunctionInterface(module="a", function="f"),
        ),
        started_at=NOW,
    )


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_dry_run_runs_nothing_and_tells_no_answer(
    agenttrace: Agenttrace, bootstrap: FakeBootstrap, plan: RunPlan, form: list[str]
) -> None:
    bootstrap.answers["prepare_run"] = plan
    shown = agenttrace("run", "dir", "--dry-run", "--memory", "1GiB", *form)
    assert shown.code == 0
    assert {name for name, _, _ in bootstrap.calls} == {"catalog", "prepare_run"}
    assert "the-secret-answer" not in shown.out
    if form:
        data = json.loads(shown.out)
        assert data["tasks"] == ["reasoning-001", "reasoning-002"]
        assert data["overrides"] == {"memory_bytes": 1024**3}
    else:
        assert "  reasoning-002\n" in shown.out
        assert "memory_bytes 1073741824" in shown.out


# -- runs, trace, suite --------------------------------------------------------------------------


def test_runs_and_traces_of_an_empty_directory(agenttrace: Agenttrace) -> None:
    assert agenttrace("runs", "list").code == 0
    assert json.loads(agenttrace("runs", "list", "--json").out) == []
    for line in ("runs show nope", "trace show nope reasoning-001"):
        shown = agenttrace(*line.split())
        assert shown.code == 2
        assert "there is no run 'nope' in runs" in shown.err


def test_suites(agenttrace: Agenttrace, bootstrap: FakeBootstrap) -> None:
    assert "starter" in agenttrace("suite", "list").out
    [heading] = json.loads(agenttrace("suite", "list", "--json").out)
    assert heading["task_count"] == 3
    assert "plan-trip" in agenttrace("suite", "show").out


def test_showing_a_suite_tells_no_answer(agenttrace: Agenttrace, bootstrap: FakeBootstrap) -> None:
    as_data = agenttrace("suite", "show", "starter", "--json").out
    assert [task["task_id"] for task in json.loads(as_data)["tasks"]][2] == "plan-trip"
    assert "the-secret-answer" not in as_data + agenttrace("suite", "show", "starter").out


# -- setup, doctor -------------------------------------------------------------------------------


def test_setup_says_what_it_does_on_stderr(
    agenttrace: Agenttrace, bootstrap: FakeBootstrap
) -> None:
    def set_up(_settings: Any, say: Callable[[str], None]) -> SimpleNamespace:
        say("pulling \x1b base")
        return SimpleNamespace(
            engine="unix:///x", base_image="b", shim_image="s", shim_volume="v", seconds=1.25
        )

    bootstrap.answers["set_up"] = set_up
    shown = agenttrace("setup")
    assert shown.code == 0
    assert shown.err == "pulling \\x1b base\n"
    assert "engine       unix:///x\n" in shown.out
    assert json.loads(agenttrace("setup", "--json").out)["seconds"] == 1.25


def check(**given: Any) -> SimpleNamespace:
    values = {"name": "memory", "ok": True, "required": True, "promised": "512", "found": "512"}
    return SimpleNamespace(**(values | {"remedy": ""} | given))


def test_a_healthy_host(agenttrace: Agenttrace, bootstrap: FakeBootstrap) -> None:
    checks = [check(), check(name="userns", ok=None, required=False, found="[red]?\x1b")]
    bootstrap.answers["doctor"] = SimpleNamespace(checks=checks, healthy=True)
    shown = agenttrace("doctor")
    assert shown.code == 0
    assert "keeps what its profile promises" in shown.out
    assert "[red]?\\x1b" in shown.out
    data = json.loads(agenttrace("doctor", "--json").out)
    assert data["healthy"] is True
    assert data["checks"][1] == vars(checks[1])


def test_a_host_that_lacks_something(agenttrace: Agenttrace, bootstrap: FakeBootstrap) -> None:
    checks = [check(name="swap", ok=False, remedy="boot with swapaccount=1")]
    bootstrap.answers["doctor"] = SimpleNamespace(checks=checks, healthy=False)
    shown = agenttrace("doctor")
    assert shown.code == 3
    assert "missing" in shown.out
    assert "swap: boot with swapaccount=1" in shown.out
    as_data = agenttrace("doctor", "--json")
    assert as_data.code == 3
    assert json.loads(as_data.out)["healthy"] is False


# -- config --------------------------------------------------------------------------------------


def test_config_show(agenttrace: Agenttrace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTTRACE_LIMITS__PIDS", "99")
    shown = agenttrace("config", "show")
    assert shown.code == 0
    assert "limits.pids = 99\n" in shown.out
    assert 'run.suite = "starter"\n' in shown.out
    table = agenttrace("config", "show", "--origin", "limits.pids", "run")
    rows = [line.split() for line in table.out.splitlines()]
    assert rows[0] == ["SETTING", "VALUE", "ORIGIN"]
    assert ["limits.pids", "99", "env", "AGENTTRACE_LIMITS__PIDS"] in rows
    assert ["run.suite", '"starter"', "default"] in rows
    assert "sandbox" not in table.out


def test_config_show_as_data(agenttrace: Agenttrace) -> None:
    data = json.loads(agenttrace("config", "show", "--json").out)
    assert data["limits.memory_bytes"] == 512 * 1024**2
    both = json.loads(
        agenttrace("config", "show", "--json", "--origin", "--profile", "competition").out
    )
    assert both["run.parallelism"] == {"value": 1, "origin": "profile competition"}


def test_config_show_of_what_is_no_setting(agenttrace: Agenttrace) -> None:
    shown = agenttrace("config", "show", "limits.pid")
    assert shown.code == 2
    assert "did you mean limits.pids?" in shown.err


# -- completion ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["zsh", "fish", "bash"])
def test_completion_prints_the_script_and_says_how_to_install_it(
    agenttrace: Agenttrace, shell: str
) -> None:
    shown = agenttrace("completion", shell)
    assert shown.code == 0
    assert "_AGENTTRACE_COMPLETE" in shown.out
    assert f"{shell}_complete" in shown.out
    assert f"agenttrace completion {shell} > " in shown.err


def test_completion_completes(
    agenttrace: Agenttrace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_AGENTTRACE_COMPLETE", "zsh_complete")
    monkeypatch.setenv("COMP_WORDS", "agenttrace run -c pla")
    monkeypatch.setenv("COMP_CWORD", "3")
    with pytest.raises(SystemExit):
        agenttrace()
    assert "planning" in capsys.readouterr().out
