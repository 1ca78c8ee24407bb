from __future__ import annotations

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from runner.domain import EventKind, ExecutionStatus
from runner.domain.gateway import EXCHANGES
from runner.domain.trace import trace_id_of
from runner.errors import StorageFailed, UsageError
from runner.ports import Evidence
from runner.records import (
    RunDirectory,
    find_run,
    list_runs,
    load_attempts,
    load_run,
    load_trace,
    new_run_id,
    trace_path,
)
from tests.unit.records.nouns import (
    ANSWER,
    RUN_ID,
    TOKEN,
    benchmark,
    event,
    execution,
    plan,
    reply,
    task,
)


def begun(root: Path, run_id: str = RUN_ID) -> RunDirectory:
    directory = RunDirectory(root, run_id)
    directory.begin(plan(run_id))
    return directory


def finished(root: Path, run_id: str = RUN_ID) -> RunDirectory:
    directory = begun(root, run_id)
    directory.keep(execution(run_id=run_id), reply(), directory.staging())
    directory.finish(benchmark(execution(run_id=run_id), run_id=run_id))
    return directory


def files(path: Path) -> set[str]:
    return {str(each.relative_to(path)) for each in path.rglob("*") if each.is_file()}


def test_a_whole_run_has_the_files_of_the_plan_of_record(tmp_path: Path) -> None:
    directory: Evidence = RunDirectory(tmp_path, RUN_ID)
    run = directory.begin(plan())
    directory.event(event(EventKind.RUN_STARTED))
    staging = directory.staging()
    assert staging.is_dir()
    assert not list(staging.iterdir())
    (staging / "report.txt").write_text("hi")
    directory.keep(execution(), reply(), staging)
    directory.finish(benchmark())
    attempt = "tasks/reasoning-1/1-1"
    assert files(run) == {
        "submission.json",
        "config.json",
        "lock.json",
        "execution.json",
        "events.jsonl",
        f"{attempt}/execution.json",
        f"{attempt}/trace.otlp.jsonl",
        f"{attempt}/stdout.log",
        f"{attempt}/stderr.log",
        f"{attempt}/artifacts/report.txt",
    }
    assert (run / attempt / "stdout.log").read_bytes() == b"\xff\x00raw\x1b[31m"
    assert not (run / ".staging").exists()


def test_what_was_written_reads_back_equal(tmp_path: Path) -> None:
    finished(tmp_path)
    run = load_run(tmp_path, RUN_ID)
    assert run.execution == benchmark(execution())
    [attempt] = run.attempts
    trace_id = trace_id_of(RUN_ID, "reasoning-1", 1, 1)
    assert attempt.execution == execution(trace_id=trace_id)
    assert run.summary.score == pytest.approx(75.0)
    assert run.summary.status is ExecutionStatus.COMPLETED


def test_neither_answer_key_nor_credentials_are_written(tmp_path: Path) -> None:
    run = finished(tmp_path).path
    for name in files(run):
        data = (run / name).read_bytes()
        assert ANSWER.encode() not in data, name
        assert TOKEN.encode() not in data, name
    submission = json.loads((run / "submission.json").read_text())
    assert submission["agent_endpoint"]["url"] == "https://agents.example.com/invoke"


def test_the_lock_pins_order_and_digests(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path, RUN_ID)
    directory.begin(plan(RUN_ID, task("b"), task("a")))
    lock = json.loads((directory.path / "lock.json").read_text())
    assert [each["task_id"] for each in lock["task_order"]] == ["b", "a"]
    assert (lock["suite_digest"], lock["image_id"], lock["seed"]) == ("sha256:ab", "sha256:cd", 7)
    assert lock["runner_version"]


def test_an_attempt_is_never_overwritten(tmp_path: Path) -> None:
    directory = begun(tmp_path)
    kept = directory.keep(execution(output="first"), reply(), directory.staging())
    with pytest.raises(StorageFailed, match="never overwritten"):
        directory.keep(execution(output="second"), reply(), directory.staging())
    assert json.loads((kept / "execution.json").read_text())["output"] == "first"
    assert not list((directory.path / ".staging").iterdir())
    directory.keep(execution(attempt=2), reply(), directory.staging())
    assert [each.attempt for each in load_attempts(directory.path)] == [1, 2]


def test_rename_itself_refuses_to_replace_an_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = begun(tmp_path)
    kept = directory.keep(execution(output="first"), reply(), directory.staging())
    monkeypatch.setattr(Path, "exists", lambda self, **_: False)
    with pytest.raises(StorageFailed, match="never overwritten"):
        directory.keep(execution(output="second"), reply(), directory.staging())
    assert json.loads((kept / "execution.json").read_text())["output"] == "first"


@pytest.mark.parametrize("failing_call", range(1, 10))
def test_a_full_disk_leaves_nothing_of_an_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing_call: int
) -> None:
    directory = begun(tmp_path)
    real, calls = os.fsync, 0

    def fsync(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls == failing_call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    staging = directory.staging()
    (staging / "a").write_bytes(b"a")
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageFailed, match="no space left on device") as raised:
        directory.keep(execution(), reply(stderr=b"err"), staging)
    assert str(directory.path) in raised.value.message
    assert "free some space" in raised.value.remedy
    assert not list((directory.path / ".staging").iterdir())
    monkeypatch.undo()
    # The last fsync is that of the name: by then the attempt is there, and whole.
    attempts = load_attempts(directory.path)
    assert [each.note for each in attempts] == ([""] if failing_call == 9 else [])


def test_a_plan_that_cannot_be_written_leaves_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageFailed, match=r"submission\.json: no space"):
        begun(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_run_id_is_used_once(tmp_path: Path) -> None:
    first = begun(tmp_path)
    with pytest.raises(StorageFailed, match="file exists"):
        begun(tmp_path)
    assert (first.path / "lock.json").exists()


def test_a_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(StorageFailed, match="cannot write"):
        begun(tmp_path / "runs")


def test_ids_cannot_leave_the_directory(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        RunDirectory(tmp_path, "../x")
    directory = begun(tmp_path)
    with pytest.raises(UsageError):
        directory.keep(execution(task_id="../../x"), reply(), directory.staging())
    with pytest.raises(StorageFailed, match="no staging directory"):
        directory.keep(execution(), reply(), tmp_path)
    assert tmp_path.exists()


def test_a_run_under_way_is_told_from_one_whose_runner_died(tmp_path: Path) -> None:
    directory = begun(tmp_path)
    directory.event(event(EventKind.TASK_FINISHED, task_id="reasoning-1", repeat=1))
    [summary] = list_runs(tmp_path)
    assert (summary.status, summary.notes) == (ExecutionStatus.RUNNING, ())
    assert (summary.tasks_finished, summary.tasks_total) == (1, 1)
    assert (summary.agent_name, summary.suite_name) == ("echo", "starter")
    directory.close()
    [summary] = list_runs(tmp_path)
    assert summary.status is ExecutionStatus.FAILED
    assert "its runner ended" in summary.notes[0]


def test_what_a_crash_left_in_staging_is_ignored(tmp_path: Path) -> None:
    directory = begun(tmp_path)
    staging = directory.staging()
    (staging.parent / "execution.json").write_text("{}")
    assert load_attempts(directory.path) == []
    assert load_run(tmp_path, RUN_ID).attempts == ()


def test_another_process_can_go_on_with_a_run(tmp_path: Path) -> None:
    first = begun(tmp_path)
    first.event(event(EventKind.RUN_STARTED))
    first.close()
    log = first.path / "events.jsonl"
    log.write_bytes(log.read_bytes() + b'{"kind": "task_st')
    second = RunDirectory(tmp_path, RUN_ID)
    second.event(event(EventKind.RUN_FINISHED))
    second.keep(execution(), reply(), second.staging())
    second.finish(benchmark())
    run = load_run(tmp_path, RUN_ID)
    assert [each.kind for each in run.events] == [EventKind.RUN_STARTED, EventKind.RUN_FINISHED]
    trace = trace_path(run.summary.path, "reasoning-1").read_text()
    assert "invoke_agent echo" in trace


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"run_id": 3}', b"\xff\xfe", b"null"])
@pytest.mark.parametrize(
    "name", ["execution.json", "lock.json", "events.jsonl", "tasks/reasoning-1/1-1/execution.json"]
)
def test_a_damaged_file_is_noted(tmp_path: Path, name: str, content: bytes) -> None:
    run = finished(tmp_path).path
    (run / name).write_bytes(content)
    loaded = load_run(tmp_path, RUN_ID)
    [summary] = list_runs(tmp_path)
    notes = " ".join((*summary.notes, *(each.note for each in loaded.attempts)))
    assert (name == "events.jsonl") or f"{name} is damaged" in notes


def test_foreign_things_in_the_root_do_no_harm(tmp_path: Path) -> None:
    finished(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / RUN_ID)
    (tmp_path / "empty").mkdir()
    (tmp_path / RUN_ID / "tasks" / "x").mkdir()
    (tmp_path / RUN_ID / "tasks" / "x" / "1-1").mkdir()
    (tmp_path / RUN_ID / "tasks" / "x" / "what").mkdir()
    assert [each.run_id for each in list_runs(tmp_path)] == [RUN_ID, "empty"]
    noted = [each.note for each in load_run(tmp_path, RUN_ID).attempts if each.note]
    assert len(noted) == 1
    assert "is missing" in noted[0]
    assert list_runs(tmp_path / "nowhere") == []


def test_runs_are_found_by_a_unique_prefix(tmp_path: Path) -> None:
    for run_id in ("20261122-103800-aa0000", "20261122-103900-bb0000", "20261122-1039"):
        begun(tmp_path, run_id).close()
    assert find_run(tmp_path, "20261122-1038").name == "20261122-103800-aa0000"
    assert find_run(tmp_path, "20261122-1039").name == "20261122-1039"
    with pytest.raises(UsageError, match="3 runs start with"):
        find_run(tmp_path, "2026")
    with pytest.raises(UsageError, match="no run 'x'"):
        find_run(tmp_path, "x")
    with pytest.raises(UsageError):
        find_run(tmp_path, "")


def test_the_trace_asked_for_is_that_of_the_last_attempt(tmp_path: Path) -> None:
    directory = begun(tmp_path)
    for repeat, attempt in ((1, 1), (1, 2), (1, 10), (2, 1)):
        changed: dict[str, Any] = {"repeat": repeat, "attempt": attempt}
        directory.keep(execution(**changed), None, directory.staging())
    run = directory.path
    assert trace_path(run, "reasoning-1").parent.name == "1-10"
    assert trace_path(run, "reasoning-1", attempt=2).parent.name == "1-2"
    assert trace_path(run, "reasoning-1", repeat=2).parent.name == "2-1"
    with pytest.raises(UsageError, match="no such attempt"):
        trace_path(run, "reasoning-1", repeat=3)
    with pytest.raises(UsageError, match="no such attempt"):
        trace_path(run, "other")


def test_an_event_that_cannot_be_written_does_not_stop_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    directory = begun(tmp_path)

    def write(handle: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patched:
        patched.setattr("runner.records.run_directory.os.write", write)
        directory.event(event(EventKind.RUN_STARTED))
    assert "cannot append" in caplog.text


def test_the_last_event_may_come_after_the_result(tmp_path: Path) -> None:
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    directory = finished(tmp_path)
    directory.event(event(EventKind.RUN_FINISHED))
    assert [e.kind for e in load_run(tmp_path, RUN_ID).events] == [EventKind.RUN_FINISHED]
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before


def test_attempts_may_be_kept_from_many_threads(tmp_path: Path) -> None:
    directory = begun(tmp_path)

    def keep(number: int) -> None:
        directory.keep(execution(repeat=number), reply(), directory.staging())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(keep, range(1, 41)))
    assert [each.repeat for each in load_attempts(directory.path)] == list(range(1, 41))


def test_hostile_strings_still_make_utf8_json(tmp_path: Path) -> None:
    directory = begun(tmp_path)
    hostile = execution(output="a\ud800\x00b\U0001f600", claims={"x\udfff": "\ud83d\ude00"})
    kept = directory.keep(hostile, reply(), directory.staging())
    read = json.loads((kept / "execution.json").read_bytes().decode())
    assert read["output"] == "a�\x00b\U0001f600"
    assert list(read["claims"].values()) == ["\U0001f600"]


def test_run_ids_sort_by_time() -> None:
    start = datetime(2026, 11, 22, 10, 38, tzinfo=UTC)
    moments = [start + timedelta(seconds=7 * step) for step in range(5000)]
    ids = [new_run_id(moment, os.urandom(3)) for moment in moments]
    assert ids == sorted(ids)
    elsewhere = start.astimezone(timezone(timedelta(hours=9)))
    assert new_run_id(elsewhere, b"\x01\x02\x03rest") == "20261122-103800-010203"


def test_what_was_exchanged_is_kept_and_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = begun(tmp_path)
    staging = directory.staging()
    (staging.parent / EXCHANGES).write_bytes(b"not even JSON\n")
    number = (staging.parent / EXCHANGES).stat().st_ino
    real, synced = os.fsync, []

    def fsync(handle: int) -> None:
        synced.append(os.fstat(handle).st_ino)
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    kept = directory.keep(execution(), reply(), staging)
    assert (kept / EXCHANGES).read_bytes() == b"not even JSON\n"
    assert number in synced
    assert load_trace(kept / "trace.otlp.jsonl"), "a damaged file hides nothing of the rest"


def test_what_an_attempt_has_spent_is_durable_before_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = begun(tmp_path)
    spending = directory.path / "spending.jsonl"
    spending.write_bytes(b"{}\n")
    number, real = spending.stat().st_ino, os.fsync
    kept_when_synced: list[bool] = []

    def fsync(handle: int) -> None:
        if os.fstat(handle).st_ino == number:
            kept_when_synced.append(any(directory.path.glob("tasks/*/*/execution.json")))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    directory.keep(execution(), reply(), directory.staging())
    assert kept_when_synced == [False]
