"""Two runs beside each other."""

from __future__ import annotations

from pydantic import computed_field

from runner.domain.base import Noun


class Change(Noun):
    """One value that differs; each side is one inert line, empty where there is none."""

    path: str
    left: str
    right: str


class PackageChanges(Noun):
    """Installed distributions, `name version`."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    """`name version -> version`."""


class CallDivergence(Noun):
    """The first call at which two attempts went different ways; empty: that side had ended."""

    position: int
    """From 1, among the calls in their order."""
    left: str
    right: str


class TaskSide(Noun):
    """What came of a task in one of the runs."""

    status: str
    failure_reason: str = ""
    score: float | None
    tokens: int
    cost_usd: float | None
    model_calls: int
    tool_calls: int
    seconds: float


class TaskComparison(Noun):
    """The last attempts of one task and repeat; None: that run has none."""

    task_id: str
    repeat: int
    left: TaskSide | None
    right: TaskSide | None
    same_output: bool
    divergence: CallDivergence | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def same(self) -> bool:
        """In what counts: status, score, output."""
        if self.left is None or self.right is None:
            return False
        return self.same_output and _counting(self.left) == _counting(self.right)


class RunComparison(Noun):
    """Two runs beside each other."""

    left: str
    right: str
    """Ids."""
    plan: tuple[Change, ...] = ()
    suite: tuple[Change, ...] = ()
    image: tuple[Change, ...] = ()
    limits: tuple[Change, ...] = ()
    settings: tuple[Change, ...] = ()
    environment: tuple[Change, ...] = ()
    packages: PackageChanges = PackageChanges()
    score_left: float | None = None
    """0 to 100; None: the run is not finished."""
    score_right: float | None = None
    tasks: tuple[TaskComparison, ...] = ()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def same(self) -> bool:
        """Whether every task has the same status, score and output in both."""
        return all(task.same for task in self.tasks)


def _counting(side: TaskSide) -> tuple[str, str, float | None]:
    return side.status, side.failure_reason, side.score
