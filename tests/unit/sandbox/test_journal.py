"""Names on record before they are used, and what a reaper believes of a journal."""

from __future__ import annotations

import fcntl
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from runner.errors import StorageFailed
from runner.sandbox.journal import SHORTENED_EVERY, Journal, abandoned, open_names

DEAD = "0123456789ab"

HOLDER = """
import sys, time
from pathlib import Path
from runner.sandbox.journal import Journal
with Journal(Path(sys.argv[1])) as journal:
    print(journal.new_name(), journal.new_name(), flush=True)
    time.sleep(100)
"""


def dead_journal(directory: Path, content: bytes, runner: str = DEAD) -> Path:
    path = directory / f"{runner}.containers"
    path.write_bytes(content)
    return path


def names_in(directory: Path) -> list[str]:
    """Those that a reaper finds, which forgets them."""
    with abandoned(directory) as left:
        for journal in left:
            journal.forget()
        return [name for journal in left for name in journal.names]


def test_names_are_new_and_recorded_first(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal, Journal(tmp_path) as other:
        names = [journal.new_name(), journal.new_name(), other.new_name()]
        assert len(set(names)) == 3
        assert all(re.fullmatch(r"agenttrace-[0-9a-f]{12}-[12]", name) for name in names)
        assert journal.path.read_text().split() == names[:2]
        journal.forget(names[1])
        assert open_names(journal.path.read_text(), journal.path.stem) == (names[0],)
        journal.forget(names[0])
        other.forget(names[2])
    assert list(tmp_path.iterdir()) == []


def test_a_long_life_does_not_make_a_long_journal(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        kept = journal.new_name()
        for _ in range(SHORTENED_EVERY):
            journal.forget(journal.new_name())
        assert open_names(journal.path.read_text(), journal.path.stem) == (kept,)
        assert len(journal.path.read_text().split()) < SHORTENED_EVERY
        assert names_in(tmp_path) == []  # still locked: its runner lives
        last = journal.new_name()
    assert names_in(tmp_path) == [kept, last]
    assert not list(tmp_path.iterdir())


def test_a_container_that_could_not_be_removed_stays_on_record(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        kept, gone = journal.new_name(), journal.new_name()
        journal.forget(gone)
    assert names_in(tmp_path) == [kept]
    assert not list(tmp_path.iterdir())


def test_the_living_are_left_alone(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        name = journal.new_name()
        assert names_in(tmp_path) == []
        assert journal.path.exists()
        journal.forget(name)


def test_the_killed_are_found(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout
        names = holder.stdout.readline().split()
        assert names_in(tmp_path) == []
        holder.send_signal(signal.SIGKILL)
        holder.wait(10)
    assert names_in(tmp_path) == names
    assert not list(tmp_path.iterdir())


def test_nothing_is_forgotten_when_reaping_fails(tmp_path: Path) -> None:
    path = dead_journal(tmp_path, f"agenttrace-{DEAD}-1\n".encode())
    with pytest.raises(RuntimeError), abandoned(tmp_path):
        raise RuntimeError
    assert path.exists()
    with abandoned(tmp_path) as [journal]:
        assert journal.names == (f"agenttrace-{DEAD}-1",)
    assert path.exists()


def test_two_reapers_do_not_share(tmp_path: Path) -> None:
    dead_journal(tmp_path, f"agenttrace-{DEAD}-1\n".encode())
    with abandoned(tmp_path) as first, abandoned(tmp_path) as second:
        assert ([journal.names for journal in first], second) == ([(f"agenttrace-{DEAD}-1",)], [])


@pytest.mark.parametrize(
    "line",
    [
        b"postgres",
        b"../containers/postgres",
        b"agenttrace-ffffffffffff-1",
        b"agenttrace-0123456789ab-",
        b"agenttrace-0123456789ab-1x",
        b"agenttrace-0123456789ab-1?force=1",
        b"xagenttrace-0123456789ab-1",
        b"agenttrace-0123456789ab-" + b"9" * 5000,
        b"agenttrace-0123456789ab-\xd9\xa1",
        b"agenttrace-0123456789AB-1",
        b" agenttrace-0123456789ab-1",
        b"--force",
        b"\xff\xfe\x00",
        b"",
    ],
)
def test_a_line_that_we_did_not_write_names_nobody(tmp_path: Path, line: bytes) -> None:
    good = f"agenttrace-{DEAD}-7".encode()
    dead_journal(tmp_path, line + b"\n" + good + b"\n" + line)
    assert names_in(tmp_path) == [good.decode()]


def test_a_torn_last_line_is_a_name_that_may_not_exist(tmp_path: Path) -> None:
    dead_journal(tmp_path, f"agenttrace-{DEAD}-1\nagenttrace-{DEAD}-".encode())
    assert names_in(tmp_path) == [f"agenttrace-{DEAD}-1"]


def test_a_torn_line_hides_no_other(tmp_path: Path) -> None:
    """What a full disk leaves of `... gone` says nothing of a shorter name."""
    own = f"agenttrace-{DEAD}-"
    dead_journal(tmp_path, f"\n{own}1\n\n{own}12\n\n{own}12 go\n{own}3\n".encode())
    assert names_in(tmp_path) == [f"{own}1", f"{own}12", f"{own}3"]


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(tmp_path) as journal:
        name = journal.new_name()
        with monkeypatch.context() as full:
            full.setattr("os.write", lambda _descriptor, data: len(data) - 3)
            with pytest.raises(StorageFailed):
                journal.new_name()
        journal.forget(name)


def test_a_journal_is_locked_before_a_reaper_can_see_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    lock = fcntl.flock

    def look_and_lock(descriptor: int, operation: int) -> None:
        seen.append(sorted(path.name for path in tmp_path.glob("*.containers")))
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", look_and_lock)
    with Journal(tmp_path):
        pass
    assert seen == [[]]


def test_a_reaper_beside_many_starts(tmp_path: Path) -> None:
    stop = threading.Event()
    found: list[str] = []

    def reap() -> None:
        while not stop.is_set():
            found.extend(names_in(tmp_path))

    reaper = threading.Thread(target=reap)
    reaper.start()
    try:
        for _ in range(100):
            with Journal(tmp_path) as journal:
                name = journal.new_name()
                assert journal.path.exists()
                journal.forget(name)
    finally:
        stop.set()
        reaper.join()
    assert found == []


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="cannot write"), Journal(tmp_path / "file/journals"):
        pass
