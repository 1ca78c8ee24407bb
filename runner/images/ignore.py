"""`.dockerignore`: which files of a directory do not belong to a build."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import re2
from docker.utils.build import Pattern
from docker.utils.fnmatch import translate

from runner.domain.text import one_line
from runner.errors import BuildFailed

IGNORE_NAME = ".dockerignore"
MAX_IGNORE_BYTES = 64 * 1024
MAX_PATTERNS = 500


@dataclass(frozen=True)
class _Rule:
    """One line; what it matches is left out, or taken back in when it is an exception."""

    expression: re2._Regexp
    """Matches a path that the line names, and everything below it."""
    is_exception: bool


class IgnoreRules:
    """The last line that matches a path decides, as docker's own client has it.

    The patterns are the submitter's, so they run on RE2: in linear time, whatever they are.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._rules = tuple(rule for line in lines if (rule := _rule(line)) is not None)
        self.has_exceptions = any(rule.is_exception for rule in self._rules)

    def excludes(self, path: str) -> bool:
        """Whether `path` (relative, with slashes) is left out."""
        excluded = False
        for rule in self._rules:
            if rule.is_exception == excluded and rule.expression.match(path):
                excluded = not rule.is_exception
        return excluded


def read_ignore_lines(directory: Path) -> list[str]:
    """The lines of the directory's ignore file; none if it has none. Raises BuildFailed."""
    path = directory / IGNORE_NAME
    shown = one_line(str(path))
    if path.is_symlink() or not path.is_file():
        return []
    with path.open("rb") as file:
        data = file.read(MAX_IGNORE_BYTES + 1)
    lines = data.decode("utf-8", "replace").splitlines()
    if len(data) > MAX_IGNORE_BYTES or len(lines) > MAX_PATTERNS:
        raise BuildFailed(
            f"{shown} is longer than {MAX_PATTERNS} lines or {MAX_IGNORE_BYTES // 1024} KiB",
            remedy="shorten it",
        )
    return lines


def _rule(line: str) -> _Rule | None:
    line = line.strip()
    if not line or line.startswith("#"):
        return None
    is_exception = line.startswith("!")
    parts = Pattern.normalize(line.removeprefix("!"))
    if not parts:
        return None
    try:
        expression = re2.compile(translate("/".join(parts)).removesuffix("$") + "(?:/.*)?$")
    except re2.error:
        raise BuildFailed(
            f"{IGNORE_NAME}: {one_line(line, 80)!r} is not a pattern", remedy="correct that line"
        ) from None
    return _Rule(expression=expression, is_exception=is_exception)
