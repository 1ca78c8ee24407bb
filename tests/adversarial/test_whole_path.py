"""Hostile agents through the public API: judged once, recorded whole, never retried."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from runner import (
    AgentEndpoint,
    BenchmarkCategory,
    BenchmarkSubmission,
    FailureReason,
    TaskExecutor,
)
from runner.config import load_settings
from tests.adversarial.expectation import HERE, SMALL, load
from tests.adversarial.host import Host

pytestmark = [pytest.mark.docker, pytest.mark.adversarial]

SUITE = """
[[task]]
task_id = "one"
name = "one"
prompt = "What is 6 * 7?"
[[task.criteria]]
scorer = "exact"
expected = "42"
"""
DOCKERFILE = """
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE}
COPY agent.py /agent.py
"""


@pytest.mark.parametrize(
    ("name", "score"),
    [
        ("memory", 0),
        pytest.param("fork_bomb", 0, marks=pytest.mark.slow),
        ("forged_frame", 0),
        ("daemon", 100),
    ],
)
def test_whole_path(name: str, score: int, tmp_path: Path, no_agenttrace_environment: None) -> None:
    expected, before = load(HERE / name), Host.now()
    executor = TaskExecutor(
        suite=str(make_suite(tmp_path)), settings=settings(tmp_path, dict(expected.limits))
    )
    execution = asyncio.run(
        executor.execute_category(submission(tmp_path, name), BenchmarkCategory.REASONING)
    )
    (made,) = execution.task_executions
    assert made.status in expected.statuses
    assert (made.failure_reason or "") in (expected.failure_reasons or ("",))
    assert made.attempt == 1
    assert made.normalized_score == score
    assert Host.now().lost_since(before) == []
    assert executor.last_run
    attempts = sorted((executor.last_run / "tasks/one").iterdir())
    assert [path.name for path in attempts] == ["1-1"]
    record = json.loads((attempts[0] / "execution.json").read_text())
    assert record["failure_reason"] != FailureReason.INTERNAL_ERROR
    assert record["status"] == made.status
    assert (attempts[0] / "trace.otlp.jsonl").stat().st_size > 0


def make_suite(directory: Path) -> Path:
    suite = directory / "suite"
    suite.mkdir()
    (suite / "suite.toml").write_text('format = 1\nname = "one"\nversion = "1"\n')
    (suite / "reasoning.toml").write_text(SUITE)
    return suite


def settings(directory: Path, limits: dict[str, object]) -> object:
    """The shipped ones under the folder's limits, writing below `directory`."""
    given = load_settings({}, cwd=directory, environ={}).settings
    return given.model_copy(
        update={
            "storage": given.storage.model_copy(update={"runs_dir": directory / "runs"}),
            "limits": given.limits.model_copy(update=SMALL | limits),
        }
    )


def submission(directory: Path, name: str) -> BenchmarkSubmission:
    """The folder's agent in a Dockerfile of its own."""
    source = directory / "submission"
    source.mkdir()
    shutil.copy(HERE / name / "agent.py", source)
    (source / "Dockerfile").write_text(DOCKERFILE)
    return BenchmarkSubmission(
        agent_name=name,
        agent_version="1.0.0",
        agent_endpoint=AgentEndpoint(
            endpoint_type="container",
            source=source,
            dockerfile="Dockerfile",
            interface="stdio",
            command=("python3", "-u", "/agent.py"),
        ),
    )
