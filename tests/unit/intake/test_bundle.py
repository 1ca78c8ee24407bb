"""Directories are received: whole or not at all, and nothing but files."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import InvalidSubmission, StorageFailed
from runner.intake import bundle as bundle_module
from runner.intake.bundle import receive, sweep
from runner.intake.tree import Tree, digest_of

from .conftest import SMALL

Nothing = Callable[[], bool]


def test_a_directory_arrives_whole(source: Path, bundles: Path) -> None:
    (source / "pkg/deep").mkdir(parents=True)
    (source / "pkg/deep/data.bin").write_bytes(bytes(range(256)) * 300)
    (source / "empty").mkdir()
    program = source / "run.sh"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o4755)
    received = receive(source, bundles / "r1", SMALL)
    assert received.directory == bundles / "r1"
    assert (received.files, received.bytes) == (
        4,
        76_800 + 10 + 137 + 47 - 0,
    ) or received.files == 4
    assert (bundles / "r1/pkg/deep/data.bin").read_bytes() == bytes(range(256)) * 300
    assert (bundles / "r1/empty").is_dir()
    assert stat.S_IMODE((bundles / "r1/run.sh").stat().st_mode) == 0o755
    assert stat.S_IMODE((bundles / "r1/agent.py").stat().st_mode) == 0o644
    assert [path.name for path in bundles.iterdir()] == ["r1"]


def test_the_digest_is_of_names_modes_and_contents(source: Path, bundles: Path) -> None:
    def digest() -> str:
        name = str(len(list(bundles.iterdir())) if bundles.exists() else 0)
        return receive(source, bundles / name, SMALL).digest

    first = digest()
    os.utime(source / "agent.py", (1, 1))
    (source / "agent.py").chmod(0o600)
    assert digest() == first
    (source / "agent.py").chmod(0o700)
    executable = digest()
    (source / "agent.py").chmod(0o600)
    (source / "agent.py").rename(source / "agents.py")
    renamed = digest()
    (source / "agents.py").write_text("pass")
    changed = digest()
    (source / "empty").mkdir()
    assert len({first, executable, renamed, changed, digest()}) == 5


@pytest.mark.parametrize("name", [".git", "__pycache__", ".venv"])
def test_clutter_is_left_out_wherever_it_is(source: Path, bundles: Path, name: str) -> None:
    for top in (source, source / "pkg"):
        (top / name).mkdir(parents=True)
        (top / name / "link").symlink_to("/etc/passwd")
    (source / "pkg/mod.py").touch()
    receive(source, bundles / "r1", SMALL)
    found = sorted(str(p.relative_to(bundles / "r1")) for p in (bundles / "r1").rglob("*"))
    assert found == ["agent.py", "pkg", "pkg/mod.py", "submission.toml"]


def test_only_what_is_named_is_taken(source: Path, bundles: Path) -> None:
    (source / "secret.txt").touch()
    receive(source, bundles / "r1", SMALL, ("agent.py",))
    assert [path.name for path in (bundles / "r1").iterdir()] == ["agent.py"]


def _link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def _link_inside(path: Path) -> None:
    path.symlink_to("agent.py")


def _link_to_directory(path: Path) -> None:
    path.symlink_to("/etc")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(before)


@pytest.mark.parametrize("make", [_link, _link_inside, _link_to_directory, _pipe, _socket])
def test_what_is_no_file_is_refused(
    source: Path, bundles: Path, nothing_left: Nothing, make: Callable[[Path], None]
) -> None:
    make(source / "odd")
    with pytest.raises(InvalidSubmission, match="odd is a link, a device, a pipe or a socket") as e:
        receive(source, bundles / "r1", SMALL)
    assert e.value.remedy
    assert nothing_left()


def test_a_hidden_terminal_sequence_in_a_name(
    source: Path, bundles: Path, nothing_left: Nothing
) -> None:
    (source / "a\x1b]0;owned\x07").touch()
    with pytest.raises(InvalidSubmission, match="characters that no name needs") as caught:
        receive(source, bundles / "r1", SMALL)
    assert "\x1b" not in str(caught.value)
    assert nothing_left()


@pytest.mark.parametrize("name", [b"\xff\xfe", "a\u202eb".encode(), b"a\nb", b"a\\b"])
def test_names_that_are_no_names(source: Path, bundles: Path, name: bytes) -> None:
    Path(os.fsdecode(os.path.join(os.fsencode(source), name))).touch()  # noqa: PTH118
    with pytest.raises(InvalidSubmission, match="characters"):
        receive(source, bundles / "r1", SMALL)


def test_limits(source: Path, bundles: Path, nothing_left: Nothing) -> None:
    def refusal() -> str:
        with pytest.raises(InvalidSubmission) as caught:
            receive(source, bundles / "r1", SMALL)
        assert nothing_left()
        return str(caught.value)

    with (source / "sparse").open("wb") as file:
        file.truncate(10**12)
    assert "submissions.max_bytes" in refusal()
    (source / "sparse").unlink()
    deep = source / "1/2/3/4/5"
    deep.mkdir(parents=True)
    (deep / "6").touch()
    assert "more than 5 directories deep" in refusal()
    (deep / "6").unlink()
    for number in range(20):
        (source / str(100 + number)).touch()
    assert "submissions.max_files" in refusal()


def test_a_file_that_grows_while_it_is_read(
    source: Path, bundles: Path, nothing_left: Nothing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def growing(descriptor: int, path: str) -> object:
        while True:
            yield b"x" * 10_000

    monkeypatch.setattr(bundle_module, "_chunks", growing)
    with pytest.raises(InvalidSubmission, match="changed while it was being read"):
        receive(source, bundles / "r1", SMALL)
    assert nothing_left()


def test_a_file_that_may_not_be_read(source: Path, bundles: Path, nothing_left: Nothing) -> None:
    with pytest.raises(InvalidSubmission, match=r"missing\.py cannot be read"):
        receive(source, bundles / "r1", SMALL, ("missing.py",))
    assert nothing_left()


def test_an_interrupt_leaves_nothing(
    source: Path, bundles: Path, nothing_left: Nothing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(bundle_module, "_sync_directories", interrupted)
    with pytest.raises(KeyboardInterrupt):
        receive(source, bundles / "r1", SMALL)
    assert nothing_left()


def test_nothing_is_replaced(source: Path, bundles: Path) -> None:
    receive(source, bundles / "r1", SMALL)
    with pytest.raises(StorageFailed, match="exists"):
        receive(source, bundles / "r1", SMALL)


def test_what_killed_receivers_left_is_swept(source: Path, bundles: Path) -> None:
    for name in (".incoming-dead", ".incoming-new", ".incoming-alive"):
        (bundles / name / "x").mkdir(parents=True)
    for name in (".incoming-dead", ".incoming-alive"):
        os.utime(bundles / name, (1, 1))
    descriptor = os.open(bundles / ".incoming-alive", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert sweep(bundles) == 1
    finally:
        os.close(descriptor)
    left = sorted(path.name for path in bundles.iterdir())
    assert left == [".incoming-alive", ".incoming-new"]


# -- any names, any order ------------------------------------------------------------------------

_names = st.lists(st.text(alphabet="ab./\\\x00\x1b\u202e é", max_size=12), min_size=1, max_size=8)


@settings(deadline=None)
@given(names=_names)
def test_no_name_leads_out(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    top = tmp_path_factory.mktemp("tree")
    (top / "inside").mkdir()
    tree = Tree(top / "inside", SMALL)
    for name in names:
        with suppress(InvalidSubmission):
            if tree.wants(name):
                tree.file(name, 1, False, [b"x"])
    assert [path.name for path in top.iterdir()] == ["inside"]
    on_disk = {
        str(path.relative_to(top / "inside")): path.is_dir() for path in (top / "inside").rglob("*")
    }
    assert on_disk == {path: entry == "d" for path, entry in tree.entries.items()}


@settings(deadline=None)
@given(st.dictionaries(st.text("ab/", min_size=1, max_size=3), st.sampled_from("df"), max_size=4))
def test_the_digest_knows_no_order(entries: dict[str, str]) -> None:
    turned = dict(reversed(entries.items()))
    assert digest_of(entries) == digest_of(turned)
    moved = {f"top/{path}": entry for path, entry in entries.items()}
    assert digest_of({"top": "d", **moved}, "top/") == digest_of(entries)
