"""Regex: the answer matches a pattern, by RE2: linear time whatever the agent writes."""

from __future__ import annotations

from typing import Any, assert_never

import re2

from runner.domain import RegexCriterion
from runner.scoring.verdict import Verdict, hit, miss


def judge_regex(text: str, criterion: RegexCriterion) -> Verdict:
    """Matches the pattern; an `absent` pattern is earned only beside something right.

    Raises re2.error for a pattern that is none, which a loaded suite does not hold.
    """
    pattern, subject = _compiled(criterion.pattern), text.encode()
    match criterion.match:
        case "full":
            matches = pattern.fullmatch(subject) is not None
        case "search":
            matches = pattern.search(subject) is not None
        case "absent":
            matches = pattern.search(subject) is None
        case _:
            assert_never(criterion.match)
    return hit("as the pattern asks") if matches else miss("not as the pattern asks")


def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options)  # it keeps the last 128
