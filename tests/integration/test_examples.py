"""What a newcomer runs first, on a real engine and through the public Python API."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from runner import (
    BenchmarkCategory,
    BenchmarkExecution,
    ExecutionStatus,
    FailureReason,
    TaskExecution,
    TaskExecutor,
    load_submission,
)
from runner.config import Settings, load_settings

EXAMPLES = Path(__file__).parents[2] / "examples"

Run = Callable[..., BenchmarkExecution]


@pytest.fixture
def settings(tmp_path: Path, no_agenttrace_environment: None) -> Settings:
    """The shipped ones, with everything that is written below `tmp_path`."""
    loaded = load_settings({}, cwd=tmp_path, environ={})
    storage = loaded.settings.storage.model_copy(update={"runs_dir": tmp_path / "runs"})
    return loaded.settings.model_copy(update={"storage": storage})


@pytest.fixture
def run(settings: Settings) -> Run:
    def benchmark(example: str, **limits: float) -> BenchmarkExecution:
        chosen = settings.model_copy(update={"limits": settings.limits.model_copy(update=limits)})
        executor = TaskExecutor(enable_retries=False, settings=chosen)
        submission = load_submission(str(EXAMPLES / example))
        return asyncio.run(executor.execute_benchmark(submission, parallelism=2))

    return benchmark


def by_task(execution: BenchmarkExecution) -> dict[str, TaskExecution]:
    return {one.task_id: one for one in execution.task_executions}


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.parametrize("example", ["rule_based", "rule_based_docker"])
def test_rules_solve_part_of_the_starter_suite(run: Run, example: str) -> None:
    execution = run(example)
    assert execution.status is ExecutionStatus.COMPLETED
    assert 35 <= execution.overall_score <= 65
    assert set(execution.category_executions) == set(BenchmarkCategory)
    assert {one.status for one in execution.task_executions} == {ExecutionStatus.COMPLETED}
    assert by_task(execution)["reasoning-dates-01"].output == "109"


@pytest.mark.docker
def test_another_language(settings: Settings) -> None:
    tasks = category(settings, "perl", BenchmarkCategory.REASONING)
    solved = {name for name, one in tasks.items() if one.normalized_score == 100}
    assert {"reasoning-arithmetic-02", "reasoning-units-01", "reasoning-dates-01"} <= solved


@pytest.mark.docker
def test_a_server(settings: Settings) -> None:
    tasks = category(settings, "http_server", BenchmarkCategory.GROUNDING)
    solved = {name for name, one in tasks.items() if one.normalized_score == 100}
    assert solved == {"grounding-json-01", "grounding-json-02"}


def category(
    settings: Settings, example: str, chosen: BenchmarkCategory
) -> dict[str, TaskExecution]:
    """The tasks of one category by name; all of them were answered."""
    executor = TaskExecutor(enable_retries=False, settings=settings)
    submission = load_submission(str(EXAMPLES / example))
    execution = asyncio.run(executor.execute_category(submission, chosen, parallelism=2))
    assert {one.status for one in execution.task_executions} == {ExecutionStatus.COMPLETED}
    return {one.task_id: one for one in execution.task_executions}


@pytest.mark.docker
@pytest.mark.adversarial
@pytest.mark.slow
def test_misbehaviour_is_named_and_earns_nothing(run: Run) -> None:
    tasks = by_task(run("misbehaves", time_seconds=2.0, memory_bytes=128 << 20, pids=64))
    reasons = {
        "robustness-letters-01": FailureReason.AGENT_ERROR,
        "efficiency-sort-01": FailureReason.MEMORY_EXCEEDED,
        "reasoning-units-01": FailureReason.AGENT_TIMEOUT,
        "reasoning-dates-02": FailureReason.PIDS_EXCEEDED,
        "planning-route-01": FailureReason.DISK_EXCEEDED,
    }
    assert {name: tasks[name].failure_reason for name in reasons} == reasons
    assert tasks["robustness-reverse-01"].output_truncated
    assert tasks["reasoning-dates-01"].output == "nobody is out there"
    assert Counter(one.normalized_score for one in tasks.values()) == {0.0: len(tasks)}
    assert all(one.agent_confirmed_dead for one in tasks.values())
    assert FailureReason.INTERNAL_ERROR not in {one.failure_reason for one in tasks.values()}


@pytest.mark.docker
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("python_api.py", ("reasoning: ", "overall: ")),
        ("queue_and_workers.py", ("11 checks", "100.0%", "1 finished, 0 failed, 0 workers left")),
    ],
)
def test_the_python_api_as_shown(
    tmp_path: Path, no_agenttrace_environment: None, script: str, said: tuple[str, ...]
) -> None:
    made = subprocess.run(
        [sys.executable, str(EXAMPLES / script), str(EXAMPLES / "rule_based")],
        cwd=tmp_path,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    assert [line for line in said if line not in made.stdout] == []
    runs = sorted((tmp_path / "runs").iterdir())
    assert [json.loads((run / "execution.json").read_text())["status"] for run in runs[-1:]] == [
        "completed"
    ]


def test_both_rule_based_agents_are_the_same() -> None:
    source = (EXAMPLES / "rule_based/agent.py").read_text()
    assert (EXAMPLES / "rule_based_docker/agent.py").read_text() == source


def test_the_rules_know_no_task(tmp_path: Path) -> None:
    """The rules read questions: no name of a task and no long number of a key is among them."""
    source = (EXAMPLES / "rule_based/agent.py").read_text()
    for word in ("task_id", "starter", "arithmetic-01", "109", "25114", "525567", "476133"):
        assert word not in source


def test_each_example_is_in_the_table(tmp_path: Path) -> None:
    table = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.iterdir():
        assert path.name in table or path.name == "README.md"
        if path.is_dir():
            shutil.copytree(path, tmp_path / path.name)
            load_submission(str(tmp_path / path.name))
