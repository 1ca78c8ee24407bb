"""A mistake in a suite as one line that names the file, the task, the field and the fix."""

from __future__ import annotations

from pydantic import ValidationError

from runner.domain.text import one_line
from runner.errors import InvalidSuite
from runner.suites.flaws import Flaw

_SCORERS = ("exact", "numeric", "choice", "regex", "json_subset")
_FIXES = {
    "missing": "add it",
    "extra_forbidden": "remove it, or correct its spelling",
    "union_tag_invalid": f"use one of {', '.join(_SCORERS)}",
    "union_tag_not_found": f"add scorer = one of {', '.join(_SCORERS)}",
}
_SEE = "see docs/suites.md"


def invalid(where: str, flaw: Flaw) -> InvalidSuite:
    """The error for one flaw; `where` names the file and the task."""
    field, problem = one_line(flaw.field), one_line(flaw.problem)
    return InvalidSuite(f"{where}, field {field}: {problem}", remedy=flaw.fix)


def flaw_of(error: ValidationError) -> Flaw:
    """The first of pydantic's complaints; the others often follow from it."""
    first = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(str(part) for part in first["loc"] if part not in _SCORERS)
    return Flaw(field, first["msg"], _FIXES.get(first["type"], _SEE))
