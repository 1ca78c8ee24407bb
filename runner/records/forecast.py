"""From what earlier attempts used to what a run will use: a bootstrap, seeded and so repeatable.

Each round makes the run up from earlier attempts, drawn whole, so that their tokens, money and time
belong together. Where a task has no attempts of its own, the round first draws what stands in for
it, since an error in that does not average out over the tasks. See docs/cost.md.
"""

from __future__ import annotations

import heapq
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random

from runner.domain.cost import Basis, Figure, Forecast, TaskForecast
from runner.domain.task import BenchmarkTask
from runner.records.history import History, Sample, TaskKey, task_key

ROUNDS = 1000
FEWEST_ROUNDS = 200
DRAWS = 200_000
"""At most about as many in all: a run of many attempts needs fewer rounds."""
ENOUGH = 3
"""Samples of a task; fewer show no spread, and it is taken to be between half and twice."""
SEED = 4180


@dataclass(frozen=True, kw_only=True)
class Planned:
    """The run that is forecast."""

    agent_name: str
    suite_name: str
    tasks: tuple[BenchmarkTask, ...]
    repeats: int
    parallelism: int


def forecast(planned: Planned, history: History, interval: float = 0.8) -> Forecast:
    """What the run will use, with the interval in which that share of outcomes is expected."""
    best = _Sources(history)
    sources = [best.of(planned.suite_name, task) for task in planned.tasks]
    known = [source for source in sources if source.samples]
    used = {id(sample): sample for source in known for sample in source.samples}
    simulated = _simulated(known, planned)

    def figure(name: str, *, given: bool = True) -> Figure | None:
        totals = [getattr(each, name) for each in simulated]
        return _figure(totals, interval) if totals and given else None

    costed = [source for source in known if source.costs]
    return Forecast(
        agent_name=planned.agent_name,
        suite_name=planned.suite_name,
        attempts=len(planned.tasks) * planned.repeats,
        parallelism=planned.parallelism,
        interval=interval,
        tokens_input=figure("tokens_input"),
        tokens_output=figure("tokens_output"),
        tokens_total=figure("tokens"),
        cost_usd=figure("cost_usd", given=bool(costed)),
        container_seconds=figure("seconds"),
        wall_seconds=figure("wall_seconds"),
        disk_bytes=figure("disk_bytes"),
        tasks=tuple(_task(*pair) for pair in zip(planned.tasks, sources, strict=True)),
        samples=len(used),
        runs=len({sample.run_id for sample in used.values()}),
        unknown_tasks=len(sources) - len(known),
        unknown_cost_tasks=len(known) - len(costed),
    )


def _task(task: BenchmarkTask, source: _Source) -> TaskForecast:
    def median(values: Iterable[float]) -> float | None:
        found = list(values)
        return statistics.median(found) if found else None

    return TaskForecast(
        task_id=task.task_id,
        basis=source.basis,
        samples=len(source.samples),
        tokens=median(each.tokens_input + each.tokens_output for each in source.samples),
        cost_usd=median(source.costs),
        seconds=median(each.seconds for each in source.samples),
    )


# -- what a task rests on ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """What stands for one task: clusters of samples that err together (a task, an agent)."""

    basis: Basis
    clusters: tuple[tuple[Sample, ...], ...] = ()

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        return tuple(sample for cluster in self.clusters for sample in cluster)

    @cached_property
    def costs(self) -> tuple[float, ...]:
        """Those that are known."""
        return tuple(s.cost_usd for s in self.samples if s.cost_usd is not None)


class _Sources:
    """Finds the best source of each task."""

    def __init__(self, history: History) -> None:
        own = [sample for sample in history.samples if sample.same_agent]
        others = [sample for sample in history.samples if not sample.same_agent]
        self._own = _grouped(own, lambda sample: sample.task)
        self._others = _grouped(others, lambda sample: sample.task)
        self._other_tasks = _Source(Basis.SAME_AGENT, tuple(self._own.values()))

    def of(self, suite: str, task: BenchmarkTask) -> _Source:
        key: TaskKey = task_key(suite, task)
        if key in self._own:
            return _Source(Basis.SAME_TASK, (self._own[key],))
        if self._own:
            return self._other_tasks
        if key in self._others:
            by_agent = _grouped(self._others[key], lambda sample: sample.agent)
            return _Source(Basis.OTHER_AGENTS, tuple(by_agent.values()))
        return _Source(Basis.NOTHING)


def _grouped(
    samples: Iterable[Sample], by: Callable[[Sample], TaskKey | str]
) -> dict[TaskKey | str, tuple[Sample, ...]]:
    groups: dict[TaskKey | str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(by(sample), []).append(sample)
    return {name: tuple(group) for name, group in groups.items()}


# -- the bootstrap -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Simulated:
    """The sums of one run that was made up."""

    tokens_input: float
    tokens_output: float
    tokens: float
    cost_usd: float
    seconds: float
    wall_seconds: float
    disk_bytes: float


def _simulated(sources: Sequence[_Source], planned: Planned) -> list[_Simulated]:
    if not sources:
        return []
    attempts = len(sources) * planned.repeats
    rounds = max(FEWEST_ROUNDS, min(ROUNDS, DRAWS // attempts))
    random = Random(SEED)  # noqa: S311 - statistics
    return [_one_run(sources, planned, random) for _ in range(rounds)]


def _one_run(sources: Sequence[_Source], planned: Planned, random: Random) -> _Simulated:
    round_ = _Round(random)
    drawn = [round_.draw(source) for _ in range(planned.repeats) for source in sources]
    seconds = [each.seconds for each in drawn]
    tokens_input = sum(each.tokens_input for each in drawn)
    tokens_output = sum(each.tokens_output for each in drawn)
    return _Simulated(
        tokens_input=tokens_input,
        tokens_output=tokens_output,
        tokens=tokens_input + tokens_output,
        cost_usd=sum(each.cost_usd for each in drawn),
        seconds=sum(seconds),
        wall_seconds=_wall(seconds, planned.parallelism),
        disk_bytes=sum(each.disk_bytes for each in drawn),
    )


@dataclass(frozen=True)
class _Drawn:
    """One attempt of a run that is made up."""

    tokens_input: float
    tokens_output: float
    cost_usd: float
    seconds: float
    disk_bytes: float


class _Round:
    """One round: what is drawn once holds for all its tasks, as it may be wrong for all of them."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._thin = 2.0 ** random.uniform(-1, 1)
        self._level = random.random()
        self._pools: dict[int, Sequence[Sample]] = {}

    def draw(self, source: _Source) -> _Drawn:
        """One attempt at the task that `source` stands for."""
        sample = self._random.choice(self._pool(source))
        cost = _cost(source, sample, self._random.random())
        factor = self._thin if len(source.samples) < ENOUGH else 1.0
        return _Drawn(
            tokens_input=sample.tokens_input * factor,
            tokens_output=sample.tokens_output * factor,
            cost_usd=cost * factor,
            seconds=sample.seconds * factor,
            disk_bytes=sample.disk_bytes * factor,
        )

    def _pool(self, source: _Source) -> Sequence[Sample]:
        if id(source) not in self._pools:
            self._pools[id(source)] = self._resampled(source)
        return self._pools[id(source)]

    def _resampled(self, source: _Source) -> Sequence[Sample]:
        """Of the task itself all attempts; of other tasks as many again, drawn with repetition; of
        other agents one, chosen by the same lot for all tasks.
        """
        clusters = source.clusters
        match source.basis:
            case Basis.SAME_AGENT:
                again = self._random.choices(clusters, k=len(clusters))
                return tuple(sample for cluster in again for sample in cluster)
            case Basis.OTHER_AGENTS:
                return clusters[int(self._level * len(clusters))]
            case Basis.SAME_TASK:
                return source.samples
            case Basis.NOTHING:
                raise AssertionError("nothing can be drawn from nothing")


def _cost(source: _Source, sample: Sample, level: float) -> float:
    """Of the sample; where that is unknown, one of those that are known; 0 where none is, and the
    task is then counted among those of unknown cost.
    """
    if sample.cost_usd is not None:
        return sample.cost_usd
    return source.costs[int(level * len(source.costs))] if source.costs else 0.0


def _wall(seconds: Sequence[float], parallelism: int) -> float:
    """How long the attempts take in this order, `parallelism` at once."""
    free = [0.0] * min(parallelism, len(seconds))
    for each in seconds:
        heapq.heapreplace(free, free[0] + each)
    return max(free)


def _figure(totals: Sequence[float], interval: float) -> Figure:
    ordered = sorted(totals)
    low, high = (_quantile(ordered, 0.5 + side * interval / 2) for side in (-1, 1))
    return Figure(low=low, median=_quantile(ordered, 0.5), high=high)


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Between the two nearest, linearly."""
    place = share * (len(ordered) - 1)
    below = min(int(place), len(ordered) - 1)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
