"""Archives of strangers: every trick that a tar or a zip can play."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import InvalidSubmission
from runner.intake import archives as archives_module
from runner.intake.bundle import receive
from runner.intake.tree import BundleLimits

from .conftest import CODE, MANIFEST, SMALL

Nothing = Callable[[], bool]
Pack = Callable[..., Path]
FILES = {"submission.toml": MANIFEST, "agent.py": CODE}


def tar_of(files: dict[str, bytes], mode: str = "w") -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mode = 0o755 if name.endswith(".sh") else 0o600
            archive.addfile(info, io.BytesIO(data))
    return target.getvalue()


def zip_of(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return target.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def tar_with(*members: tarfile.TarInfo, format: int = tarfile.GNU_FORMAT) -> bytes:  # noqa: A002
    """A submission, and then those members."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=format) as archive:
        for name, data in FILES.items():
            archive.addfile(member(name, size=len(data)), io.BytesIO(data))
        for each in members:
            archive.addfile(each, io.BytesIO(bytes(each.size)) if each.isreg() else None)
    return target.getvalue()


@pytest.fixture
def refused(tmp_path: Path, bundles: Path, nothing_left: Nothing) -> Callable[..., str]:
    def refusal(data: bytes, name: str = "a.tar", limits: BundleLimits = SMALL) -> str:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InvalidSubmission) as caught:
            receive(tmp_path / name, bundles / "r1", limits)
        assert nothing_left()
        assert caught.value.remedy
        assert str(caught.value).isprintable()
        return caught.value.message

    return refusal


# -- honest ones ---------------------------------------------------------------------------------


@pytest.mark.parametrize("top", ["", "my-agent/", "./", "./my-agent/"])
@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.tar", tar_of),
        ("a.tar.gz", lambda files: tar_of(files, "w:gz")),
        ("a.tgz", lambda files: tar_of(files, "w:gz")),
        ("a.tar.bz2", lambda files: tar_of(files, "w:bz2")),
        ("a.tar.xz", lambda files: tar_of(files, "w:xz")),
        ("a.zip", zip_of),
    ],
)
def test_every_kind_arrives_the_same(
    tmp_path: Path, bundles: Path, source: Path, name: str, pack: Callable[..., bytes], top: str
) -> None:
    (tmp_path / name).write_bytes(pack({top + path: data for path, data in FILES.items()}))
    received = receive(tmp_path / name, bundles / "r1", SMALL)
    assert received.digest == receive(source, bundles / "r2", SMALL).digest
    assert (received.files, received.bytes) == (2, len(MANIFEST) + len(CODE))
    assert (bundles / "r1/agent.py").read_bytes() == CODE
    assert sorted(path.name for path in bundles.iterdir()) == ["r1", "r2"]


def test_clutter_beside_the_top_does_not_hide_it(tmp_path: Path, bundles: Path) -> None:
    files = {f"my/{path}": data for path, data in FILES.items()}
    extra = {"__MACOSX/x": b"1", "my/.git/config": b"2", "my/__pycache__/a.pyc": b"3"}
    (tmp_path / "a.zip").write_bytes(zip_of({**extra, **files}))
    receive(tmp_path / "a.zip", bundles / "r1", SMALL)
    assert sorted(p.name for p in (bundles / "r1").iterdir()) == ["agent.py", "submission.toml"]


def test_setuid_does_not_travel_and_execution_does(tmp_path: Path, bundles: Path) -> None:
    (tmp_path / "a.tar").write_bytes(
        tar_with(member("run", mode=0o6755), member("data", mode=0o6644))
    )
    receive(tmp_path / "a.tar", bundles / "r1", SMALL)
    modes = {p.name: p.stat().st_mode & 0o7777 for p in (bundles / "r1").iterdir()}
    assert (modes["run"], modes["data"]) == (0o755, 0o644)


# -- names ---------------------------------------------------------------------------------------

BAD_NAMES = [
    ("../evil", "leads out"),
    ("a/../../evil", "leads out"),
    ("/etc/evil", "is absolute"),
    ("a\\..\\evil", "characters that no name needs"),
    ("a\nb", "characters that no name needs"),
    ("a\x1b[2Jb", "characters that no name needs"),
    ("a\u202eyp.exe", "characters that no name needs"),
    ("a/" * 6 + "b", "directories deep"),
    ("a" * 256, "is too long"),
    ("é" * 128, "is too long"),
    ("agent.py", "is there twice"),
    ("./agent.py", "is there twice"),
    ("agent.py/b", "both a file and a directory"),
]


@pytest.mark.parametrize(("name", "part"), BAD_NAMES)
def test_bad_names_in_a_tar(refused: Callable[..., str], name: str, part: str) -> None:
    assert part in refused(tar_with(member(name)))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("name", "part"), BAD_NAMES)
def test_bad_names_in_a_zip(refused: Callable[..., str], name: str, part: str) -> None:
    target = io.BytesIO(zip_of(FILES))
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr(name, b"x")
    assert part in refused(target.getvalue(), "a.zip")


def test_a_nul_hides_no_name(refused: Callable[..., str]) -> None:
    data = zip_of({**FILES, "evilXhidden": b"x"}).replace(b"evilXhidden", b"evil\0hidden")
    assert "characters that no name needs" in refused(data, "a.zip")


def test_a_directory_twice_is_one(tmp_path: Path, bundles: Path) -> None:
    twice = [member("d", tarfile.DIRTYPE), member("d/", tarfile.DIRTYPE), member("d/x")]
    (tmp_path / "a.tar").write_bytes(tar_with(*twice))
    assert receive(tmp_path / "a.tar", bundles / "r1", SMALL).files == 3


# -- what is no file -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("info", "part"),
    [
        (member("x", tarfile.SYMTYPE, linkname="/etc/passwd"), "is a link"),
        (member("x", tarfile.SYMTYPE, linkname="agent.py"), "is a link"),
        (member("x", tarfile.LNKTYPE, linkname="agent.py"), "is a link"),
        (member("x", tarfile.CHRTYPE, devmajor=1, devminor=3), "is a device or a pipe"),
        (member("x", tarfile.BLKTYPE, devmajor=8, devminor=0), "is a device or a pipe"),
        (member("x", tarfile.FIFOTYPE), "is a device or a pipe"),
        (member("x", tarfile.CONTTYPE), ""),
        (member("x", b"V"), "is a device or a pipe"),
    ],
)
def test_members_that_are_no_files(
    tmp_path: Path, bundles: Path, info: tarfile.TarInfo, part: str
) -> None:
    (tmp_path / "a.tar").write_bytes(tar_with(info))
    if part:
        with pytest.raises(InvalidSubmission, match=part):
            receive(tmp_path / "a.tar", bundles / "r1", SMALL)
    else:  # kinds that tar itself takes for files
        receive(tmp_path / "a.tar", bundles / "r1", SMALL)
        assert (bundles / "r1/x").is_file()


def test_a_link_is_not_written_through(refused: Callable[..., str], tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = member("d", tarfile.SYMTYPE, linkname=str(outside))
    refused(tar_with(link, member("d/evil", size=1)))
    assert not list(outside.iterdir())


@pytest.mark.parametrize(("mode", "part"), [(0o120777, "a link"), (0o010644, "a device or a pipe")])
def test_zip_members_that_are_no_files(refused: Callable[..., str], mode: int, part: str) -> None:
    info = zipfile.ZipInfo("x")
    info.create_system = 3
    info.external_attr = mode << 16
    target = io.BytesIO(zip_of(FILES))
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr(info, b"/etc/passwd")
    assert part in refused(target.getvalue(), "a.zip")


def test_sparse_files(refused: Callable[..., str]) -> None:
    assert "sparse" in refused(tar_with(member("x", tarfile.GNUTYPE_SPARSE)))
    for fields in (
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "x"},
        {"GNU.sparse.map": "0,1,99999999999999,1", "GNU.sparse.size": "99999999999999"},
        {"GNU.sparse.size": "99999999999999", "GNU.sparse.numblocks": "0"},
    ):
        data = tar_with(member("x", pax_headers=fields), format=tarfile.PAX_FORMAT)
        assert "sparse" in refused(data)


# -- bombs ---------------------------------------------------------------------------------------


def _padded(compress: Callable[[bytes], bytes]) -> bytes:
    return compress(tar_with(member("x", size=2_000_000)))


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_a_large_file_packed_small(
    refused: Callable[..., str], compress: Callable[[bytes], bytes]
) -> None:
    data = _padded(compress)
    assert len(data) < 10_000
    assert "MiB" in refused(data)


def test_a_large_file_in_a_zip(refused: Callable[..., str]) -> None:
    assert "MiB" in refused(zip_of({**FILES, "x": bytes(2_000_000)}), "a.zip")


def test_zipped_files_add_up(refused: Callable[..., str]) -> None:
    files = {f"f{n}": bytes(60_000) for n in range(2)}
    assert "MiB" in refused(zip_of({**FILES, **files}), "a.zip")


def test_a_zip_that_lies_about_a_length(refused: Callable[..., str]) -> None:
    data = bytearray(zip_of({**FILES, "x": bytes(2_000_000)}))
    place = data.rindex(b"PK\x01\x02") + 24
    assert struct.unpack_from("<L", data, place) == (2_000_000,)
    struct.pack_into("<L", data, place, 10)
    refused(bytes(data), "a.zip")


def test_what_is_skipped_counts_too(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives_module, "SLACK_BYTES", 100_000)
    bomb = gzip.compress(tar_with(member(".git/x", size=2_000_000)))
    assert "unpacks to far more" in refused(bomb, "a.tar.gz")


def test_an_archive_that_is_large_itself(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives_module, "SLACK_BYTES", 0)
    assert "even packed" in refused(bytes(100_001))


def test_a_hundred_thousand_entries(refused: Callable[..., str]) -> None:
    def many(name: str) -> bytes:
        one = member(name).tobuf(tarfile.USTAR_FORMAT)
        return gzip.compress(tar_with()[:-10240] + one * 100_000, 1)

    assert "more than 20 files" in refused(many(".git/x"))
    assert "twice" in refused(many("x"))


def test_a_zip_of_many_entries(refused: Callable[..., str]) -> None:
    files = {f".git/{n}": b"" for n in range(201)}
    assert "more than 20 files" in refused(zip_of(files), "a.zip")
    assert "more than 20 files" in refused(zip_of({str(n): b"" for n in range(21)}), "a.zip")


def test_a_zip_with_a_huge_directory(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives_module, "MAX_DIRECTORY_BYTES", 70_000)
    assert "too large" in refused(zip_of({"a" * 60_000: b"", "b" * 60_000: b""}), "a.zip")


def test_a_header_that_wants_memory(refused: Callable[..., str]) -> None:
    for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE):
        header = member("x", kind, size=2**33 - 512).tobuf(tarfile.GNU_FORMAT)
        assert "more than 64 KiB" in refused(header + bytes(10240))


def test_pax_headers_without_end(refused: Callable[..., str]) -> None:
    one = member("x", tarfile.XHDTYPE).tobuf(tarfile.USTAR_FORMAT)
    refused(gzip.compress(one * 5000))


def test_a_negative_size(refused: Callable[..., str]) -> None:
    for size in ("-1", "-512", "-99999999", "9" * 30):
        data = tar_with(member("x", pax_headers={"size": size}), format=tarfile.PAX_FORMAT)
        refused(data)


def test_an_xz_that_wants_memory(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives_module, "XZ_MEMORY_BYTES", 1024**2)
    packed = lzma.compress(tar_of(FILES), preset=9)
    assert "not an archive that can be read" in refused(packed)


# -- damaged, encrypted, empty -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.zip"])
@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\x1f\x8b", b"PK\x03\x04", b"BZh9", b"\xfd7zXZ\0"]
)
def test_no_archive_at_all(refused: Callable[..., str], name: str, data: bytes) -> None:
    refused(data, name)


def test_an_archive_without_a_manifest(refused: Callable[..., str]) -> None:
    for files in ({"agent.py": CODE}, {"a/b/submission.toml": b""}, {"a/x": b"", "b/y": b""}):
        assert "has no submission.toml" in refused(tar_of(files))


def test_an_encrypted_zip(refused: Callable[..., str]) -> None:
    data = bytearray(zip_of(FILES))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    assert "encrypted" in refused(bytes(data), "a.zip")


def test_a_zip_packed_in_another_way(refused: Callable[..., str]) -> None:
    data = zip_of(FILES, zipfile.ZIP_LZMA)
    assert "not read here" in refused(data, "a.zip")


def _damaged() -> Iterator[tuple[str, bytes]]:
    yield "a.tar", tar_of(FILES)
    yield "a.tar.gz", tar_of(FILES, "w:gz")
    yield "a.tar.xz", tar_of(FILES, "w:xz")
    yield "a.zip", zip_of(FILES)


@pytest.mark.parametrize(("name", "data"), [*_damaged()])
def test_one_that_was_cut_short(refused: Callable[..., str], name: str, data: bytes) -> None:
    end = 1100 if name == "a.tar" else len(data) - 8
    refused(data[:end], name)


@settings(deadline=None)
@given(
    which=st.sampled_from([*_damaged()]),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6),
)
def test_damage_is_never_our_fault(
    tmp_path_factory: pytest.TempPathFactory,
    which: tuple[str, bytes],
    changes: list[tuple[int, int]],
) -> None:
    name, data = which[0], bytearray(which[1])
    for place, byte in changes:
        data[place % len(data)] = byte
    top = tmp_path_factory.mktemp("damaged")
    (top / name).write_bytes(data)
    with suppress(InvalidSubmission):
        receive(top / name, top / "bundles/r1", SMALL)
    left = [path.name for path in (top / "bundles").iterdir()]
    assert left in ([], ["r1"])
