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
    assert catalog.names() == ["starter", "tools"]
    assert [catalog.load(name).name for name in catalog.names()] == catalog.names()


@pytest.mark.parametrize("name", PACKAGED)
def test_a_copy_elsewhere_has_the_same_digest(name: str, tmp_path: Path) -> None:
    copy = shutil.copytree(PACKAGED[name], tmp_path / "copy")
    assert DirectoryCatalog().load(str(copy)) == DirectoryCatalog().load(name)


def test_a_name_comes_before_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "starter").mkdir()
    assert DirectoryCatalog().load("starter").tasks
    with pytest.raises(InvalidSuite, match=r"has no suite\.toml"):
        DirectoryCatalog().load("./starter")


@pytest.mark.parametrize("name", ["nosuch", "/no/such", "", "a\nb", "~nobody/x", "a\0b"])
def test_an_unknown_name(name: str) -> None:
    with pytest.raises(UsageError, match="known suites: starter, tools; or give") as raised:
        DirectoryCatalog().load(name)
    assert str(raised.value).isprintable()
