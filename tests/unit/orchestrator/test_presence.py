"""Workers of one host see whether others live: by a lock that ends with its process."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from runner.errors import StorageFailed
from runner.orchestrator.presence import HOST, SUFFIX, Presence

SPAWN = multiprocessing.get_context("spawn")
LIVE = """
import sys
from pathlib import Path
from runner.orchestrator.presence import Presence
with Presence(Path(sys.argv[1])) as presence:
    print(presence.worker, flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process(directory: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A worker of its own, and its name; it ends when its stdin does."""
    process = subprocess.Popen(
        [sys.executable, "-c", LIVE, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout
        yield process, process.stdout.readline().strip()
        process.kill()


def test_another_process_lives_until_it_is_killed(tmp_path: Path) -> None:
    watcher = Presence(tmp_path)
    with another_process(tmp_path) as (process, worker):
        assert not watcher.gone(worker)
        assert [(one.worker, one.pid) for one in watcher.living()] == [(worker, process.pid)]
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert watcher.gone(worker)
        assert watcher.living() == []
        assert not list(tmp_path.glob(f"*{SUFFIX}")), "its file is removed by whoever finds it"


def test_a_process_that_ends_is_gone(tmp_path: Path) -> None:
    with another_process(tmp_path) as (process, worker):
        process.communicate("")
        assert process.returncode == 0
        assert Presence(tmp_path).gone(worker)
        assert not list(tmp_path.glob(f"*{SUFFIX}"))


def test_two_workers_of_one_process_see_one_another(tmp_path: Path) -> None:
    with Presence(tmp_path) as one:
        with Presence(tmp_path) as other:
            assert one.worker != other.worker
            assert not one.gone(other.worker)
            assert not other.gone(one.worker)
            assert [each.worker for each in one.living()] == [other.worker]
        assert one.gone(other.worker)


def test_nobody_is_gone_for_itself(tmp_path: Path) -> None:
    presence = Presence(tmp_path)
    assert not presence.gone(presence.worker)
    with presence:
        assert not presence.gone(presence.worker)
        assert presence.living() == []


def test_many_look_at_once_and_none_harms_the_one_they_look_at(tmp_path: Path) -> None:
    """A look takes the lock for a moment where it is free, and never where it is not."""
    with another_process(tmp_path) as (_, worker), Presence(tmp_path) as watcher:
        found: list[bool] = []
        looks = [
            threading.Thread(
                target=lambda: found.extend(watcher.gone(worker) for _ in range(50)), daemon=True
            )
            for _ in range(8)
        ]
        for look in looks:
            look.start()
        for look in looks:
            look.join()
        assert found == [False] * 400


def test_a_worker_is_never_seen_unlocked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file gets the name that others look for once it is locked: at no moment is it gone."""
    rename, gone = Path.rename, list[bool]()
    watcher, worker = Presence(tmp_path), Presence(tmp_path)

    def look_before_and_after(path: Path, target: Path) -> Path:
        assert not list(tmp_path.glob(f"*{SUFFIX}"))
        with path.open() as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        moved = rename(path, target)
        gone.append(watcher.gone(worker.worker))
        return moved

    monkeypatch.setattr(Path, "rename", look_before_and_after)
    with worker:
        assert gone == [False]


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EACCES, errno.EIO])
def test_what_cannot_be_looked_at_is_not_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """A process without a free descriptor would take over everybody's work."""

    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    with Presence(tmp_path) as other:
        monkeypatch.setattr("runner.orchestrator.presence.os.open", refuse)
        assert not Presence(tmp_path).gone(other.worker)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "..", ""])
def test_no_name_leads_out_of_the_directory(tmp_path: Path, name: str) -> None:
    outside = tmp_path / f"outside{SUFFIX}"
    outside.write_text("{}")
    assert Presence(tmp_path / "workers").gone(name)
    assert outside.exists()


def test_a_file_that_says_nothing_is_no_living_worker(tmp_path: Path) -> None:
    with Presence(tmp_path) as other:
        (tmp_path / f"{other.worker}{SUFFIX}").write_bytes(b"\xff[")
        assert Presence(tmp_path).living() == []


# -- the host -------------------------------------------------------------------------------------


def host_of(directory: str) -> str:
    return Presence(Path(directory)).identity.host


def test_many_processes_make_one_host_id(tmp_path: Path) -> None:
    directory = str(tmp_path / "state" / "workers")
    with ProcessPoolExecutor(4, mp_context=SPAWN) as pool:
        hosts = set(pool.map(host_of, [directory] * 16))
    assert hosts == {host_of(directory)}
    assert [path.name for path in Path(directory).iterdir()] == [HOST]


def test_threads_that_meet_make_one_host_id(tmp_path: Path) -> None:
    together = threading.Barrier(8)
    hosts: list[str] = []

    def make() -> None:
        presence = Presence(tmp_path / "workers")
        together.wait()
        hosts.append(presence.identity.host)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(hosts) == 8
    assert len(set(hosts)) == 1


def test_other_directories_are_other_hosts(tmp_path: Path) -> None:
    assert host_of(str(tmp_path / "one")) != host_of(str(tmp_path / "two"))


def test_who_it_is_needs_no_disk_once_it_is_known(tmp_path: Path) -> None:
    """A worker asks at each look for work: a disk that is full must not end it."""
    presence = Presence(tmp_path / "workers")
    identity = presence.identity
    (tmp_path / "workers" / HOST).unlink()
    assert presence.identity == identity
    assert not list((tmp_path / "workers").iterdir())


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    presence = Presence(tmp_path / "file" / "workers")
    with pytest.raises(StorageFailed, match="cannot write in"):
        presence.__enter__()
    with pytest.raises(StorageFailed, match="cannot write in"):
        _ = presence.identity
