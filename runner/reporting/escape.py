"""Makes hostile text inert where a person reads it: no byte of an agent's drives the terminal."""

from __future__ import annotations

import unicodedata
from itertools import groupby

ELLIPSIS = "..."

_INVISIBLE = frozenset(
    chr(point)
    for first, last in (
        (0x034F, 0x034F),
        (0x115F, 0x1160),
        (0x17B4, 0x17B5),
        (0x180B, 0x180F),
        (0x2800, 0x2800),
        (0x3164, 0x3164),
        (0xFE00, 0xFE0F),
        (0xFFA0, 0xFFA0),
        (0xE0100, 0xE01EF),
    )
    for point in range(first, last + 1)
)
"""Printable by their category, and yet nothing is seen: Unicode's Default_Ignorable_Code_Point
(DerivedCoreProperties.txt) less what `str.isprintable` refuses already, and the braille blank."""

_MARKS_ALLOWED = 3
"""On one letter. Written languages need no more; a hundred of them cover the lines around."""


def escape(text: str | bytes, *, newlines: bool = False) -> str:
    r"""`text` with all that is not plainly visible written as Python would: `\x1b`, `\u202e`.

    That covers ANSI and OSC sequences, C0 and C1 controls, bidirectional overrides, zero width and
    private characters, surrogates and bytes that are no UTF-8. With `newlines`, line ends stay
    line ends and tabs become four spaces. Markup is not touched: hand the result to rich as `Text`.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    if not newlines:
        return _escape_line(text)
    lines = text.replace("\r\n", "\n").replace("\t", "    ").split("\n")
    return "\n".join(map(_escape_line, lines))


def shorten(text: str | bytes, limit: int, *, newlines: bool = False) -> str:
    """`escape` of as much of `text` as fits in `limit` characters, dots in place of the rest."""
    head = text[: limit + 1]
    shown = escape(head, newlines=newlines)
    return shown if len(shown) <= limit else shown[: max(limit - len(ELLIPSIS), 0)] + ELLIPSIS


def _escape_line(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    runs = groupby(text, key=_is_mark)
    return "".join(_escape_run("".join(run), marks=marks) for marks, run in runs)


def _escape_run(run: str, *, marks: bool) -> str:
    if marks and len(run) > _MARKS_ALLOWED:
        return run[:_MARKS_ALLOWED] + "".join(map(_code, run[_MARKS_ALLOWED:]))
    return "".join(map(_shown, run))


def _shown(character: str) -> str:
    if character.isprintable() and character not in _INVISIBLE:
        return character
    return " " if _is_wide_space(character) else _code(character)


def _code(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def _is_mark(character: str) -> bool:
    return unicodedata.category(character) in ("Mn", "Me")


def _is_wide_space(character: str) -> bool:
    return unicodedata.category(character) == "Zs"
