"""What has to hold of a run and of its host after any fault, however often it was resumed.

A test takes `attempts_of(run)` before the next fault, and says `assert_whole` of the run and
`assert_nothing_left` of the engine and the state directory after the last one.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from runner.domain import BenchmarkExecution, ExecutionStatus, TaskExecution
from runner.engine import EngineClient
from runner.images.builder import REPOSITORY
from runner.sandbox.journal import open_names

AGENTTRACE = str(Path(sys.executable).with_name("agenttrace"))

Which = tuple[str, int, int]
"""Task, repeat and attempt."""
Attempts = Mapping[Which, str]
"""A digest of each attempt's files."""


# -- the run -------------------------------------------------------------------------------------


def attempts_of(run: Path) -> dict[Which, str]:
    """Each attempt that a run directory holds now, with a digest of all its files."""
    return {
        (path.parent.name, *_numbers(path)): _digest(path) for path in sorted(run.glob("tasks/*/*"))
    }


def assert_kept(run: Path, before: Attempts) -> None:
    """No attempt that was there before is gone or has changed."""
    now = attempts_of(run)
    assert {which: now.get(which) for which in before} == dict(before)


def assert_whole(
    run: Path, tasks: Iterable[str], repeats: int = 1, before: Attempts | None = None
) -> BenchmarkExecution:
    """The run is over and completed: one result for each task and repeat, its last attempt on disk.

    `before` is what `attempts_of` said earlier.
    """
    expected = {(task, repeat) for task in tasks for repeat in range(1, repeats + 1)}
    result = BenchmarkExecution.model_validate_json((run / "execution.json").read_bytes())
    results = [(one.task_id, one.repeat) for one in result.task_executions]
    assert sorted(results) == sorted(expected)
    assert result.run_id == run.name
    assert result.status is ExecutionStatus.COMPLETED
    assert result.retried_attempts == sum(one.attempt - 1 for one in result.task_executions)
    assert_kept(run, before or {})
    attempts = {which: assert_whole_attempt(run, which) for which in attempts_of(run)}
    for one in result.task_executions:
        last = max(a for task, repeat, a in attempts if (task, repeat) == (one.task_id, one.repeat))
        assert one == attempts[one.task_id, one.repeat, last]
    assert {(task, repeat) for task, repeat, _ in attempts} == expected
    assert_left_alone(run)
    assert_shown(run, result, len(attempts))
    return result


def assert_whole_attempt(run: Path, which: Which) -> TaskExecution:
    """It is complete, and says that it is the one that its directory's name says."""
    task, repeat, attempt = which
    path = run / "tasks" / task / f"{repeat}-{attempt}"
    kept = TaskExecution.model_validate_json((path / "execution.json").read_bytes())
    assert (kept.run_id, kept.task_id, kept.repeat, kept.attempt) == (run.name, *which)
    lines = (path / "trace.otlp.jsonl").read_bytes().splitlines()
    assert lines
    assert all(json.loads(line) for line in lines)
    assert (path / "stdout.log").is_file()
    assert (path / "stderr.log").is_file()
    assert (path / "artifacts").is_dir()
    return kept


def assert_left_alone(run: Path) -> None:
    """Nothing is staged or half written, and no runner holds the run."""
    hidden = [path for path in run.rglob(".*") if path.name != ".staging" or any(path.iterdir())]
    assert not hidden
    assert not is_locked(run / "events.jsonl")


def assert_shown(run: Path, result: BenchmarkExecution, attempts: int) -> None:
    """`runs show` says the same as the files."""
    shown = show(run)
    assert BenchmarkExecution.model_validate(shown["execution"]) == result
    assert shown["summary"]["status"] == result.status
    assert shown["summary"]["tasks_total"] == len(result.task_executions)
    assert len(shown["attempts"]) == attempts
    assert not [one["note"] for one in shown["attempts"] if one["note"]]


def assert_resumable(run: Path) -> None:
    """`runs show` of a run whose runner is gone: not running, not over, and how to go on."""
    summary = show(run)["summary"]
    assert summary["status"] == ExecutionStatus.FAILED
    assert any(f"agenttrace resume {run.name}" in note for note in summary["notes"])
    assert not (run / "execution.json").exists()


def show(run: Path) -> dict[str, Any]:
    """What `agenttrace runs show --json` prints."""
    done = subprocess.run(
        [AGENTTRACE, "runs", "show", run.name, "-o", str(run.parent), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


def _numbers(path: Path) -> tuple[int, int]:
    repeat, _, attempt = path.name.partition("-")
    return int(repeat), int(attempt)  # any other name is a torn attempt, and fails


def _digest(directory: Path) -> str:
    whole = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        whole.update(f"{path.relative_to(directory)}\0".encode())
        whole.update(path.read_bytes() if path.is_file() else b"")
    return whole.hexdigest()


# -- the host ------------------------------------------------------------------------------------


def assert_nothing_left(
    engine: EngineClient, state: Path, names: Collection[str] = (), temporary: Path | None = None
) -> None:
    """No container, lock or temporary file of the runners of this state directory.

    A journal may be left, of containers that a killed runner had asked for and that never came.

    `state` is `$XDG_STATE_HOME/agenttrace`. `names` are containers that journals named earlier:
    those of a killed runner are forgotten once they are gone. `temporary` is the tests' TMPDIR.
    """
    assert containers_of(engine, state, names) == []
    assert not [path for path in state.rglob("*") if path.is_file() and is_locked(path)]
    assert not (list(temporary.iterdir()) if temporary else [])


def names_in(state: Path) -> list[str]:
    """Of the containers that runners of this state directory have, or may have."""
    journals = sorted(state.glob("runners/*/*.containers"))
    return [n for path in journals for n in open_names(path.read_text(), path.stem)]


def containers_of(engine: EngineClient, state: Path, names: Collection[str] = ()) -> list[str]:
    """Names of those that are in the engine, running or not.

    Known by the journals, by `names`, by the runner that one of `names` belongs to, or by the image
    that was built with this state directory.
    """
    found = engine.call_blocking("list", lambda api: api.containers(all=True))
    runners = {name.rpartition("-")[0] for name in (*names, *names_in(state))}
    images = image_ids(engine, state)
    return [
        name
        for container in found
        for name in (each.lstrip("/") for each in container["Names"] or ())
        if name.rpartition("-")[0] in runners or container["ImageID"] in images
    ]


def image_ids(engine: EngineClient, state: Path) -> set[str]:
    """Of the images that were built with this state directory."""
    wanted = set(tags(state))
    found = engine.call_blocking("list images", lambda api: api.images(name=REPOSITORY))
    return {image["Id"] for image in found if wanted & set(image["RepoTags"] or ())}


def tags(state: Path) -> list[str]:
    """Of the images that were built with this state directory: each leaves a log of that name."""
    logs = (state / "builds").glob("*.log")
    return [f"{REPOSITORY}:{log.stem.partition('-')[2]}" for log in logs]


def is_locked(path: Path) -> bool:
    """Whether any process holds a lock of the file."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
