"""Values that mean the same on every database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite

from runner.store.columns import Instant, Words
from tests.strategies import hostile_text

DIALECT = sqlite.dialect()
zones = st.integers(-14, 14).map(lambda hours: timezone(timedelta(hours=hours)))
moments = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=zones)  # noqa: DTZ001


@given(moments)
def test_a_moment_is_kept_to_the_microsecond(moment: datetime) -> None:
    stored = Instant().process_bind_param(moment, DIALECT)
    back = Instant().process_result_value(stored, DIALECT)
    assert back == moment
    assert back.tzinfo is UTC


@given(moments, moments)
def test_moments_sort_as_time_runs(one: datetime, other: datetime) -> None:
    stored = [Instant().process_bind_param(moment, DIALECT) for moment in (one, other)]
    assert (stored[0] < stored[1]) == (one < other)  # type: ignore[operator]


def test_nothing_stays_nothing() -> None:
    assert Instant().process_bind_param(None, DIALECT) is None
    assert Instant().process_result_value(None, DIALECT) is None
    assert Words().process_bind_param(None, DIALECT) is None


def test_a_moment_without_a_zone_is_a_mistake() -> None:
    with pytest.raises(TypeError):
        Instant().process_bind_param(datetime(2026, 1, 1), DIALECT)  # noqa: DTZ001


@given(hostile_text)
def test_any_text_is_utf_8_without_nul(text: str) -> None:
    stored = Words().process_bind_param(text, DIALECT)
    assert stored is not None
    assert "\0" not in stored
    stored.encode()
    if "\0" not in text and text.isprintable():
        assert stored == text
