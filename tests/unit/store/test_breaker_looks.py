"""A step of a breaker that changes nothing waits for nobody."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from runner.domain import Breaker
from runner.errors import StoreUnavailable
from runner.store import open_store, sqlite_url


def unchanged(breaker: Breaker) -> tuple[Breaker, int]:
    return breaker, breaker.failures


def failed(breaker: Breaker) -> tuple[Breaker, int]:
    return breaker.model_copy(update={"failures": breaker.failures + 1}), breaker.failures


def test_it_is_taken_while_another_one_writes(tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    with open_store(sqlite_url(file), patience_seconds=0.2) as store:
        store.breakers.update("engine", failed)
        with closing(sqlite3.connect(file, isolation_level=None)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            assert store.breakers.update("engine", unchanged) == 1
            assert store.breakers.update("another", unchanged) == 0
            with pytest.raises(StoreUnavailable):
                store.breakers.update("engine", failed)
        assert list(store.breakers.all()) == ["engine"]
        assert store.breakers.update("engine", failed) == 1
