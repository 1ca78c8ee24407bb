"""Names that become Python imports or lines on a terminal."""

from __future__ import annotations

import keyword

from runner.domain.text import one_line


def identifier_problem(name: str) -> str:
    """Why `name` cannot be a Python identifier; empty if it can."""
    if not name.isidentifier():
        return f"{one_line(name, 80)!r} is not a Python identifier"
    if keyword.iskeyword(name):
        return f"{one_line(name, 80)!r} is a Python keyword"
    return ""


def module_problem(name: str) -> str:
    """Why `name` cannot be a dotted module path; empty if it can."""
    if name.endswith(".py"):
        return f"{one_line(name, 80)!r} ends with .py: leave that out"
    if "/" in name:
        return f"{one_line(name, 80)!r} is a path: write packages with dots, as in pkg.agent"
    return next(filter(None, map(identifier_problem, name.split("."))), "")
