"""Containers that could not be removed at once are remembered until they are gone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.errors import EngineUnavailable
from runner.sandbox.journal import Journal, abandoned
from runner.sandbox.leftovers import LATEST_SECONDS, Leftovers


class Engine:
    """What removes containers."""

    def __init__(self) -> None:
        self.containers: set[str] = set()
        self.down = False
        self.asked: list[str] = []

    async def remove(self, name: str) -> bool:
        self.asked.append(name)
        if self.down:
            raise EngineUnavailable("down")
        found = name in self.containers
        self.containers.discard(name)
        return found


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path) as journal:
        yield journal


def remembered(journal: Journal) -> list[str]:
    return journal.path.read_text().split()


async def test_a_removed_one_is_forgotten(engine: Engine, journal: Journal) -> None:
    left, name = Leftovers(journal, engine.remove), journal.new_name()
    engine.containers.add(name)
    await left.end(name, engine.remove)
    await left.sweep()
    assert engine.asked == [name]


async def test_one_that_an_engine_did_not_remove_is_removed_later(
    engine: Engine, journal: Journal
) -> None:
    left, name = Leftovers(journal, engine.remove), journal.new_name()
    engine.containers.add(name)
    left.certain(name)
    engine.down = True
    with pytest.raises(EngineUnavailable):
        await left.end(name, engine.remove)
    await left.sweep()
    assert engine.containers
    engine.down = False
    await left.sweep()
    assert not engine.containers
    asked = len(engine.asked)
    await left.sweep()
    assert len(engine.asked) == asked, "it is forgotten"


async def test_one_whose_create_was_never_answered_is_looked_for_again(
    engine: Engine, journal: Journal
) -> None:
    left, name = Leftovers(journal, engine.remove), journal.new_name()
    await left.end(name, engine.remove)  # not there yet
    await left.sweep()
    engine.containers.add(name)  # the engine was slow
    await left.sweep()
    assert not engine.containers


async def test_one_that_never_comes_is_left_to_the_reaper(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Journal(tmp_path) as journal:
        left, name = Leftovers(journal, engine.remove), journal.new_name()
        await left.end(name, engine.remove)
        now = time.monotonic()
        monkeypatch.setattr("time.monotonic", lambda: now + LATEST_SECONDS + 1)
        await left.sweep()
        asked = len(engine.asked)
        await left.sweep()
        assert len(engine.asked) == asked
    with abandoned(tmp_path) as [left_journal]:
        assert left_journal.names == (name,)
