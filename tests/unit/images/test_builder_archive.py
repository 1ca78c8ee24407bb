"""Image archives: hostile ones are refused, honest ones lose their names."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from runner.errors import BuildFailed
from runner.images.archive import clean_archive
from runner.images.limits import BuildLimits

MIB = 1024**2


def tar(files: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            info = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = 0 if isinstance(data, tarfile.TarInfo) else len(data)
            archive.addfile(info, io.BytesIO(data) if isinstance(data, bytes) else None)
    return buffer.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


LAYER = tar({"x": b"hello"})
CONFIG = json.dumps({"rootfs": {"diff_ids": [hashlib.sha256(LAYER).hexdigest()]}}).encode()


def archive(**changes: Any) -> bytes:
    entry = {"Config": "c.json", "RepoTags": ["agenttrace/python:3.11"], "Layers": ["l/layer.tar"]}
    files = {"c.json": CONFIG, "l/layer.tar": LAYER, "repositories": b"{}"}
    files |= {"manifest.json": json.dumps([entry | changes]).encode()}
    return tar(files)


def cleaned(path: Path, data: bytes, **limits: int) -> tuple[str, dict[str, bytes]]:
    path = path / "image.tar"
    path.write_bytes(data)
    with (
        clean_archive(path, BuildLimits(**limits)) as clean,
        tarfile.open(fileobj=clean.file) as found,
    ):
        contents = {m.name: found.extractfile(m).read() for m in found}  # type: ignore[union-attr]
        return clean.image_id, contents


def test_names_are_left_out(tmp_path: Path) -> None:
    image_id, files = cleaned(tmp_path, archive())
    identity = hashlib.sha256(CONFIG).hexdigest()
    assert image_id == f"sha256:{identity}"
    assert set(files) == {"0.tar", f"{identity}.json", "manifest.json"}
    assert files["0.tar"] == LAYER
    assert json.loads(files["manifest.json"]) == [
        {"Config": f"{identity}.json", "RepoTags": None, "Layers": ["0.tar"]}
    ]


def test_compression_by_gzip_is_undone(tmp_path: Path) -> None:
    inner = tar(
        {
            "c.json": CONFIG,
            "l.tar": gzip.compress(LAYER),
            "manifest.json": json.dumps([{"Config": "c.json", "Layers": ["l.tar"]}]).encode(),
        }
    )
    assert cleaned(tmp_path, gzip.compress(inner))[1]["0.tar"] == LAYER


def test_a_repeated_layer_may_be_a_link(tmp_path: Path) -> None:
    data = tar(
        {
            "c.json": CONFIG,
            "a/layer.tar": LAYER,
            "b/layer.tar": link("b/layer.tar", "../a/layer.tar"),
            "manifest.json": json.dumps(
                [{"Config": "c.json", "Layers": ["a/layer.tar", "b/layer.tar"]}]
            ).encode(),
        }
    )
    manifest = json.loads(cleaned(tmp_path, data)[1]["manifest.json"])
    assert manifest[0]["Layers"] == ["0.tar", "0.tar"]


def sparse_layer() -> bytes:
    info = tarfile.TarInfo("big")
    info.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.map": "0,0",
        "GNU.sparse.size": str(1 << 40),
        "GNU.sparse.realsize": str(1 << 40),
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as layers:
        layers.addfile(info)
    return buffer.getvalue()


def long_header() -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 30
    return info.tobuf(tarfile.USTAR_FORMAT) + bytes(1024)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "not a readable archive"),
        (b"hello" * 1000, "not a readable archive"),
        (gzip.compress(b"x")[:-4], "not a readable archive"),
        (b"BZh91AY", "compressed by something else"),
        (tar({"x": b""}), "it has no manifest.json"),
        (tar({"manifest.json": b"{"}), "not JSON"),
        (tar({"manifest.json": b"[" * 100_000}), "not JSON"),
        (tar({"manifest.json": b"[]"}), "not exactly one image"),
        (tar({"manifest.json": b"[{},{}]"}), "not exactly one image"),
        (tar({"manifest.json": b" " * (2 * MIB)}), "bytes"),
        (tar({"../x": b""}), "entry named"),
        (tar({"/x": b""}), "entry named"),
        (tar({"a\nb": b""}), "entry named"),
        (archive(Config="missing"), "lacks the file 'missing'"),
        (archive(Config=7), "lacks the file"),
        (archive(Layers=["missing"]), "lacks the file"),
        (archive(Layers=["l"] * 300), "at most 200 layers"),
        (archive(Layers=["c.json"]), "not a readable archive"),
        (gzip.compress(bytes(20 * MIB)), "unpacks to more than 8 MiB"),
        (
            tar(
                {
                    "c.json": CONFIG,
                    "l": sparse_layer(),
                    "manifest.json": b'[{"Config": "c.json", "Layers": ["l"]}]',
                }
            ),
            "unpacks to more than 8 MiB",
        ),
        (
            tar(
                {
                    "c.json": CONFIG,
                    "l": gzip.compress(bytes(20 * MIB)),
                    "manifest.json": b'[{"Config": "c.json", "Layers": ["l"]}]',
                }
            ),
            "unpacks to more than 8 MiB",
        ),
        (
            tar(
                {
                    "c.json": link("c.json", "/etc/passwd"),
                    "manifest.json": b'[{"Config": "c.json", "Layers": []}]',
                }
            ),
            "lacks the file",
        ),
        (long_header(), "a header is too long"),
    ],
)
def test_refused(tmp_path: Path, data: bytes, problem: str) -> None:
    with pytest.raises(BuildFailed) as caught:
        cleaned(tmp_path, data, image_bytes=8 * MIB)
    assert problem in str(caught.value)
    assert str(caught.value).isprintable()
