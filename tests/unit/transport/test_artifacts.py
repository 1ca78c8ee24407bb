"""Names and bytes of an agent's files, on their way to the host's disk."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain import Limits
from runner.errors import ProtocolViolation, StorageFailed
from runner.transport.artifacts import LISTED_SKIPS, MAX_NAME_BYTES, Collection, safe_path
from runner.transport.messages import File
from tests.strategies import hostile_text

LIMITS = Limits(artifact_bytes=1000, artifact_files=3)

_pieces = [
    "/",
    "//",
    "..",
    ".",
    "~",
    "-",
    "\\",
    "C:",
    "%",
    "%2E",
    "\x00",
    "\n",
    "\x1b[2J",
    "\u202e",
]
_pieces += ["a", "é", "\udcff", "\ud800", "CON", "x" * 300, " ", "$(x)", "*", "\xff"]
paths = st.one_of(
    hostile_text.map(lambda text: text[:5000]),
    st.lists(st.sampled_from(_pieces), max_size=12).map("".join),
)
bytewise = st.binary(min_size=1, max_size=300).map(lambda raw: raw.decode("latin-1"))


@given(paths)
def test_a_safe_path_stays_below_and_harms_nobody(path: str) -> None:
    safe = safe_path(path)
    assert safe.isascii()
    assert safe.isprintable()
    assert not set(safe) & set(" \\<>:\"|?*&;$`!'(){}[]~#")
    parts = safe.split("/")
    assert all(part and not part.startswith(".") for part in parts)
    assert all(len(part) <= MAX_NAME_BYTES for part in parts)
    assert not PurePosixPath(safe).is_absolute()
    assert os.path.normpath(f"/base/{safe}") == f"/base/{safe}"


@given(bytewise, bytewise)
def test_names_that_differ_stay_different(one: str, other: str) -> None:
    def components(path: str) -> list[str]:
        return [part for part in path.split("/") if part]

    if components(one) != components(other):
        assert safe_path(one) != safe_path(other)


@pytest.mark.parametrize(
    ("path", "safe"),
    [
        ("a/b.txt", "a/b.txt"),
        ("../../etc/passwd", "%2E./%2E./etc/passwd"),
        ("/etc/passwd", "etc/passwd"),
        (".bashrc", "%2Ebashrc"),
        ("", "%"),
        ("//", "%"),
        ("100%", "100%25"),
        ("\xc3\xa9", "%C3%A9"),
        ("\x00\n", "%00%0A"),
        ("\u20ac", "%E2%82%AC"),
        ("\ud800", "%ED%A0%80"),
    ],
)
def test_safe_paths_as_people_see_them(path: str, safe: str) -> None:
    assert safe_path(path) == safe


def test_a_long_name_keeps_its_beginning_and_is_told_apart() -> None:
    one, other = safe_path("x" * 400 + "1"), safe_path("x" * 400 + "2")
    assert one != other
    assert one.startswith("x" * 200)


# -- caps, whatever the shim says ---------------------------------------------------------------


def put(collection: Collection, path: str, *chunks: bytes, claimed: int = 0) -> None:
    with collection.open(File(path=path, size=claimed)) as sink:
        for chunk in chunks:
            sink.write(chunk)


def test_what_is_recorded_is_what_arrived(tmp_path: Path) -> None:
    collection = Collection(tmp_path, LIMITS)
    put(collection, "a", b"one", b"two", claimed=2**62)
    (artifact,) = collection.artifacts()
    assert (artifact.size_bytes, artifact.sha256) == (6, hashlib.sha256(b"onetwo").hexdigest())
    assert (tmp_path / "a").read_bytes() == b"onetwo"


def test_more_bytes_than_asked_for(tmp_path: Path) -> None:
    collection = Collection(tmp_path, LIMITS)
    put(collection, "a", b"x" * 600)
    with pytest.raises(ProtocolViolation, match="more bytes"):
        put(collection, "b", b"x" * 400, b"x", claimed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_bytes_of_a_file_that_cannot_be_stored_count_too(tmp_path: Path) -> None:
    collection = Collection(tmp_path, LIMITS)
    put(collection, "a", b"x")
    with pytest.raises(ProtocolViolation, match="more bytes"):
        put(collection, "a", b"x" * 1000)


def test_more_files_than_asked_for(tmp_path: Path) -> None:
    collection = Collection(tmp_path, LIMITS)
    for name in "abc":
        put(collection, name)
    with pytest.raises(ProtocolViolation, match="more files"):
        put(collection, "d")


def test_nothing_is_ever_overwritten(tmp_path: Path) -> None:
    collection = Collection(tmp_path, LIMITS)
    put(collection, "a", b"first")
    put(collection, "a", b"second")
    put(collection, "a/b", b"below a file")
    kept, twice, below = collection.artifacts()
    assert (kept.path, kept.skipped) == ("a", "")
    assert "File exists" in twice.skipped
    assert below.skipped
    assert (tmp_path / "a").read_bytes() == b"first"


def test_no_link_is_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("kept")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "a").symlink_to(outside)
    collection = Collection(inside, LIMITS)
    put(collection, "a", b"overwritten")
    assert outside.read_text() == "kept"
    assert collection.artifacts()[0].skipped


def test_a_full_disk_is_ours_and_not_the_agents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    collection = Collection(tmp_path, LIMITS)
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageFailed, match="No space left"):
        put(collection, "a", b"x")


def test_a_short_write_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data[:2])))
    collection = Collection(tmp_path, LIMITS)
    put(collection, "a", b"12345")
    monkeypatch.undo()
    assert (tmp_path / "a").read_bytes() == b"12345"


def test_skipped_entries_are_counted_and_not_all_listed(tmp_path: Path) -> None:
    collection = Collection(tmp_path, LIMITS)
    for number in range(LISTED_SKIPS + 5):
        collection.skip(File(path=f"{number}", size=0), "x" * 10_000)
    artifacts = collection.artifacts()
    assert len(artifacts) == LISTED_SKIPS + 1
    assert artifacts[-1].skipped == "5 more entries were skipped"
    assert max(len(artifact.skipped) for artifact in artifacts) == 200
