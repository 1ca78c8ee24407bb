from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.reporting.escape import escape, shorten

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))


@pytest.mark.parametrize(
    ("hostile", "inert"),
    [
        ("plain [red]text[/red]", "plain [red]text[/red]"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x1b]8;;http://evil\x1b\\link", "\\x1b]8;;http://evil\\x1b\\link"),
        ("\x9b31m", "\\x9b31m"),
        ("a\rb\bc\x7f\x00", "a\\rb\\x08c\\x7f\\x00"),
        ("one\ntwo\tthree", "one\\ntwo\\tthree"),
        ("abc\u202etxt.exe", "abc\\u202etxt.exe"),
        ("a\u200bb\u2066c\ufeff", "a\\u200bb\\u2066c\\ufeff"),
        ("\u2028\u2029\x85", "\\u2028\\u2029\\x85"),
        ("\ud800", "\\ud800"),
        ("\ue000", "\\ue000"),
        ("\u3164\u2800\ufe0f", "\\u3164\\u2800\\ufe0f"),
        ("\U000e0041", "\\U000e0041"),
        ("a\u00a0b\u3000c", "a b c"),
        ("Größe 漢字 😀 e\u0301", "Größe 漢字 😀 e\u0301"),
        ("e" + "\u0301" * 5, "e" + "\u0301" * 3 + "\\u0301\\u0301"),
        (b"ok\xff\xfe\x1b", "ok\\xff\\xfe\\x1b"),
    ],
)
def test_what_is_not_visible_is_written_out(hostile: str | bytes, inert: str) -> None:
    assert escape(hostile) == inert


def test_newlines_stay_only_when_asked_for() -> None:
    assert escape("a\r\nb\n\tc\rd", newlines=True) == "a\nb\n    c\\rd"


@given(st.one_of(ANY_TEXT, st.binary()), st.booleans())
def test_nothing_that_drives_a_terminal_is_left(hostile: str | bytes, newlines: bool) -> None:
    shown = escape(hostile, newlines=newlines)
    assert all(line.isprintable() for line in shown.split("\n"))
    assert newlines or "\n" not in shown
    shown.encode("utf-8", "strict")
    bad = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert not bad & {unicodedata.category(each) for each in shown.replace("\n", "")}
    assert escape(shown, newlines=newlines) == shown


@given(ANY_TEXT, st.integers(3, 50))
def test_shortened_text_is_inert_and_short(hostile: str, limit: int) -> None:
    assert len(shorten(hostile, limit)) <= limit
    assert shorten(hostile, limit).isprintable()


def test_shortening_keeps_what_fits() -> None:
    assert shorten("abcdef", 6) == "abcdef"
    assert shorten("abcdefg", 6) == "abc..."
    assert shorten("x" * 10_000_000, 6) == "xxx..."
