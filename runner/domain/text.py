"""Hostile text made fit for one line of a terminal, a log or an error."""

from __future__ import annotations

ELLIPSIS = "..."


def one_line(text: str | bytes, limit: int = 300) -> str:
    """`text` with every unprintable character escaped, at most `limit` characters long."""
    if isinstance(text, bytes):
        text = text[: limit + 1].decode("utf-8", "backslashreplace")
    shown = "".join(map(_shown, text[: limit + 1]))
    return shown if len(shown) <= limit else shown[: limit - len(ELLIPSIS)] + ELLIPSIS


def _shown(character: str) -> str:
    """As Python writes it in a string; printable characters as they are."""
    if character.isprintable():
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
