"""Which categories and tasks were meant; who mistypes one is told what is near."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from fnmatch import fnmatchcase

from runner.domain import BenchmarkCategory, Suite
from runner.errors import UsageError


def parse_categories(names: Iterable[str]) -> tuple[BenchmarkCategory, ...]:
    """The categories of those names, each once; raises UsageError naming what is near."""
    known = [str(one) for one in BenchmarkCategory]
    for name in names:
        if name not in known:
            raise UsageError(
                f"there is no category {name!r}", remedy=_near(name, known, "categories")
            )
    return tuple(BenchmarkCategory(name) for name in dict.fromkeys(names))


def check_selection(
    suite: Suite, categories: tuple[BenchmarkCategory, ...], patterns: Iterable[str]
) -> None:
    """Raises UsageError for a pattern that no task of those categories fits, or an empty choice."""
    inside = [task.task_id for task in suite.tasks if not categories or task.category in categories]
    if not inside:
        raise UsageError(
            f"suite {suite.name} has no task of category {', '.join(categories)}",
            remedy=f"`agenttrace suite show {suite.name}` lists its tasks",
        )
    for pattern in patterns:
        if any(fnmatchcase(task_id, pattern) for task_id in inside):
            continue
        everywhere = [task.task_id for task in suite.tasks]
        if any(fnmatchcase(task_id, pattern) for task_id in everywhere):
            raise UsageError(
                f"no task of category {', '.join(categories)} fits {pattern!r}",
                remedy="leave out --category, or give the task's own",
            )
        raise UsageError(
            f"suite {suite.name} has no task that fits {pattern!r}",
            remedy=_near(pattern.replace("*", ""), everywhere, "tasks"),
        )


def _near(name: str, known: list[str], what: str) -> str:
    near = get_close_matches(name, known, n=3, cutoff=0.6)
    near += [one for one in known if name and name in one and one not in near][:3]
    if near:
        return f"did you mean {' or '.join(near)}?"
    shown = ", ".join(known[:8])
    return f"its {what}: {shown}{', ...' if len(known) > 8 else ''}"
