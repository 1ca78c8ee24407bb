"""What ports.BreakerStore promises, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from runner.domain import Breaker
from runner.store import Store
from tests.unit.store.nouns import NOW


def more(breaker: Breaker) -> tuple[Breaker, int]:
    after = breaker.model_copy(update={"failures": breaker.failures + 1, "opened_at": NOW})
    return after, after.failures


def test_a_step_is_remembered_by_name(store: Store) -> None:
    assert store.breakers.update("a", more) == 1
    assert store.breakers.update("a", more) == 2
    assert store.breakers.update("b", more) == 1
    assert store.breakers.all() == {
        "a": Breaker(failures=2, opened_at=NOW),
        "b": Breaker(failures=1, opened_at=NOW),
    }


def test_one_that_is_as_new_is_not_listed(store: Store) -> None:
    store.breakers.update("a", more)
    store.breakers.update("a", lambda _: (Breaker(), None))
    store.breakers.update("b", lambda breaker: (breaker, None))
    assert store.breakers.all() == {}


def test_a_step_that_raises_changes_nothing(store: Store) -> None:
    store.breakers.update("a", more)
    with pytest.raises(ZeroDivisionError):
        store.breakers.update("a", lambda breaker: (breaker, 1 / 0))
    assert store.breakers.all()["a"].failures == 1


def test_no_step_is_lost_between_threads(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(lambda _: store.breakers.update("a", more), range(80)))
    assert sorted(seen) == list(range(1, 81))
