from __future__ import annotations

import subprocess
import sys
import time

import pytest
from pydantic import ValidationError

from runner.records import DeterministicTaskOrdering, EnvironmentSnapshot
from tests.unit.records.nouns import task

SEED = 176185981
ORDER = ["t7", "t0", "t8", "t5", "t4", "t6", "t3", "t9", "t1", "t2"]
TASKS = [task(f"t{number}") for number in range(10)]


def test_the_order_is_the_same_everywhere() -> None:
    """These values may never change: seeds and orders of past runs rest on them."""
    assert DeterministicTaskOrdering.seed_from_submission_id("sub-1") == SEED
    ordered = DeterministicTaskOrdering.order_tasks(TASKS, 42)
    assert [each.task_id for each in ordered] == ORDER


def test_the_order_does_not_depend_on_that_of_the_input() -> None:
    one = DeterministicTaskOrdering.order_tasks(TASKS, 3)
    assert one == DeterministicTaskOrdering.order_tasks(reversed(TASKS), 3)
    assert one != DeterministicTaskOrdering.order_tasks(TASKS, 4)
    assert sorted(each.task_id for each in one) == sorted(each.task_id for each in TASKS)


def test_leaving_out_tasks_keeps_the_order_of_the_others() -> None:
    whole = DeterministicTaskOrdering.order_tasks(TASKS, 3)
    some = DeterministicTaskOrdering.order_tasks(TASKS[::2], 3)
    assert some == [each for each in whole if each in some]


def test_seeds_fit_what_libraries_accept() -> None:
    seeds = {DeterministicTaskOrdering.seed_from_submission_id(f"s{n}\ud800") for n in range(200)}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_a_snapshot_says_what_the_host_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-in-the-environment")
    snapshot = EnvironmentSnapshot.capture(random_seed=7, engine={"version": "20.10"})
    assert snapshot.random_seed == 7
    assert snapshot.packages["pydantic"]
    assert snapshot.python_version == sys.version.split()[0]
    assert snapshot.cpus >= 1
    assert snapshot.memory_bytes > 2**26
    assert snapshot.engine == {"version": "20.10"}
    assert "sk-canary" not in snapshot.model_dump_json()
    assert EnvironmentSnapshot.model_validate_json(snapshot.model_dump_json()) == snapshot
    with pytest.raises(ValidationError):
        snapshot.random_seed = 8  # type: ignore[misc]
    assert EnvironmentSnapshot.capture().random_seed == 42


def test_a_snapshot_is_quick_in_a_new_process() -> None:
    code = (
        "import time; from runner.records import EnvironmentSnapshot as E;"
        "t = time.process_time(); E.capture(); print(time.process_time() - t)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert float(done.stdout) < 0.1


def test_a_second_snapshot_costs_next_to_nothing() -> None:
    EnvironmentSnapshot.capture()
    start = time.process_time()
    EnvironmentSnapshot.capture()
    assert time.process_time() - start < 0.02
