"""`agenttrace replay`: what is asked for, what is shown, and the exit code that says it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.bootstrap.replaying import Replay, ReplayedTask, side_by_side
from runner.domain import Divergence
from runner.errors import UsageError

from .conftest import FakeBootstrap, Outcome, execution

Agenttrace = Callable[..., Outcome]

DIVERGENCE = Divergence(
    number=2,
    recorded={"body": {"messages": ["It is noon"]}},
    requested={"body": {"messages": ["It is \x1b[31mlate"]}},
)


def replayed(tmp_path: Path, *differences: str, divergence: Divergence | None = None) -> Replay:
    """Of one task."""
    run = execution().model_copy(update={"run_id": "r2", "replay_of": "r1"})
    [original] = execution().task_executions
    task = ReplayedTask(
        original=original,
        replayed=original.model_copy(update={"divergence": divergence}),
        differences=differences,
    )
    return Replay(tasks=(task,), execution=run, path=tmp_path / "runs/r2")


@pytest.fixture
def replaying(
    bootstrap: FakeBootstrap, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> FakeBootstrap:
    module: Any = sys.modules["runner.bootstrap"]
    monkeypatch.setattr(module, "replay", bootstrap.answer("replay"), raising=False)
    monkeypatch.setattr(module, "side_by_side", side_by_side, raising=False)
    bootstrap.answers["replay"] = replayed(tmp_path)
    return bootstrap


def test_an_identical_one(agenttrace: Agenttrace, replaying: FakeBootstrap) -> None:
    shown = agenttrace("replay", "r1")
    assert (shown.code, shown.err) == (0, "")
    assert "1 of 1 identical to run r1" in shown.out
    assert shown.out.splitlines()[-1].startswith("evidence of the replay: ")
    [(_, (settings, run, tasks, observers, _say), _named)] = replaying.calls
    assert (run, tasks, len(observers)) == ("r1", (), 1)
    assert settings.storage.runs_dir == Path("runs")


def test_options(agenttrace: Agenttrace, replaying: FakeBootstrap) -> None:
    shown = agenttrace("replay", "r1", "-t", "a*", "--task", "b", "-o", "elsewhere", "-q")
    assert shown.code == 0
    [(_, (settings, _run, tasks, _observers, _say), _named)] = replaying.calls
    assert tasks == ("a*", "b")
    assert settings.storage.runs_dir == Path("elsewhere")


def test_a_difference_is_told_and_is_the_exit_code(
    agenttrace: Agenttrace, replaying: FakeBootstrap, tmp_path: Path
) -> None:
    replaying.answers["replay"] = replayed(tmp_path, "output: '42' != '41'")
    shown = agenttrace("replay", "r1")
    assert shown.code == 1
    assert "different" in shown.out
    assert "output: '42' != '41'" in shown.out


def test_a_divergence_is_shown_side_by_side_and_inert(
    agenttrace: Agenttrace, replaying: FakeBootstrap, tmp_path: Path
) -> None:
    replaying.answers["replay"] = replayed(tmp_path, divergence=DIVERGENCE)
    shown = agenttrace("replay", "r1")
    assert shown.code == 1
    assert "diverged at call 2" in shown.out
    [line] = [line for line in shown.out.splitlines() if "It is noon" in line]
    assert r"It is \u001b[31mlate" in line
    assert "\x1b" not in shown.out


def test_as_data(agenttrace: Agenttrace, replaying: FakeBootstrap, tmp_path: Path) -> None:
    replaying.answers["replay"] = replayed(tmp_path, divergence=DIVERGENCE)
    shown = agenttrace("replay", "r1", "--json")
    assert shown.code == 1
    data = json.loads(shown.out)
    assert (data["replay_of"], data["run_id"], data["identical"]) == ("r1", "r2", False)
    [task] = data["tasks"]
    assert task["divergence"] == DIVERGENCE.model_dump(mode="json")
    assert (task["identical"], task["differences"]) == (False, [])


def test_what_cannot_be_replayed(agenttrace: Agenttrace, replaying: FakeBootstrap) -> None:
    replaying.answers["replay"] = UsageError("not recorded", remedy="record it")
    shown = agenttrace("replay", "r1")
    assert (shown.code, shown.out) == (2, "")
    assert shown.err.splitlines()[-2:] == ["error: not recorded", "next: record it"]
