"""`agenttrace cleanup`: its options become settings, its report becomes lines or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from runner.bootstrap.request import CleanupReport
from runner.domain.removal import Kept, Removal, RemovalKind

from .conftest import FakeBootstrap, Outcome

Agenttrace = Callable[..., Outcome]


def cleaned() -> CleanupReport:
    def image(name: str, freed: int) -> Removal:
        return Removal(kind=RemovalKind.IMAGE, name=name, why="unused", bytes_freed=freed)

    killed = Removal(kind=RemovalKind.CONTAINER, name="container \x1b a", why="killed")
    return CleanupReport(
        removals=(killed, image("image b", 3 << 20), image("image c", 512)),
        spared=(Kept(name="image d", why="a run in progress uses it"),),
    )


def test_cleanup(agenttrace: Agenttrace, bootstrap: FakeBootstrap) -> None:
    bootstrap.answers["cleanup"] = cleaned()
    shown = agenttrace("cleanup", "--dry-run")
    assert shown.out.splitlines() == [
        "killed:",
        "would remove container \\x1b a",
        "unused:",
        "would remove image b (3.0 MiB)",
        "would remove image c (512 B)",
        "3.0 MiB would be freed",
    ]
    assert shown.err == "kept image d: a run in progress uses it\n"
    assert bootstrap.calls[-1][2] == {"dry_run": True, "everything": False}
    assert "removed image b (3.0 MiB)\n" in agenttrace("cleanup").out


def test_cleanup_as_data(agenttrace: Agenttrace, bootstrap: FakeBootstrap) -> None:
    bootstrap.answers["cleanup"] = cleaned()
    data = json.loads(agenttrace("cleanup", "--all", "--json").out)
    assert data["dry_run"] is False
    assert data["removed"] == ["container \x1b a", "image b", "image c"]
    assert data["kept"] == ["image d: a run in progress uses it"]
    assert data["bytes_freed"] == (3 << 20) + 512
    assert data["removals"][1] == {
        "kind": "image",
        "name": "image b",
        "why": "unused",
        "bytes_freed": 3 << 20,
    }
    assert bootstrap.calls[-1][2] == {"dry_run": False, "everything": True}


def test_cleanup_of_nothing(agenttrace: Agenttrace, bootstrap: FakeBootstrap) -> None:
    bootstrap.answers["cleanup"] = CleanupReport()
    assert agenttrace("cleanup").out == "nothing to remove\n"


def test_cleanup_with_other_bounds(agenttrace: Agenttrace, bootstrap: FakeBootstrap) -> None:
    bootstrap.answers["cleanup"] = CleanupReport()
    agenttrace("cleanup")
    assert bootstrap.settings.retention.runs_days == 0
    assert bootstrap.settings.retention.image_bytes == 20 << 30
    agenttrace("cleanup", "--runs-older-than", "1.5", "--images-over", "5GiB")
    assert bootstrap.settings.retention.runs_days == 1.5
    assert bootstrap.settings.retention.image_bytes == 5 << 30


@pytest.mark.parametrize(
    "wrong",
    [
        ("--runs-older-than", "0"),
        ("--runs-older-than", "soon"),
        ("--images-over", "0"),
        ("--images-over", "all"),
    ],
)
def test_cleanup_with_bounds_that_are_none(
    agenttrace: Agenttrace, bootstrap: FakeBootstrap, wrong: tuple[str, str]
) -> None:
    assert agenttrace("cleanup", *wrong).code == 2
    assert not bootstrap.calls
