"""Build contexts: deterministic, bounded, and nothing from outside the directory."""

from __future__ import annotations

import os
import socket
import tarfile
from pathlib import Path

import pytest

from runner.errors import BuildFailed
from runner.images.context import Context
from runner.images.ignore import IgnoreRules, read_ignore_lines
from runner.images.limits import BuildLimits


def members(root: Path, *ignore: str, **limits: int) -> dict[str, tarfile.TarInfo]:
    with Context(BuildLimits(**limits)) as context:
        context.add_tree(root, IgnoreRules(ignore))
        with tarfile.open(fileobj=context.finished()) as archive:
            return {member.name: member for member in archive}


def digest(root: Path) -> str:
    with Context(BuildLimits()) as context:
        context.add_tree(root, IgnoreRules([]))
        return context.digest


def fill(root: Path) -> Path:
    (root / "sub").mkdir(parents=True)
    (root / "b").write_text("b")
    (root / "sub" / "a").write_text("a")
    (root / "run").write_text("#!/bin/sh")
    (root / "run").chmod(0o6755)
    (root / "link").symlink_to("sub/a")
    return root


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = fill(tmp_path / "one"), fill(tmp_path / "two")
    os.utime(two / "b", (1, 1))
    (two / "b").chmod(0o600)
    assert digest(one) == digest(two)
    (two / "b").write_text("c")
    assert digest(one) != digest(two)


def test_owners_times_and_set_uid_do_not_travel(tmp_path: Path) -> None:
    found = members(fill(tmp_path / "x"))
    assert set(found) == {"b", "link", "run", "sub", "sub/a"}
    assert all((m.uid, m.gid, m.mtime, m.uname) == (0, 0, 0, "") for m in found.values())
    assert found["run"].mode == 0o755
    assert found["link"].linkname == "sub/a"


@pytest.mark.parametrize("target", ["/etc/passwd", "../x", "sub/../../x", ".."])
def test_links_out_are_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(BuildFailed, match="links to"):
        members(tmp_path)
    assert members(tmp_path, "link") == {}


def test_what_is_not_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BuildFailed, match="named pipe"):
        members(tmp_path)
    (tmp_path / "pipe").unlink()
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("sock")
        with pytest.raises(BuildFailed, match="socket"):
            members(tmp_path)


def test_caps(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(BuildFailed, match="more than"):
        members(tmp_path)
    (tmp_path / "sparse").unlink()
    for number in range(11):
        (tmp_path / str(number)).touch()
    with pytest.raises(BuildFailed, match="more than 10 files"):
        members(tmp_path, context_files=10)


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).touch()
    with pytest.raises(BuildFailed, match="not UTF-8"):
        members(tmp_path)


def test_ignore_rules() -> None:
    rules = IgnoreRules(["# no", "*.log", "**/cache", "sub", "!sub/keep", "docs/*.md", " /lead/ "])
    excluded = {"a.log", "cache", "x/cache", "x/y/cache/z", "sub", "sub/b", "docs/a.md", "lead"}
    assert {path for path in excluded if rules.excludes(path)} == excluded
    assert not any(map(rules.excludes, ["x/a.log", "sub/keep", "docs/x/a.md", "cached", "a"]))


def test_a_hostile_pattern_takes_linear_time() -> None:
    assert not IgnoreRules(["a*" * 200 + "b"]).excludes("a" * 4000)


def test_an_exception_below_an_ignored_directory(tmp_path: Path) -> None:
    fill(tmp_path / "x")
    assert "sub/a" in members(tmp_path / "x", "sub", "!sub/a")


def test_an_ignore_file_is_bounded(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text("a\n" * 2000)
    with pytest.raises(BuildFailed, match="shorten"):
        read_ignore_lines(tmp_path)
