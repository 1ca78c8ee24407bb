"""Old runs go whole, runs in progress stay, and nothing beside the runs is touched."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runner.domain.removal import Cleaned, RemovalKind
from runner.records import RunDirectory, retention
from runner.records.retention import (
    Retention,
    clean_build_logs,
    clean_runs,
    clean_submissions,
    clean_wheels,
    disk_bytes,
)

from . import nouns

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY = 86400.0


def rule(
    days: float | None = 7, *, dry_run: bool = False, keep: Callable[[str], bool] = lambda _: False
) -> Retention:
    seconds = None if days is None else days * DAY
    return Retention(now=NOW.timestamp(), seconds=seconds, keep=keep, dry_run=dry_run)


def age(path: Path, days: float) -> None:
    """As if nothing in it had been changed since."""
    then = NOW.timestamp() - days * DAY
    for each in (path, *path.rglob("*")):
        os.utime(each, (then, then), follow_symlinks=False)


def make_run(root: Path, name: str, *, ended: float | None = None, changed: float = 0.0) -> Path:
    """A run that ended so many days ago, or else did not end; last changed so many days ago."""
    run = root / name
    (run / "tasks/t/1-1").mkdir(parents=True)
    (run / "tasks/t/1-1/stdout.log").write_bytes(b"x" * 5000)
    (run / "events.jsonl").write_text('{"kind": "task_finished"}\n')
    if ended is not None:
        finished = (NOW - timedelta(days=ended)).isoformat()
        (run / "execution.json").write_text(json.dumps({"finished_at": finished}))
        (run / "events.jsonl").write_text('{"kind": "run_finished"}\n')
    age(run, changed)
    return run


@contextmanager
def in_progress(run: Path) -> Iterator[None]:
    with (run / "events.jsonl").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def names(cleaned: Cleaned) -> list[str]:
    return [Path(removal.name).name for removal in cleaned.removed]


def entries(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# -- runs by age -----------------------------------------------------------------------------------


def test_runs_go_by_when_they_ended(tmp_path: Path) -> None:
    make_run(tmp_path, "new", ended=6.9, changed=30)
    old = make_run(tmp_path, "old", ended=7.1, changed=0)
    size = disk_bytes(old)
    cleaned = clean_runs(tmp_path, rule(7))
    [removal] = cleaned.removed
    assert (removal.kind, removal.name) == (RemovalKind.RUN, str(old))
    assert removal.why == retention.OLD_RUN
    assert removal.bytes_freed == size >= 5000
    assert entries(tmp_path) == ["new"]


def test_without_a_retention_no_run_goes(tmp_path: Path) -> None:
    make_run(tmp_path, "old", ended=10_000, changed=10_000)
    assert clean_runs(tmp_path, rule(None)) == Cleaned()
    assert (tmp_path / "old/tasks").is_dir()


def test_an_unfinished_run_goes_by_its_last_change(tmp_path: Path) -> None:
    make_run(tmp_path, "resumable", changed=6)
    make_run(tmp_path, "forgotten", changed=8)
    cleaned = clean_runs(tmp_path, rule(7))
    assert names(cleaned) == ["forgotten"]
    assert cleaned.removed[0].why == retention.OLD_UNFINISHED


def test_a_run_that_went_on_after_its_end_has_not_ended(tmp_path: Path) -> None:
    run = make_run(tmp_path, "resumed", ended=30, changed=30)
    with (run / "events.jsonl").open("a") as events:
        events.write('{"kind": "run_resumed"}\n')
    os.utime(run / "events.jsonl", (NOW.timestamp(), NOW.timestamp()))
    assert clean_runs(tmp_path, rule(7)) == Cleaned()


@pytest.mark.parametrize(
    "damage", ["", "[]", "{}", '{"finished_at": 3}', '{"finished_at": "2001-01-01"}', "[" * 99_999]
)
def test_a_damaged_record_says_nothing(tmp_path: Path, damage: str) -> None:
    run = make_run(tmp_path, "r", ended=30)
    (run / "execution.json").write_text(damage)
    assert clean_runs(tmp_path, rule(7)) == Cleaned()
    age(run, 8)
    assert names(clean_runs(tmp_path, rule(7))) == ["r"]


def test_a_run_in_progress_is_never_touched(tmp_path: Path) -> None:
    run = make_run(tmp_path, "busy", ended=30, changed=30)
    (run / ".staging/aside").mkdir(parents=True)
    with in_progress(run):
        cleaned = clean_runs(tmp_path, rule(7))
    assert cleaned.removed == ()
    [kept] = cleaned.kept
    assert (kept.name, kept.why) == (str(run), retention.IN_PROGRESS)
    assert (run / ".staging/aside").is_dir()
    assert names(clean_runs(tmp_path, rule(7))) == ["busy"]


def test_a_run_whose_job_has_not_ended_is_kept(tmp_path: Path) -> None:
    run = make_run(tmp_path, "queued", changed=30)
    (run / ".staging/aside").mkdir(parents=True)
    age(run, 30)
    cleaned = clean_runs(tmp_path, rule(7, keep=lambda run_id: run_id == "queued"))
    assert [kept.why for kept in cleaned.kept] == [retention.JOB_NOT_ENDED]
    assert names(cleaned) == [".staging"]
    assert (run / "tasks").is_dir()


def test_a_real_run_directory_is_known_as_one(tmp_path: Path) -> None:
    plan = nouns.plan()
    evidence = RunDirectory(tmp_path, plan.run_id)
    run = evidence.begin(plan)
    age(run, 30)
    assert [kept.why for kept in clean_runs(tmp_path, rule(7)).kept] == [retention.IN_PROGRESS]
    evidence.close()
    age(run, 30)
    assert names(clean_runs(tmp_path, rule(7))) == [plan.run_id]


def test_a_run_that_may_not_be_looked_at_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path, "another's", ended=30)
    make_run(tmp_path, "foreign", ended=30)
    make_run(tmp_path, "own", ended=30)
    opened = os.open

    def refused(path: Path, *how: int) -> int:
        if "foreign" in str(path):
            raise PermissionError(13, "Permission denied")
        return opened(path, *how)

    monkeypatch.setattr(os, "open", refused)
    cleaned = clean_runs(tmp_path, rule(7))
    assert names(cleaned) == ["own"]
    assert [kept.name for kept in cleaned.kept] == [str(tmp_path / "foreign")]


# -- what killed runners staged --------------------------------------------------------------------


def test_what_was_staged_goes_whatever_its_age(tmp_path: Path) -> None:
    run = make_run(tmp_path, "killed")
    (run / ".staging/0a/artifacts").mkdir(parents=True)
    (run / ".staging/0a/artifacts/big").write_bytes(b"x" * 100_000)
    [removal] = clean_runs(tmp_path, rule(None)).removed
    assert removal.kind is RemovalKind.STAGING
    assert (removal.bytes_freed or 0) >= 100_000
    assert entries(run) == ["events.jsonl", "tasks"]
    assert clean_runs(tmp_path, rule(None)) == Cleaned()


def test_a_living_runners_staging_stays(tmp_path: Path) -> None:
    run = make_run(tmp_path, "busy")
    (run / ".staging/0a").mkdir(parents=True)
    with in_progress(run):
        assert clean_runs(tmp_path, rule(None)).removed == ()
    assert (run / ".staging/0a").is_dir()


def test_a_log_that_was_taken_over_meanwhile_locks_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path, "taken", ended=30)

    def taken_over(descriptor: int, _how: int) -> None:
        (run / "new").write_text("")
        (run / "new").rename(run / "events.jsonl")

    monkeypatch.setattr(fcntl, "flock", taken_over)
    assert clean_runs(tmp_path, rule(7)).removed == ()
    assert (run / "tasks").is_dir()


# -- whole or not at all ---------------------------------------------------------------------------


def test_a_removal_that_is_cut_short_is_finished_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path, "old", ended=30)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            clean_runs(tmp_path, rule(7))
    [left] = entries(tmp_path)
    assert left.startswith(".removing-old-")  # a reader sees no half of it
    [removal] = clean_runs(tmp_path, rule(None)).removed
    assert removal.why == retention.CUT_SHORT
    assert entries(tmp_path) == []


def test_what_cannot_be_deleted_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path, "old", ended=30)

    def refused(_path: Path, onerror: Callable[..., None]) -> None:
        error = PermissionError(13, "Permission denied")
        onerror(os.unlink, "x", (PermissionError, error, None))

    monkeypatch.setattr(shutil, "rmtree", refused)
    cleaned = clean_runs(tmp_path, rule(7))
    assert cleaned.removed == ()
    assert "permission denied" in cleaned.kept[0].why


# -- nothing else ----------------------------------------------------------------------------------


def test_nothing_but_runs_is_touched(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    for name in ("thesis", ".hidden", "-dash", "with space"):
        (root / name).mkdir(parents=True)
        (root / name / "events.jsonl").write_text("")
    (root / "notes.txt").write_text("mine")
    (root / "only-tasks/tasks").mkdir(parents=True)
    age(root, 99)
    before = sorted(root.rglob("*"))
    assert clean_runs(root, rule(1)) == Cleaned()
    assert sorted(root.rglob("*")) == before


def test_links_are_never_followed(tmp_path: Path) -> None:
    root, outside = tmp_path / "runs", tmp_path / "outside"
    precious = make_run(outside, "precious", ended=99, changed=99)
    run = make_run(root, "old", ended=99)
    (run / "tasks/t/1-1/artifacts").symlink_to(outside)
    (root / "linked").symlink_to(precious)
    (root / ".removing-linked").symlink_to(precious)
    staged = make_run(root, "staged")
    (staged / ".staging").symlink_to(outside)
    fake = make_run(root, "fake", ended=99)
    (fake / "events.jsonl").unlink()
    (fake / "events.jsonl").symlink_to(precious / "events.jsonl")
    cleaned = clean_runs(root, rule(7))
    assert names(cleaned) == ["old"]
    assert entries(root) == [".removing-linked", "fake", "linked", "staged"]
    assert (precious / "tasks/t/1-1/stdout.log").is_file()


def test_without_the_directories_there_is_nothing_to_do(tmp_path: Path) -> None:
    for clean in (clean_runs, clean_submissions, clean_build_logs, clean_wheels):
        assert clean(tmp_path / "none", rule(7)) == Cleaned()


def test_a_hard_link_is_counted_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    size = disk_bytes(tmp_path)
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    assert disk_bytes(tmp_path) == size


# -- beside the runs -------------------------------------------------------------------------------


def test_files_of_submissions_go_after_their_jobs(tmp_path: Path) -> None:
    for name in ("ended", "queued", "arriving"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "agent.py").write_text("pass")
        age(tmp_path / name, 0 if name == "arriving" else 30)
    cleaned = clean_submissions(tmp_path, rule(7, keep=lambda run_id: run_id == "queued"))
    assert names(cleaned) == ["ended"]
    assert cleaned.removed[0].kind is RemovalKind.SUBMISSION
    assert entries(tmp_path) == ["arriving", "queued"]
    assert clean_submissions(tmp_path, rule(None)) == Cleaned()


def test_files_whose_job_may_be_on_its_way_into_the_queue_stay(tmp_path: Path) -> None:
    (tmp_path / "arriving").mkdir()
    age(tmp_path, 0.9)
    assert clean_submissions(tmp_path, rule(0.1)) == Cleaned()


def test_logs_of_builds_go_by_age(tmp_path: Path) -> None:
    old, new = "build-" + "a" * 16 + ".log", "load-" + "b" * 16 + ".log"
    for name in (old, new, "notes.log"):
        (tmp_path / name).write_text("output")
    age(tmp_path, 30)
    os.utime(tmp_path / new, (NOW.timestamp(), NOW.timestamp()))
    assert names(clean_build_logs(tmp_path, rule(7))) == [old]
    assert entries(tmp_path) == [new, "notes.log"]


def test_wheels_in_the_making_go_when_nobody_can_be_making_them(tmp_path: Path) -> None:
    for name in ("0123456789abcdef", ".resolving-dead", ".resolving-alive"):
        (tmp_path / name / "wheels").mkdir(parents=True)
        age(tmp_path / name, 30)
    (tmp_path / ".resolving-alive/wheels/a.whl").write_text("")
    os.utime(tmp_path / ".resolving-alive/wheels/a.whl", (NOW.timestamp(), NOW.timestamp()))
    assert names(clean_wheels(tmp_path, rule(None))) == [".resolving-dead"]
    assert entries(tmp_path) == [".resolving-alive", "0123456789abcdef"]


# -- dry -------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_a_real_one_then_removes(tmp_path: Path) -> None:
    runs, submissions = tmp_path / "runs", tmp_path / "submissions"
    make_run(runs, "old", ended=30)
    make_run(runs, "forgotten", changed=30)
    make_run(runs, "new", ended=1)
    (make_run(runs, "killed") / ".staging/0a").mkdir(parents=True)
    make_run(runs, ".removing-half", ended=30)
    (submissions / "ended").mkdir(parents=True)
    age(submissions, 30)
    before = sorted(tmp_path.rglob("*"))

    def clean(*, dry_run: bool) -> Cleaned:
        given = rule(7, dry_run=dry_run)
        return clean_runs(runs, given) + clean_submissions(submissions, given)

    with in_progress(runs / "new"):
        said = clean(dry_run=True)
        assert sorted(tmp_path.rglob("*")) == before
        assert clean(dry_run=False) == said
    assert len(said.removed) == 5
    assert entries(runs) == ["killed", "new"]
    assert clean(dry_run=True) == Cleaned()
