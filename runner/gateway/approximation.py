"""A count of tokens without a tokenizer, from how many letters, marks and words a text has.

Each character becomes one byte that says of which class it is. Then patterns of classes are
counted, each of which is so many hundredths of a token. The weights were fitted, with a little to
spare, to the mean of two tokenizers of OpenAI (o200k and cl100k) over prose in eleven languages,
program code, JSON and random data; docs/budgets.md has the errors. Everything here is a scan of
the text in C: the time is linear, whatever the text.
"""

from __future__ import annotations

_CLASSES = {
    "a": (range(ord("a"), ord("z") + 1),),
    "A": (range(ord("A"), ord("Z") + 1),),
    "0": (range(ord("0"), ord("9") + 1),),
    "s": (b" \t",),
    "n": (b"\r\n",),
    # By the first byte of a character in UTF-8; the others are left out.
    "u": (range(0xC2, 0xCB),),  # Latin letters with marks
    "g": (range(0xCB, 0xD4),),  # Greek, Cyrillic
    "r": (range(0xD4, 0xE0),),  # Hebrew, Arabic
    "i": (range(0xE0, 0xE2),),  # of India, Thai, Georgian
    "y": (range(0xE2, 0xE3),),  # signs
    "k": (range(0xE3, 0xF0),),  # Chinese, Japanese, Korean
    "f": (range(0xF0, 0xF5),),  # emoji, rare letters
}
_OTHER_MARK = "p"
_CONTINUATION = bytes(range(0x80, 0xC0))

_WEIGHTS = {
    "A": 10,
    "a" * 10: 219,
    "a" * 20: 691,
    "A" * 10: 219,
    "A" * 20: 691,
    "aA": 69,
    "a0": 69,
    "0a": 69,
    "0A": 69,
    "0": 34,
    "s0": 163,  # a space is a token of its own before a number, and part of a word before one
    "s" * 64: 100,
    "sn": 50,
    "n" * 16: 100,
    "p": 67,
    "p0": 93,
    "u": 238,
    "g": 50,
    "r": 67,
    "i": 87,
    "y": 66,
    "k": 101,
    "f": 230,
}
"""Hundredths of a token, by pattern of classes."""
_WORD_STARTS = {"oa": 104, "oA": 104, "aA": 104, "uA": 104}
"""The same, where `o` is whatever is no Latin letter."""
_INDENTS = {"oss": 98}
"""The same, where `o` is whatever is no space."""


def _class_of(byte: int) -> str:
    for name, members in _CLASSES.items():
        if any(byte in each for each in members):
            return name
    return _OTHER_MARK


def _only(classes: str) -> bytes:
    """A table that keeps these classes, and makes all others `o`."""
    return bytes(byte if chr(byte) in classes else ord("o") for byte in range(256))


_CLASS_TABLE = "".join(map(_class_of, range(256))).encode()
_LATIN = _only("aAu")
_SPACES = _only("s")


def approximate_tokens(text: str) -> int:
    """About as many tokens as a model's tokenizer makes of `text`, rather more than fewer."""
    encoded = text.encode("utf-8", "surrogatepass")
    classes = b"n" + encoded.translate(_CLASS_TABLE, _CONTINUATION)
    hundredths = (
        _weigh(classes, _WEIGHTS)
        + _weigh(classes.translate(_LATIN), _WORD_STARTS)
        + _weigh(classes.translate(_SPACES), _INDENTS)
    )
    # A token is at least a byte, and a text at least a token.
    return min(max(-(-hundredths // 100), 1), len(encoded))


def _weigh(classes: bytes, weights: dict[str, int]) -> int:
    return sum(classes.count(pattern.encode()) * weight for pattern, weight in weights.items())
