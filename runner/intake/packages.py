"""A first look at a submitter's `requirements.txt`; the build decides."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from runner.domain.text import one_line

REQUIREMENTS_NAME = "requirements.txt"
MAX_BYTES = 256 * 1024

_COMMENT = re.compile(r"(^|\s)#.*$")
_HASH = re.compile(r"\s--hash=[a-z0-9]+:[0-9a-f]+")


def requirements_problem(source: Path) -> str:
    """The first thing in it that no build would accept; empty if there is none, or no such file."""
    try:
        text = _read(source / REQUIREMENTS_NAME)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{REQUIREMENTS_NAME}: {(error.strerror or str(error)).lower()}"
    except ValueError as error:
        return f"{REQUIREMENTS_NAME}: {one_line(str(error), 120)}"
    for line in text.replace("\\\n", " ").split("\n"):
        if problem := _problem(_COMMENT.sub("", line).strip()):
            return f"{REQUIREMENTS_NAME}: {one_line(line.strip(), 80)!r} {problem}"
    return ""


def _read(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("not a regular file")
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES // 1024} KiB")
    return data.decode("utf-8-sig")


def _problem(line: str) -> str:
    requirement = _HASH.sub("", line).strip()
    if not requirement:
        return ""
    if requirement.startswith("-"):
        return "is an option: none is obeyed"
    try:
        parsed = Requirement(requirement)
    except InvalidRequirement:
        return "is not a requirement"
    return "names a URL: only packages of the index are installed" if parsed.url else ""
