"""Suites by name and by path."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from runner.errors import InvalidSuite, UsageError
from runner.ports import SuiteCatalog
from runner.suites import DirectoryCatalog
from runner.suites.catalog import PACKAGED


def test_it_is_a_catalog() -> None:
    catalog: SuiteCatalog = DirectoryCatalog()
    assert catalog.names() == ["starter"]
    assert catalog.load("starter").name == "starter"


def test_a_copy_elsewhere_has_the_same_digest(tmp_path: Path) -> None:
    copy = shutil.copytree(PACKAGED["starter"], tmp_path / "copy")
    assert DirectoryCatalog().load(str(copy)) == DirectoryCatalog().load("starter")


def test_a_name_comes_before_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "starter").mkdir()
    assert DirectoryCatalog().load("starter").tasks
    with pytest.raises(InvalidSuite, match=r"has no suite\.toml"):
        DirectoryCatalog().load("./starter")


@pytest.mark.parametrize("name", ["nosuch", "/no/such", "", "a\nb", "~nobody/x", "a\0b"])
def test_an_unknown_name(name: str) -> None:
    with pytest.raises(UsageError, match="known suites: starter; or give a directory") as raised:
        DirectoryCatalog().load(name)
    assert str(raised.value).isprintable()
