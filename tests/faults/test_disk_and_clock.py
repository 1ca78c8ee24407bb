"""A disk that fills up, and a clock that jumps, while a run goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import IO

import pytest

from tests.end_to_end.shell import STATE, Shell, wait_until

from .conftest import (
    INFRASTRUCTURE,
    KILLED,
    TASKS,
    all_released,
    in_second_task,
    only_run,
    resume,
    start_tiny,
    state_of,
)
from .whole import (
    assert_kept,
    assert_nothing_left,
    assert_resumable,
    assert_whole,
    assert_whole_attempt,
    attempts_of,
    names_in,
)

pytestmark = pytest.mark.docker

MIB = 1024 * 1024
BLOCK_BYTES = 4096
DISK_BYTES = 16 * MIB
LITTLE_IS_ENOUGH = {"AGENTTRACE_RUN__MIN_FREE_DISK_BYTES": "1"}
LEAST_SECONDS, MOST_SECONDS = 0.0, 60.0


# -- a disk that fills up ------------------------------------------------------------------------


class SmallDisk:
    """A file system of its own (ext4 on a loop device), mounted at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self, leave_bytes: int = 0) -> None:
        """Nothing but about `leave_bytes` can be written any more."""
        with self._filler.open("ab", buffering=0) as file:
            for size in (MIB, BLOCK_BYTES, 1):
                _write_until_full(file, bytes(size))
            file.truncate(file.tell() - leave_bytes)
            os.fsync(file.fileno())

    def free(self) -> None:
        """There is room again."""
        self._filler.unlink()


def _write_until_full(file: IO[bytes], data: bytes) -> None:
    with suppress(OSError):  # of no other kind than that there is no space
        while file.write(data):
            pass


@contextmanager
def small_disk(image: Path, path: Path) -> Iterator[SmallDisk]:
    """Mounted within it; skips the test where this user may not mount."""
    if os.geteuid() or not shutil.which("mkfs.ext4"):
        pytest.skip("mounting a file system needs root and mkfs.ext4")
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
    path.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", image, path], check=True)
    try:
        (path / "lost+found").rmdir()
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "-l", path], check=True)


@pytest.fixture
def runs_disk(shell: Shell) -> Iterator[SmallDisk]:
    with small_disk(shell.directory / "runs.ext4", shell.directory / "runs") as disk:
        yield disk
        shell.kill()


@pytest.fixture
def state_disk(shell: Shell) -> Iterator[SmallDisk]:
    with small_disk(shell.directory / "state.ext4", shell.directory / STATE) as disk:
        yield disk
        shell.kill()
        assert_nothing_left(shell.client, state_of(shell))


LEFT = [0, pytest.param(4096, marks=pytest.mark.slow), pytest.param(20480, marks=pytest.mark.slow)]
"""Bytes: none, enough for a directory, enough for a part of an attempt."""


@pytest.mark.parametrize("left", LEFT)
def test_the_runs_disk_is_full(shell: Shell, runs_disk: SmallDisk, left: int) -> None:
    """What was kept is whole, and there is no part of what could not be; then it goes on."""
    running = in_second_task(shell, **LITTLE_IS_ENOUGH)
    [run] = [path for path in shell.runs if path.is_dir()]
    before = attempts_of(run)
    runs_disk.fill(left)
    with all_released(shell):
        outcome = running.end()
    assert outcome.code == INFRASTRUCTURE, outcome.err
    assert "no space left on device" in outcome.error
    assert outcome.next.startswith("free some space")
    assert f"agenttrace resume {run.name}" in outcome.next
    assert_kept(run, before)
    assert_resumable(run)

    runs_disk.fill()
    before = attempts_of(run)
    with all_released(shell):
        refused = resume(shell, run, **LITTLE_IS_ENOUGH)
    assert refused.code == INFRASTRUCTURE, refused.err
    assert "no space left on device" in refused.error
    assert attempts_of(run) == before
    for which in before:
        assert_whole_attempt(run, which)

    runs_disk.free()
    with all_released(shell):
        outcome = resume(shell, run, **LITTLE_IS_ENOUGH)
    assert outcome.code == 0, outcome.err
    assert assert_whole(run, TASKS, before=before).overall_score == 100


@pytest.mark.slow
def test_the_state_disk_is_full(shell: Shell, state_disk: SmallDisk) -> None:
    """A run that can still note its containers goes on; no other can begin, and says why."""
    running = in_second_task(shell)
    run = only_run(shell)
    before = attempts_of(run)
    state_disk.fill()
    with all_released(shell):
        outcome = running.end()
    state_disk.fill()
    refused = start_tiny(shell)
    assert outcome.code in {0, INFRASTRUCTURE}, outcome.err
    assert_kept(run, before)
    assert refused.code == INFRASTRUCTURE, refused.err
    assert "No space left" in refused.error
    assert refused.next.startswith("free some space")
    assert shell.runs == [run]

    state_disk.free()
    if outcome.code:
        with all_released(shell):
            assert resume(shell, run).code == 0
    assert_whole(run, TASKS, before=before)
    assert start_tiny(shell).code == 0


# -- a clock that jumps --------------------------------------------------------------------------


class Clock:
    """The time of day for a shell's commands, which can be set; other clocks go on as they do."""

    def __init__(self, shell: Shell, library: Path) -> None:
        self._file = shell.write("clock", "+0")
        self.variables = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_NO_CACHE": "1",
        }

    def set(self, shift: timedelta) -> None:
        """From now on it differs from the real one by that."""
        aside = self._file.with_suffix(".new")
        aside.write_text(f"{shift.total_seconds():+.0f}")
        aside.rename(self._file)


@pytest.fixture(scope="session")
def faketime() -> Path:
    """The library of Debian's package of that name, installed where it is missing."""
    if not (found := _libraries()) and not os.geteuid() and shutil.which("apt-get"):
        install = ["apt-get", "install", "-qq", "--no-install-recommends", "faketime"]
        subprocess.run(install, check=False, capture_output=True)
        found = _libraries()
    if not found:
        pytest.skip("libfaketime is not here and cannot be installed")
    return found[0]


def _libraries() -> list[Path]:
    return sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


@pytest.mark.slow
@pytest.mark.parametrize("hours", [-7, 7])
def test_the_clock_is_set(shell: Shell, faketime: Path, hours: int) -> None:
    """While an agent works: what is measured is measured by a clock that nobody sets."""
    clock = Clock(shell, faketime)
    running = in_second_task(shell, **clock.variables)
    clock.set(timedelta(hours=hours))
    with all_released(shell):
        outcome = running.end()
    assert outcome.code == 0, outcome.err
    result = assert_whole(only_run(shell), TASKS)
    assert (result.retried_attempts, result.overall_score) == (0, 100)
    began = [one.started_at for one in result.task_executions]
    jump = max(began) - min(began)
    assert abs(jump - timedelta(hours=abs(hours))) < timedelta(minutes=5), "the clock was not set"
    for one in result.task_executions:
        seconds = one.resource_usage.execution_time_seconds
        assert LEAST_SECONDS < seconds < MOST_SECONDS


@pytest.mark.slow
def test_the_clock_is_set_between_runners(shell: Shell, faketime: Path) -> None:
    """The next one lives before the first one did, and finds its run and its containers."""
    clock = Clock(shell, faketime)
    killed = in_second_task(shell, **clock.variables)
    run, before = only_run(shell), attempts_of(only_run(shell))
    killed.interrupt(signal.SIGKILL)
    assert killed.end().code == KILLED
    names = wait_until(lambda: names_in(state_of(shell)))
    assert_resumable(run)
    for hours in (-30, 30):
        clock.set(timedelta(hours=hours))
        with all_released(shell):
            outcome = resume(shell, run, **clock.variables)
        assert outcome.code == 0, outcome.err
        assert_whole(run, TASKS, before=before)
        assert_nothing_left(shell.client, state_of(shell), names, shell.temporary)
