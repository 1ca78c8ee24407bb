"""A result is reused only where nothing that matters differs, and its evidence is as it was."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.domain import (
    AnswerKey,
    BenchmarkTask,
    ExactCriterion,
    ExecutionStatus,
    FailureReason,
    FunctionInterface,
    Limits,
    RunPlan,
    TaskExecution,
)
from runner.domain.gateway import Divergence
from runner.records import RunDirectory, reuse
from runner.records.reuse import ResultCache, key_of
from tests.unit.records.calls import model_call, tool_call
from tests.unit.records.nouns import RUN_ID, execution, plan, reply, task

LIMITS = Limits()
Change = Callable[[RunPlan], RunPlan]


def key(made: RunPlan | None = None, which: BenchmarkTask | None = None, **changes: Any) -> str:
    made = made or plan()
    arguments: dict[str, Any] = {"limits": LIMITS, "repeat": 1}
    arguments |= changes
    limits, repeat = arguments.pop("limits"), arguments.pop("repeat")
    return key_of(made, which or made.tasks[0], limits, repeat, **arguments)


# -- the key -------------------------------------------------------------------------------------


def test_a_key_is_the_same_in_another_process() -> None:
    code = (
        "from tests.unit.records.test_reuse import key, plan, settled;"
        "print(key(settled(plan(), {'gateway.models': ['a', 'b'], 'sandbox.cpu_mode': 'quota'})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    settings = {"sandbox.cpu_mode": "quota", "gateway.models": ["a", "b"]}  # in another order
    assert done.stdout.strip() == key(settled(plan(), settings))


def settled(made: RunPlan, settings: dict[str, Any]) -> RunPlan:
    return made.model_copy(update={"settings": settings})


def of_image(made: RunPlan, **changes: Any) -> RunPlan:
    assert made.image
    return made.model_copy(update={"image": made.image.model_copy(update=changes)})


@pytest.mark.parametrize(
    "change",
    [
        lambda made: of_image(made, image_id="sha256:other"),
        lambda made: of_image(made, content_digest="sha256:content"),
        lambda made: of_image(made, environment=("A=1",)),
        lambda made: of_image(made, interface=FunctionInterface(module="m", function="g")),
        lambda made: made.model_copy(update={"seed": 8}),
        lambda made: made.model_copy(
            update={"suite": made.suite.model_copy(update={"version": "2"})}
        ),
        lambda made: settled(made, {"gateway.models": ["openai/*"]}),
        lambda made: settled(made, {"sandbox.output_policy": "fail"}),
        lambda made: settled(made, {"engine.runtime": "runsc"}),
    ],
)
def test_what_the_run_is_made_with_is_in_the_key(change: Change) -> None:
    assert key(change(plan())) != key()


@pytest.mark.parametrize(
    "change",
    [
        lambda made: made.model_copy(update={"run_id": "another", "parallelism": 9}),
        lambda made: made.model_copy(update={"repeats": 5, "environment": {"kernel": "x"}}),
        lambda made: made.model_copy(
            update={"suite": made.suite.model_copy(update={"digest": "sha256:one-task-more"})}
        ),
        lambda made: settled(made, {"gateway.record": False, "run.parallelism": 9, "log.level": 1}),
    ],
)
def test_what_changes_no_result_is_not(change: Change) -> None:
    assert key(change(plan())) == key()


def test_an_image_that_was_built_again_of_the_same_content_is_the_same() -> None:
    built = of_image(plan(), content_digest="sha256:content")
    assert key(of_image(built, image_id="sha256:again")) == key(built)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "2"},
        {"token_budget": 100},
        {"cost_budget_usd": 1.0},
        {"tool_setups": {"clock": {"now": "2026-03-14T09:26:00Z"}}},
        {"answer_key": AnswerKey(criteria=(ExactCriterion(expected="another"),))},
        {"prompt": task().prompt.model_copy(update={"text": "And now?"})},
        {"prompt": task().prompt.model_copy(update={"tools": ("calculator",)})},
    ],
)
def test_all_of_the_task_is_in_the_key(changes: dict[str, Any]) -> None:
    assert key(which=task().model_copy(update=changes)) != key()


@pytest.mark.parametrize(
    "changes",
    [{"limits": Limits(pids=99)}, {"repeat": 2}, {"script": "sha256:rules"}],
)
def test_limits_repeat_and_rules_are_in_the_key(changes: dict[str, Any]) -> None:
    assert key(**changes) != key()


def test_another_version_of_the_runner_has_other_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key()
    monkeypatch.setattr(reuse, "runner_version", lambda: "99.0")
    assert key() != before


def test_what_nothing_pins_has_no_key(tmp_path: Path) -> None:
    remote = plan().model_copy(update={"image": None})
    replayed = plan().model_copy(update={"replay_of": "r0"})
    assert (key(remote), key(replayed)) == ("", "")
    cache = ResultCache(tmp_path / "results")
    assert not cache.remember("", execution(), tmp_path)
    assert cache.find("") is None


def test_the_answer_key_cannot_be_read_from_a_key() -> None:
    assert len(key()) == 64
    assert set(key()) <= set("0123456789abcdef")


# -- the cache -----------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path) -> ResultCache:
    return ResultCache(tmp_path / "state/results")


def kept(root: Path, **changes: Any) -> tuple[TaskExecution, Path]:
    directory = RunDirectory(root / "runs", RUN_ID)
    directory.begin(plan())
    made = execution(**changes)
    path = directory.keep(made, reply(), directory.staging())
    directory.close()
    return made, path


def test_what_is_remembered_is_found_with_its_evidence(cache: ResultCache, tmp_path: Path) -> None:
    made, path = kept(tmp_path)
    assert cache.remember(key(), made, path)
    found = ResultCache(tmp_path / "state/results").find(key())
    assert found
    assert found.execution.model_copy(update={"trace_id": ""}) == made
    assert (found.attempt, found.run) == (path, tmp_path / "runs" / RUN_ID)
    assert cache.find(key(repeat=2)) is None


def test_a_failure_of_the_agents_is_a_result(cache: ResultCache, tmp_path: Path) -> None:
    reason = {"status": ExecutionStatus.TIMEOUT, "failure_reason": FailureReason.AGENT_TIMEOUT}
    assert cache.remember(key(), *kept(tmp_path, score=None, **reason))


@pytest.mark.parametrize(
    "changes",
    [
        {"status": ExecutionStatus.FAILED, "failure_reason": FailureReason.INTERNAL_ERROR},
        {"status": ExecutionStatus.FAILED, "failure_reason": FailureReason.AGENT_UNREACHABLE},
        {"status": ExecutionStatus.CANCELLED},
        {"reused_from": "r0"},
        {"model_calls": (model_call(cached=True),)},
        {"tool_calls": (tool_call(cached=True),)},
        {"divergence": Divergence(number=1, recorded=None, requested={})},
    ],
)
def test_only_what_was_made_and_judged_is_remembered(
    cache: ResultCache, tmp_path: Path, changes: dict[str, Any]
) -> None:
    assert not cache.remember(key(), *kept(tmp_path, **changes))
    assert cache.find(key()) is None


def test_a_call_that_was_really_made_is_no_obstacle(cache: ResultCache, tmp_path: Path) -> None:
    assert cache.remember(key(), *kept(tmp_path, model_calls=(model_call(),)))


def test_a_run_that_was_removed_is_no_hit(cache: ResultCache, tmp_path: Path) -> None:
    made, path = kept(tmp_path)
    cache.remember(key(), made, path)
    (tmp_path / "runs" / RUN_ID).rename(tmp_path / "runs/.removing-it")
    assert cache.find(key()) is None


def test_evidence_that_was_changed_is_no_hit(cache: ResultCache, tmp_path: Path) -> None:
    made, path = kept(tmp_path)
    cache.remember(key(), made, path)
    record = path / "execution.json"
    record.write_bytes(record.read_bytes().replace(b'"output": "42"', b'"output": "43"'))
    assert cache.find(key()) is None


@pytest.mark.parametrize("damage", [b"", b"{}", b"null", b"\xff", b'{"attempt": "/etc"}'])
def test_a_damaged_entry_is_no_hit(cache: ResultCache, tmp_path: Path, damage: bytes) -> None:
    made, path = kept(tmp_path)
    cache.remember(key(), made, path)
    [entry] = (tmp_path / "state/results").rglob("*.json")
    entry.write_bytes(damage)
    assert cache.find(key()) is None
    assert cache.remember(key(), made, path)  # and is put right
    assert cache.find(key())


@pytest.mark.parametrize("wrong", ["../../etc/passwd", "A" * 64, "a" * 63, "", "\0"])
def test_what_is_no_key_leads_nowhere(cache: ResultCache, tmp_path: Path, wrong: str) -> None:
    made, path = kept(tmp_path)
    assert not cache.remember(wrong, made, path)
    assert cache.find(wrong) is None
    assert not (tmp_path / "state").exists()


def test_a_cache_that_cannot_be_written_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    made, path = kept(tmp_path)
    assert not ResultCache(tmp_path / "file/results").remember(key(), made, path)


def test_an_attempt_without_a_record_is_not_remembered(cache: ResultCache, tmp_path: Path) -> None:
    made, path = kept(tmp_path)
    (path / "execution.json").unlink()
    assert not cache.remember(key(), made, path)


def test_many_processes_at_one_key(cache: ResultCache, tmp_path: Path) -> None:
    _, path = kept(tmp_path)
    code = (
        "import sys; from pathlib import Path;"
        "from runner.records.reuse import ResultCache;"
        "from runner.domain import TaskExecution;"
        "cache, path = ResultCache(Path(sys.argv[1])), Path(sys.argv[2]);"
        "made = TaskExecution.model_validate_json((path / 'execution.json').read_bytes());"
        "assert all(cache.remember(sys.argv[3], made, path) and cache.find(sys.argv[3])"
        " for _ in range(200))"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "state/results"), str(path), key()]
    writers = [subprocess.Popen(arguments) for _ in range(3)]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0, 0]
    assert cache.find(key())
    files = [each for each in (tmp_path / "state/results").rglob("*") if each.is_file()]
    assert len(files) == 1
