"""What earlier attempts used, and what a forecast makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.domain import BenchmarkTask, ExecutionStatus, FailureReason, ResourceUsage
from runner.domain.cost import Basis, Figure, Forecast
from runner.records import RunDirectory, history
from runner.records.forecast import Planned, forecast
from runner.records.history import (
    AgentIdentity,
    History,
    Sample,
    identity_of,
    load_history,
)
from tests.unit.records.calls import model_call
from tests.unit.records.nouns import STARTED, benchmark, execution, plan, reply, task

ECHO = AgentIdentity(name="echo", submitted_by="team-a")


def used(
    tokens: int = 0, cost: float | None = None, seconds: float = 2.0, **more: Any
) -> dict[str, Any]:
    return {
        "resource_usage": ResourceUsage(tokens_input=tokens, tokens_output=1, cost_usd=cost),
        "finished_at": STARTED + timedelta(seconds=seconds),
        **more,
    }


def ran(
    root: Path,
    run_id: str,
    *attempts: dict[str, Any],
    agent: str = "echo",
    submitted_by: str = "team-a",
    finished: bool = True,
    tasks: Sequence[BenchmarkTask] = (),
    **changes: Any,
) -> Path:
    """A run on disk; each of `attempts` changes the execution of its task."""
    tasks = tuple(tasks) or tuple(task(each.get("task_id", "reasoning-1")) for each in attempts)
    made = plan(run_id, *tasks)
    whose = {"agent_name": agent, "submitted_by": submitted_by}
    submission = made.submission.model_copy(update=whose)
    directory = RunDirectory(root, run_id)
    path = directory.begin(made.model_copy(update={"submission": submission} | changes))
    executions = [execution(**({"run_id": run_id} | each)) for each in attempts]
    for each in executions:
        directory.keep(each, reply(), directory.staging())
    if finished:
        directory.finish(benchmark(*executions, run_id=run_id))
    directory.close()
    return path


def known(root: Path, *task_ids: str, agent: AgentIdentity = ECHO) -> History:
    wanted = plan("x", *(task(each) for each in task_ids or ("reasoning-1",)))
    return load_history(root, agent, wanted.suite, wanted.tasks)


# -- history -------------------------------------------------------------------------------------


@pytest.mark.parametrize("finished", [True, False])
def test_an_attempt_is_a_sample(tmp_path: Path, finished: bool) -> None:
    ran(tmp_path, "r1", used(500, 0.25, 3.5), finished=finished)
    [sample] = known(tmp_path).samples
    assert (sample.tokens_input, sample.tokens_output) == (500, 1)
    assert (sample.cost_usd, sample.seconds) == (0.25, 3.5)
    assert sample.task == ("starter", "reasoning-1", "1")
    assert sample.same_agent
    assert sample.disk_bytes >= 4096  # its files have blocks of their own


def test_the_evidence_is_measured_and_links_are_not_followed(tmp_path: Path) -> None:
    run = ran(tmp_path, "r1", used())
    [before] = known(tmp_path).samples
    (tmp_path / "big").write_bytes(b"x" * 1_000_000)
    (run / "tasks/reasoning-1/1-1/link").symlink_to(tmp_path / "big")
    [linked] = known(tmp_path).samples
    assert linked.disk_bytes - before.disk_bytes < 100_000
    (run / "tasks/reasoning-1/1-1/artifacts/big").write_bytes(b"x" * 1_000_000)
    [after] = known(tmp_path).samples
    assert after.disk_bytes - before.disk_bytes >= 1_000_000


def test_whose_run_it_is(tmp_path: Path) -> None:
    ran(tmp_path, "r1", used())
    ran(tmp_path, "r2", used(), submitted_by="team-b")
    ran(tmp_path, "r3", used(), agent="other")

    def own(agent: AgentIdentity) -> list[str]:
        return [each.run_id for each in known(tmp_path, agent=agent).samples if each.same_agent]

    assert own(ECHO) == ["r1"]
    assert own(AgentIdentity(name="renamed", image_id="sha256:cd")) == ["r1", "r2", "r3"]
    assert own(AgentIdentity(name="renamed", content_digest="sha256:none")) == []
    assert own(identity_of(plan().submission)) == []


def test_content_says_whose_run_it_is(tmp_path: Path) -> None:
    image = plan().image
    assert image
    built = image.model_copy(update={"content_digest": "sha256:ours"})
    ran(tmp_path, "r1", used(), agent="earlier-name", image=built)
    [sample] = known(tmp_path, agent=AgentIdentity(name="n", content_digest="sha256:ours")).samples
    assert sample.same_agent


def test_other_agents_count_on_the_same_tasks_alone(tmp_path: Path) -> None:
    ran(tmp_path, "r1", used(task_id="a"), used(task_id="b"), agent="other")
    ran(tmp_path, "r2", used(task_id="a"), used(task_id="b"))
    samples = known(tmp_path, "a").samples
    assert [(s.run_id, s.task[1]) for s in samples] == [("r1", "a"), ("r2", "a"), ("r2", "b")]


def test_another_version_of_a_task_is_another_task(tmp_path: Path) -> None:
    newer = task("a").model_copy(update={"version": "2"})
    ran(tmp_path, "r1", used(task_id="a"), agent="other", tasks=[newer])
    assert known(tmp_path, "a").samples == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"status": ExecutionStatus.FAILED, "failure_reason": FailureReason.INTERNAL_ERROR},
        {"status": ExecutionStatus.CANCELLED},
        {"reused_from": "r0"},
        {"model_calls": (model_call(cached=True),)},
    ],
)
def test_what_was_not_really_made_says_nothing(tmp_path: Path, changes: dict[str, Any]) -> None:
    ran(tmp_path, "r1", used(**changes))
    found = known(tmp_path)
    assert (found.samples, found.left_out) == ((), 1)


def test_a_replay_says_nothing(tmp_path: Path) -> None:
    ran(tmp_path, "r1", used(), replay_of="r0")
    assert known(tmp_path).samples == ()


def test_what_is_not_known_to_have_cost_is_not_zero(tmp_path: Path) -> None:
    ran(tmp_path, "r1", used(model_calls=(model_call(cost_usd=None),)))  # a price that nobody knows
    ran(tmp_path, "r2", used())  # no model was called
    refused = model_call(token_source=None, status=404, cost_usd=None)
    ran(tmp_path, "r3", used(model_calls=(refused,)))
    ran(tmp_path, "r4", used(), image=None)  # an agent elsewhere
    costs = {each.run_id: each.cost_usd for each in known(tmp_path).samples}
    assert costs == {"r1": None, "r2": 0.0, "r3": 0.0, "r4": None}


def test_damaged_runs_are_passed_over(tmp_path: Path) -> None:
    (ran(tmp_path, "r1", used()) / "lock.json").write_text("{")
    (ran(tmp_path, "r2", used()) / "execution.json").write_text("{")  # its attempts are still there
    (ran(tmp_path, "r3", used()) / "submission.json").write_text("{")
    (tmp_path / "notes").mkdir()
    samples = known(tmp_path).samples
    assert {each.run_id: each.same_agent for each in samples} == {"r2": True, "r3": False}


def test_only_recent_runs_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "RECENT_RUNS", 2)
    for number in range(4):
        ran(tmp_path, f"2026031{number}-a", used())
        ran(tmp_path, f"2026031{number}-b", used(), agent="other")
    assert [each.run_id for each in known(tmp_path).samples] == [
        *("20260312-a", "20260312-b", "20260313-a", "20260313-b"),
    ]


# -- forecast ------------------------------------------------------------------------------------


def sample(task_id: str = "a", **changes: Any) -> Sample:
    fields: dict[str, Any] = {
        "run_id": "r1",
        "agent": "echo",
        "same_agent": True,
        "task": ("starter", task_id, "1"),
        "tokens_input": 100,
        "tokens_output": 10,
        "cost_usd": 0.5,
        "seconds": 2.0,
        "disk_bytes": 4096,
    }
    return Sample(**(fields | changes))


def forecast_of(
    *samples: Sample,
    tasks: Sequence[str] = ("a",),
    repeats: int = 1,
    parallelism: int = 1,
    interval: float = 0.8,
) -> Forecast:
    planned = Planned(
        agent_name="echo",
        suite_name="starter",
        tasks=tuple(task(each) for each in tasks),
        repeats=repeats,
        parallelism=parallelism,
    )
    return forecast(planned, History(samples=samples), interval)


def numbers(figure: Figure | None) -> tuple[float, float, float]:
    assert figure
    return figure.low, figure.median, figure.high


FIGURES = (
    *("tokens_input", "tokens_output", "tokens_total", "cost_usd"),
    *("container_seconds", "wall_seconds", "disk_bytes"),
)


def test_attempts_that_never_vary_have_no_interval() -> None:
    found = forecast_of(*[sample()] * 3, tasks=("a",), repeats=4, parallelism=2)
    assert numbers(found.tokens_total) == (440, 440, 440)
    assert numbers(found.cost_usd) == (2, 2, 2)
    assert numbers(found.container_seconds) == (8, 8, 8)
    assert numbers(found.wall_seconds) == (4, 4, 4)
    assert numbers(found.disk_bytes) == (16384, 16384, 16384)
    assert (found.attempts, found.samples, found.runs) == (4, 1, 1)


def test_nothing_is_known() -> None:
    found = forecast_of(tasks=("a", "b"))
    assert {name: getattr(found, name) for name in FIGURES} == dict.fromkeys(FIGURES)
    assert (found.samples, found.unknown_tasks) == (0, 2)
    assert found.resting_on(Basis.NOTHING) == 2


def test_the_best_there_is_stands_for_each_task() -> None:
    others = {"same_agent": False, "agent": "other"}
    found = forecast_of(sample("a"), sample("b", **others), tasks=("a", "b"))
    assert [each.basis for each in found.tasks] == [Basis.SAME_TASK, Basis.SAME_AGENT]
    found = forecast_of(sample("b", **others), tasks=("a", "b"))
    assert [each.basis for each in found.tasks] == [Basis.NOTHING, Basis.OTHER_AGENTS]
    assert found.unknown_tasks == 1


def test_an_attempt_counts_once_however_many_tasks_rest_on_it() -> None:
    found = forecast_of(sample("a"), tasks=("a", "b", "c"))
    assert found.samples == 1


def test_few_attempts_show_no_spread_and_are_taken_to_vary() -> None:
    low, median, high = numbers(forecast_of(sample(cost_usd=1.0)).cost_usd)
    assert 0.5 <= low < 0.7
    assert 0.9 < median < 1.1
    assert 1.5 < high <= 2.0


def test_few_attempts_at_many_tasks_are_no_surer() -> None:
    """What is wrong of one of them may be wrong of all of them."""
    tasks = [f"t{number}" for number in range(50)]
    low, median, high = numbers(forecast_of(*map(sample, tasks), tasks=tasks).cost_usd)
    assert low < 0.7 * median
    assert high > 1.4 * median


def test_many_attempts_at_many_tasks_are_surer_than_at_one() -> None:
    tasks = [f"t{number}" for number in range(50)]

    def relative(*names: str) -> float:
        samples = [sample(name, cost_usd=cost) for name in names for cost in (1.0, 2.0, 3.0)]
        low, median, high = numbers(forecast_of(*samples, tasks=names).cost_usd)
        return (high - low) / median

    assert relative(*tasks) < relative("t0") / 3


def test_other_agents_err_together() -> None:
    """One of them stands for this agent in each round, not a mixture of all."""
    tasks = [f"t{number}" for number in range(50)]
    samples = [
        sample(name, same_agent=False, agent=agent, run_id=agent, cost_usd=cost)
        for agent, cost in (("cheap", 1.0), ("dear", 9.0))
        for name in tasks
        for _ in range(2)
    ]
    low, _, high = numbers(forecast_of(*samples, tasks=tasks).cost_usd)
    assert (low, high) == (50.0, 450.0)


def test_an_unknown_cost_is_said_and_never_zero() -> None:
    found = forecast_of(
        *[sample("a", cost_usd=2.0)] * 3, *[sample("b", cost_usd=None)] * 3, tasks=("a", "b")
    )
    assert numbers(found.cost_usd) == (2, 2, 2)
    assert (found.unknown_tasks, found.unknown_cost_tasks) == (0, 1)
    assert numbers(found.tokens_total) == (220, 220, 220)
    assert [each.cost_usd for each in found.tasks] == [2.0, None]
    none = forecast_of(*[sample(cost_usd=None)] * 3)
    assert (none.cost_usd, none.unknown_cost_tasks) == (None, 1)


def test_known_costs_stand_for_unknown_ones_of_the_same_task() -> None:
    found = forecast_of(sample(cost_usd=None), sample(cost_usd=3.0), sample(cost_usd=None))
    assert numbers(found.cost_usd) == (3, 3, 3)


@pytest.mark.parametrize(("parallelism", "wall"), [(1, 11.0), (2, 8.0), (3, 8.0), (100, 8.0)])
def test_the_longest_attempt_bounds_the_time(parallelism: int, wall: float) -> None:
    samples = [sample(n, seconds=s) for n, s in (("a", 2.0), ("b", 1.0), ("c", 8.0))] * 3
    if parallelism == 2:  # b's place is free after 1 s: 1 + 8
        wall = 9.0
    found = forecast_of(*samples, tasks=("a", "b", "c"), parallelism=parallelism)
    assert numbers(found.wall_seconds) == (wall, wall, wall)
    assert numbers(found.container_seconds) == (11, 11, 11)


amounts = st.integers(0, 10**6)
histories = st.lists(
    st.builds(
        sample,
        st.sampled_from(["a", "b", "c"]),
        run_id=st.sampled_from(["r1", "r2", "r3"]),
        same_agent=st.booleans(),
        agent=st.sampled_from(["x", "y"]),
        tokens_input=amounts,
        tokens_output=amounts,
        cost_usd=st.none() | st.floats(0, 1000),
        seconds=st.floats(0, 10_000),
        disk_bytes=amounts,
    ),
    max_size=12,
)
few = settings(max_examples=40, deadline=None)


@few
@given(samples=histories, parallelism=st.integers(1, 4), interval=st.floats(0.05, 0.95))
def test_every_interval_holds_its_median_and_nothing_is_negative(
    samples: list[Sample], parallelism: int, interval: float
) -> None:
    found = forecast_of(
        *samples, tasks=("a", "b"), repeats=2, parallelism=parallelism, interval=interval
    )
    for name in FIGURES:
        if getattr(found, name) is not None:
            low, median, high = numbers(getattr(found, name))
            assert 0 <= low <= median <= high
    if found.wall_seconds and found.container_seconds:
        assert found.wall_seconds.high <= found.container_seconds.high * (1 + 1e-9)


@few
@given(samples=histories)
def test_the_same_history_gives_the_same_forecast(samples: list[Sample]) -> None:
    assert forecast_of(*samples) == forecast_of(*samples)


@few
@given(samples=histories, narrow=st.floats(0.05, 0.5), more=st.floats(0.0, 0.45))
def test_a_larger_share_needs_a_wider_interval(
    samples: list[Sample], narrow: float, more: float
) -> None:
    small, large = (
        forecast_of(*samples, interval=share).tokens_total for share in (narrow, narrow + more)
    )
    if small and large:
        assert large.low <= small.low
        assert small.high <= large.high


@few
@given(
    distances=st.lists(st.integers(-500, 500), min_size=3, max_size=12),
    stretch=st.integers(1, 20),
    repeats=st.integers(1, 5),
)
def test_the_interval_widens_as_attempts_lie_apart(
    distances: list[int], stretch: int, repeats: int
) -> None:
    def width(factor: int) -> float:
        samples = [sample(tokens_input=10_000 + factor * each) for each in distances]
        low, _, high = numbers(forecast_of(*samples, repeats=repeats).tokens_input)
        return high - low

    assert width(stretch) == pytest.approx(stretch * width(1), abs=1e-6)
