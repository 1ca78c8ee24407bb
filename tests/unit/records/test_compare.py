"""Two runs beside each other: what differs is named, and only what counts makes them different."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runner.domain import ExecutionStatus, Limits, TaskExecution
from runner.domain.comparison import CallDivergence, Change
from runner.errors import UsageError
from runner.records import EnvironmentSnapshot, RunDirectory
from runner.records.compare import compare_runs
from tests.unit.records.calls import calling, model_call
from tests.unit.records.nouns import benchmark, plan, reply


def made(root: Path, run_id: str, *attempts: TaskExecution, **changes: Any) -> None:
    directory = RunDirectory(root, run_id)
    directory.begin(plan(run_id).model_copy(update=changes))
    given = attempts or (calling(),)
    for each in given:
        own = each.model_copy(update={"run_id": run_id})
        directory.keep(own, reply(), directory.staging())
    directory.finish(benchmark(*given, run_id=run_id))


def test_the_same_twice(tmp_path: Path) -> None:
    made(tmp_path, "one")
    made(tmp_path, "two")
    found = compare_runs(tmp_path, "one", "two")
    assert found.same
    assert (found.plan, found.suite, found.image, found.limits, found.settings) == ((),) * 5
    assert found.environment == ()
    assert found.score_left == found.score_right == 75.0
    [task] = found.tasks
    assert task.same
    assert task.divergence is None


def test_what_was_asked_and_where(tmp_path: Path) -> None:
    made(
        tmp_path,
        "one",
        settings={"gateway": {"retries": 4}, "old": 1},
        environment={"kernel": "6.1", "captured_at": "1", "packages": {"a": "1", "b": "1"}},
    )
    made(
        tmp_path,
        "two",
        settings={"gateway": {"retries": 5}},
        environment={
            "kernel": "6.2",
            "captured_at": "2",
            "limits": {"cpus": 2},
            "packages": {"b": "2", "c": "3"},
        },
        limits=Limits(cpus=2.0),
        seed=8,
    )
    found = compare_runs(tmp_path, "one", "two")
    assert found.settings == (
        Change(path="gateway.retries", left="4", right="5"),
        Change(path="old", left="1", right=""),
    )
    assert found.environment == (Change(path="kernel", left="'6.1'", right="'6.2'"),)
    assert found.packages.added == ("c 3",)
    assert found.packages.removed == ("a 1",)
    assert found.packages.changed == ("b 1 -> 2",)
    assert found.limits == (Change(path="cpus", left="1.0", right="2.0"),)
    assert found.plan == (Change(path="seed", left="7", right="8"),)
    assert found.same, "none of this is a result"


@pytest.mark.parametrize(
    "changes",
    [{"output": "41"}, {"status": ExecutionStatus.TIMEOUT}, {"score": None}],
)
def test_what_counts(tmp_path: Path, changes: dict[str, Any]) -> None:
    made(tmp_path, "one")
    made(tmp_path, "two", calling(**changes))
    found = compare_runs(tmp_path, "one", "two")
    assert not found.same
    assert json.loads(found.model_dump_json())["tasks"][0]["same"] is False


def test_the_last_attempts_count(tmp_path: Path) -> None:
    made(tmp_path, "one", calling(output="broken"), calling(attempt=2))
    made(tmp_path, "two")
    assert compare_runs(tmp_path, "one", "two").same


def test_a_task_that_one_has_not(tmp_path: Path) -> None:
    made(tmp_path, "one", calling(), calling(task_id="more", repeat=2))
    made(tmp_path, "two")
    found = compare_runs(tmp_path, "one", "two")
    more = next(task for task in found.tasks if task.task_id == "more")
    assert not found.same
    assert more.left is not None
    assert (more.repeat, more.right, more.same_output) == (2, None, False)


def test_the_first_call_that_differs(tmp_path: Path) -> None:
    made(tmp_path, "one")
    made(tmp_path, "two", calling(model_calls=(model_call(1), model_call(3, digest="ff"))))
    made(tmp_path, "three", calling(tool_calls=(), model_calls=(model_call(1),)))
    [task] = compare_runs(tmp_path, "one", "two").tasks
    assert task.same, "it came to the same"
    assert task.divergence == CallDivergence(
        position=3, left=f"gpt-4o-mini {3:064x} 200", right="gpt-4o-mini ff 200"
    )
    [task] = compare_runs(tmp_path, "one", "three").tasks
    assert task.divergence == CallDivergence(
        position=2, left=f"calculator {2:064x} succeeded", right=""
    )


def test_runs_that_are_unfinished_or_damaged_can_be_compared(tmp_path: Path) -> None:
    made(tmp_path, "one")
    made(tmp_path, "two")
    for name in ("execution.json", "config.json", "lock.json"):
        (tmp_path / "two" / name).unlink()
    found = compare_runs(tmp_path, "one", "two")
    assert found.score_right is None
    assert found.same
    with pytest.raises(UsageError, match="no run 'three'"):
        compare_runs(tmp_path, "one", "three")


def test_a_snapshot_says_what_was_run() -> None:
    asked = plan()
    snapshot = EnvironmentSnapshot.capture(
        7, image=asked.image, limits=asked.limits, suite=asked.suite
    )
    assert snapshot.image_digest == "sha256:cd"
    assert snapshot.limits["memory_bytes"] == Limits().memory_bytes
    assert (snapshot.benchmark, snapshot.benchmark_version) == ("starter", "1.0.0")
    assert snapshot.benchmark_digest == "sha256:ab"
    assert snapshot.cgroup_version in (1, 2, None)
    older = snapshot.model_dump(
        mode="json", exclude={"cgroup_version", "image_digest", "limits", "benchmark"}
    )
    assert EnvironmentSnapshot.model_validate(older).image_digest == ""
