"""Numeric: the last number of the answer is near enough to the expected one."""

from __future__ import annotations

import math
import re

from runner.domain import NumericCriterion
from runner.scoring.verdict import Verdict, hit, miss

_AS_ASCII = str.maketrans(
    # every minus and dash that people write before a number
    dict.fromkeys("\u2212\u2012\u2013\ufe63\uff0d", "-")
    # every thousands separator but the plain space, which also separates the items of a list
    | dict.fromkeys("_'\u2019\u00a0\u2009\u202f", ",")
)
# A sign counts only where no operand stands before it: 2024-03-01 ends in 1, not in -1. Digits
# right after a letter are part of a name: H2O has no number. Possessive, so linear.
_NUMBER = re.compile(
    r"(?<![A-Za-z0-9])"
    r"(?P<sign>(?<![\w)\]])[+-])?"
    r"(?:(?P<whole>[0-9][0-9,]*+)(?P<fraction>\.[0-9]++)?|(?P<bare>\.[0-9]++))"
    r"(?P<exponent>[eE][+-]?[0-9]++)?"
)
_GROUPED = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})++")


def judge_numeric(text: str, criterion: NumericCriterion) -> Verdict:
    """One number counts, the last: a list of guesses is worth its last guess."""
    number = last_number(text)
    if number is None:
        return miss("no number in the answer")
    if not math.isfinite(number):
        return miss("the number is out of range")
    if _near(number, criterion):
        return hit("within the tolerance")
    return miss("outside the tolerance")


def last_number(text: str) -> float | None:
    """The last number of `text`; infinite where it is too large for a float; None: no number."""
    last = None
    for last in _NUMBER.finditer(text.translate(_AS_ASCII)):  # noqa: B007 - the last is wanted
        pass
    return None if last is None else _value(last)


def _value(found: re.Match[str]) -> float:
    sign, digits = found["sign"] or "", (found["whole"] or "0").rstrip(",")
    if _GROUPED.fullmatch(digits):
        digits = digits.replace(",", "")
    elif "," in digits:  # a list such as 1,2,3: its last item has no sign
        sign, digits = "", digits.rpartition(",")[2]
    tail = found["fraction"] or found["bare"] or ""
    return float(sign + digits + tail + (found["exponent"] or ""))


def _near(number: float, criterion: NumericCriterion) -> bool:
    expected = criterion.expected
    tolerance = max(criterion.absolute_tolerance, criterion.relative_tolerance * abs(expected))
    return abs(number - expected) <= tolerance
