"""A submitter's `requirements.txt`: requirements alone, though pip obeys much more."""

from __future__ import annotations

import re
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement

from runner.domain.text import one_line
from runner.errors import BuildFailed

REQUIREMENTS_NAME = "requirements.txt"
MAX_BYTES = 256 * 1024
MAX_REQUIREMENTS = 1000

_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})")
_COMMENT = re.compile(r"(^|\s)#.*$")


@dataclass(frozen=True, kw_only=True)
class PinnedLine:
    """One requirement, as it is handed to pip."""

    requirement: Requirement
    hashes: tuple[str, ...]

    def render(self) -> str:
        """One line for pip."""
        return " ".join((str(self.requirement), *(f"--hash={h}" for h in self.hashes)))


def parse_requirements(data: bytes, shown: str) -> tuple[PinnedLine, ...]:
    """The requirements in `data`; raises BuildFailed that names the line of what is refused."""
    if len(data) > MAX_BYTES:
        raise BuildFailed(f"{shown} is larger than {MAX_BYTES // 1024} KiB", remedy="shorten it")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BuildFailed(f"{shown} is not UTF-8 text", remedy="save it as UTF-8") from None
    lines = _logical_lines(text)
    if len(lines) > MAX_REQUIREMENTS:
        raise BuildFailed(f"{shown} has more than {MAX_REQUIREMENTS} lines", remedy="shorten it")
    return tuple(_parse(number, line, shown) for number, line in lines)


def render_requirements(lines: tuple[PinnedLine, ...]) -> bytes:
    """Text that pip reads as exactly these requirements."""
    return "".join(f"{line.render()}\n" for line in lines).encode()


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """Number and text of each line that says something, continuation lines joined."""
    found: list[tuple[int, str]] = []
    start, joined = 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        start = start if joined else number
        joined += _COMMENT.sub("", line.rstrip("\r"))
        if joined.endswith("\\"):
            joined = joined[:-1] + " "
            continue
        found.append((start, joined.strip()))
        joined = ""
    found.append((start, joined.strip()))
    return [(number, line) for number, line in found if line]


def _parse(number: int, line: str, shown: str) -> PinnedLine:
    hashes = tuple(_HASH.findall(line))
    text = _HASH.sub("", line).strip()
    if text.startswith("-") or re.search(r"\s--?\w", text):
        raise _refusal(shown, number, line, "options are not obeyed", "keep requirements alone")
    if re.match(r"([a-z+]+:|\.|/|~)", text, re.IGNORECASE) or "/" in text.partition("@")[0]:
        raise _refusal(
            shown, number, line, "paths and URLs are not installed", "name a package of the index"
        )
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        raise _refusal(shown, number, line, "is not a requirement", "write NAME==VERSION") from None
    if requirement.url:
        raise _refusal(
            shown, number, line, "paths and URLs are not installed", "name a package of the index"
        )
    return PinnedLine(requirement=requirement, hashes=hashes)


def _refusal(shown: str, number: int, line: str, problem: str, remedy: str) -> BuildFailed:
    return BuildFailed(f"{shown}, line {number}: {one_line(line, 80)!r}: {problem}", remedy=remedy)
