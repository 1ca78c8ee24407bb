"""Whether calls pass: against a model, at the edges, with many threads, and as a gate."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from runner.domain import Breaker, BreakerPolicy, BreakerState
from runner.errors import Postponed
from runner.orchestrator import breakers as breakers_module
from runner.orchestrator.breakers import BreakerGate, MemoryBreakerStore, SharedBreakers

NAME = "endpoint https://agents.example:443"
START = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = BreakerPolicy(failures=3, successes=2, open_seconds=100, probe_seconds=250)

T = TypeVar("T")


class Clock:
    """A clock that goes as it is told."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Model:
    """What happened since the state last changed; everything else is counted from that."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self.policy = policy
        self.state = "closed"
        self.history: list[tuple[str, datetime]] = []

    def begin(self, state: str, now: datetime) -> None:
        self.state, self.history = state, [("begun", now)]

    def times(self, since: str) -> list[datetime]:
        """The clock's readings from the last event of that kind on."""
        kinds = [kind for kind, _ in self.history]
        if since not in kinds:
            return []
        last = len(kinds) - 1 - kinds[::-1].index(since)
        return [at for kind, at in self.history[last:] if kind in (since, "asked")]

    def count(self, kind: str) -> int:
        return sum(1 for event, _ in self.history if event == kind)

    def probe_under_way(self) -> bool:
        kinds = ("granted", "succeeded", "withdrawn")
        told = [kind for kind, _ in self.history if kind in kinds]
        return bool(told) and told[-1] == "granted"

    def ask(self, now: datetime) -> bool:
        self.history.append(("asked", now))
        if self.state == "closed":
            return True
        if self.state == "open":
            if now < min(self.times("begun")) + timedelta(seconds=self.policy.open_seconds):
                return False
            self.begin("half_open", now)
        elif self.probe_under_way():
            lost = min(self.times("granted")) + timedelta(seconds=self.policy.probe_seconds)
            if now < lost:
                return False
        self.history.append(("granted", now))
        return True

    def succeed(self, now: datetime) -> None:
        if self.state == "closed":
            self.begin("closed", now)
        elif self.state == "half_open" and self.probe_under_way():
            self.history.append(("succeeded", now))
            if self.count("succeeded") == self.policy.successes:
                self.begin("closed", now)

    def fail(self, now: datetime) -> None:
        self.history.append(("failed", now))
        if self.state == "half_open":
            self.begin("open", now)
        if self.state == "closed" and self.count("failed") == self.policy.failures:
            self.begin("open", now)


class BreakerAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.store = MemoryBreakerStore()
        self.breakers = SharedBreakers(self.store, POLICY, self.clock)
        self.model = Model(POLICY)

    @property
    def breaker(self) -> Breaker:
        return self.store.all().get(NAME, Breaker())

    @rule(seconds=st.sampled_from([0.5, 1, 49, 50, 99.5, 100, 249, 250, 9999]))
    def time_goes_by(self, seconds: float) -> None:
        self.clock.move(seconds)

    @rule(seconds=st.sampled_from([1, 50, 100, 9999]))
    def the_clock_is_set_back(self, seconds: float) -> None:
        self.clock.move(-seconds)

    @rule()
    def ask(self) -> None:
        self.granted()

    def granted(self) -> bool:
        permission = self.breakers.allow(NAME)
        assert permission.granted == self.model.ask(self.clock.now)
        if permission.granted:
            assert permission.retry_at is None
            return True
        assert permission.reason == "it failed"
        assert permission.probing == (self.model.state == "half_open")
        assert permission.retry_at is not None
        wait = (permission.retry_at - self.clock.now).total_seconds()
        assert 0 < wait <= POLICY.open_seconds
        return False

    @rule()
    def look(self) -> None:
        """A look says what asking would, and lets nobody through."""
        before = self.breaker.probing_since is None, self.breaker.state
        looked = self.breakers.look(NAME)
        assert (self.breaker.probing_since is None, self.breaker.state) == before
        assert self.granted() == looked.granted

    @rule()
    def succeed(self) -> None:
        self.breakers.succeeded(NAME)
        self.model.succeed(self.clock.now)

    @rule()
    def withdraw(self) -> None:
        self.breakers.withdrawn(NAME)
        self.model.history.append(("withdrawn", self.clock.now))

    @rule(times=st.integers(1, 3))
    def fail(self, times: int) -> None:
        for _ in range(times):
            self.breakers.failed(NAME, "it failed")
            self.model.fail(self.clock.now)

    @rule()
    def wait_long_enough_and_a_call_passes(self) -> None:
        self.ask()  # where it is noticed that the clock was set back
        self.clock.move(max(POLICY.open_seconds, POLICY.probe_seconds))
        assert self.granted()

    @invariant()
    def both_are_in_the_same_state(self) -> None:
        assert self.breaker.state == self.model.state
        assert (self.breaker.probing_since is not None) == (
            self.model.state == "half_open" and self.model.probe_under_way()
        )
        told = {status.name for status in self.breakers.statuses()}
        assert told == ({NAME} if self.breaker != Breaker() else set())


TestBreakerAgainstModel = BreakerAgainstModel.TestCase
TestBreakerAgainstModel.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


class Lab:
    """Breakers in memory, with a clock."""

    def __init__(self, policy: BreakerPolicy = POLICY) -> None:
        self.clock = Clock()
        self.store = MemoryBreakerStore()
        self.breakers = SharedBreakers(self.store, policy, self.clock)

    def fail(self, times: int, reason: str = "no answer") -> None:
        for _ in range(times):
            self.breakers.failed(NAME, reason)

    def granted(self) -> bool:
        return self.breakers.allow(NAME).granted

    @property
    def state(self) -> BreakerState:
        return self.store.all().get(NAME, Breaker()).state


@pytest.fixture
def lab() -> Lab:
    return Lab()


def test_it_opens_after_failures_in_a_row_and_not_before(lab: Lab) -> None:
    lab.fail(2)
    lab.breakers.succeeded(NAME)
    assert lab.store.all() == {}
    lab.fail(2)
    assert lab.granted()
    lab.fail(1)
    assert not lab.granted()


def test_the_pause_is_as_long_as_the_policy_says(lab: Lab) -> None:
    lab.fail(3)
    assert lab.breakers.statuses()[0].retry_at == START + timedelta(seconds=100)
    lab.clock.move(99.999)
    assert not lab.granted()
    lab.clock.move(0.001)
    assert lab.granted()


def test_two_successes_one_after_the_other_close_it(lab: Lab) -> None:
    lab.fail(3)
    lab.clock.move(100)
    for _ in range(2):
        assert lab.granted()
        assert not lab.granted()  # one at a time
        lab.breakers.succeeded(NAME)
    assert lab.store.all() == {}
    assert lab.breakers.statuses() == ()


def test_one_failure_opens_it_again_for_a_whole_pause(lab: Lab) -> None:
    lab.fail(3)
    lab.clock.move(100)
    assert lab.granted()
    lab.breakers.succeeded(NAME)
    assert lab.granted()
    lab.fail(1)
    lab.clock.move(99)
    assert not lab.granted()
    lab.clock.move(1)
    assert lab.granted()
    lab.breakers.succeeded(NAME)
    assert lab.state is BreakerState.HALF_OPEN  # the success before the failure does not count


def test_a_success_that_comes_late_does_not_close_it(lab: Lab) -> None:
    lab.fail(3)
    for _ in range(5):
        lab.breakers.succeeded(NAME)
    assert not lab.granted()


def test_a_failure_that_comes_late_does_not_lengthen_the_pause(lab: Lab) -> None:
    lab.fail(3)
    lab.clock.move(60)
    lab.fail(1, "late")
    assert lab.breakers.allow(NAME).reason == "late"
    lab.clock.move(40)
    assert lab.granted()


def test_a_probe_never_heard_of_again_counts_as_lost(lab: Lab) -> None:
    lab.fail(3)
    lab.clock.move(100)
    assert lab.granted()
    lab.clock.move(249)
    refused = lab.breakers.allow(NAME)
    assert (refused.granted, refused.retry_at) == (False, lab.clock.now + timedelta(seconds=1))
    lab.clock.move(1)
    assert lab.granted()
    assert not lab.granted()


def test_a_clock_set_back_by_a_year_lengthens_no_pause(lab: Lab) -> None:
    lab.fail(3)
    lab.clock.move(-365 * 24 * 3600)
    assert not lab.granted()
    lab.clock.move(100)
    assert lab.granted()
    lab.clock.move(-365 * 24 * 3600)
    assert not lab.granted()
    lab.clock.move(250)
    assert lab.granted()


def test_what_is_said_of_a_failure_is_inert(lab: Lab) -> None:
    lab.fail(1, "\x1b[31mred\nline" + "x" * 1000)
    (status,) = lab.breakers.statuses()
    assert status.breaker.last_failure.startswith("\\x1b[31mred\\nline")
    assert len(status.breaker.last_failure) == 300


def test_breakers_do_not_disturb_one_another(lab: Lab) -> None:
    lab.fail(3)
    assert lab.breakers.allow("engine other").granted
    assert [status.name for status in lab.breakers.statuses()] == [NAME]


def test_of_twenty_threads_one_probe_passes(lab: Lab) -> None:
    together = threading.Barrier(20, timeout=30)

    def ask(_: int) -> bool:
        together.wait()
        return lab.granted()

    with ThreadPoolExecutor(20) as threads:
        for _ in range(20):
            lab.fail(3)
            lab.clock.move(100)
            assert sum(threads.map(ask, range(20))) == 1


def test_twenty_threads_count_every_failure() -> None:
    lab = Lab(BreakerPolicy(failures=1000))
    with ThreadPoolExecutor(20) as threads:
        list(threads.map(lambda _: lab.fail(40), range(20)))
    assert lab.store.all()[NAME].failures == 800


class RepeatingStore(MemoryBreakerStore):
    """Takes each step twice from the same breaker, as a database that must repeat it does."""

    def update(self, name: str, step: Callable[[Breaker], tuple[Breaker, T]]) -> T:
        def twice(breaker: Breaker) -> tuple[Breaker, T]:
            first, second = step(breaker), step(breaker)
            assert first == second
            return second

        return super().update(name, twice)


def test_a_step_may_be_taken_again() -> None:
    breakers = SharedBreakers(RepeatingStore(), POLICY)
    for _ in range(3):
        breakers.failed(NAME, "no answer")
    assert not breakers.allow(NAME).granted


def test_a_step_that_fails_changes_nothing(lab: Lab) -> None:
    lab.fail(1)
    before = lab.store.all()

    def step(_: Breaker) -> tuple[Breaker, None]:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        lab.store.update(NAME, step)
    assert lab.store.all() == before


async def test_the_gate_says_which_breaker_why_and_until_when(lab: Lab) -> None:
    gate = BreakerGate(lab.breakers, NAME)
    await gate.enter()
    for _ in range(3):
        await gate.failed("connection refused")
    with pytest.raises(Postponed) as caught:
        await gate.enter()
    assert NAME in caught.value.message
    assert "connection refused" in caught.value.message
    assert caught.value.until == START + timedelta(seconds=100)
    assert "2026-01-01 00:01:40 UTC" in caught.value.remedy


async def test_the_gate_opens_again(lab: Lab) -> None:
    gate = BreakerGate(lab.breakers, NAME)
    lab.fail(3)
    lab.clock.move(100)
    for _ in range(2):
        await gate.enter()
        await gate.succeeded()
    assert lab.store.all() == {}


async def test_a_check_lets_nobody_through(lab: Lab) -> None:
    gate = BreakerGate(lab.breakers, NAME)
    lab.fail(3)
    with pytest.raises(Postponed, match="no answer"):
        await gate.check()
    lab.clock.move(100)
    for _ in range(3):
        await gate.check()
    await gate.enter()
    await gate.check()  # `enter` would wait


async def test_who_only_checks_notices_a_clock_set_back(lab: Lab) -> None:
    gate = BreakerGate(lab.breakers, NAME)
    lab.fail(3)
    lab.clock.move(-365 * 24 * 3600)
    with pytest.raises(Postponed):
        await gate.check()
    lab.clock.move(100)
    await gate.check()


async def test_a_call_given_up_lets_the_next_one_probe(lab: Lab) -> None:
    gate = BreakerGate(lab.breakers, NAME)
    lab.fail(3)
    lab.clock.move(100)
    await gate.enter()
    await gate.withdrawn()
    await asyncio.wait_for(gate.enter(), 20)
    assert lab.state is BreakerState.HALF_OPEN


class Visitors:
    """Ten attempts at the gate of a half-open breaker, and those that are inside."""

    def __init__(self, gate: BreakerGate) -> None:
        self.gate = gate
        self.inside = 0
        self.tasks = [asyncio.create_task(self._visit()) for _ in range(10)]

    async def _visit(self) -> None:
        await self.gate.enter()
        self.inside += 1

    async def until(self, inside: int) -> None:
        async with asyncio.timeout(20):
            while self.inside < inside:  # noqa: ASYNC110 -- real threads are waited for
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)  # for more to come in, if they can
        assert self.inside == inside

    async def endings(self) -> list[BaseException | None]:
        gathered = asyncio.gather(*self.tasks, return_exceptions=True)
        return await asyncio.wait_for(gathered, 20)


async def test_while_one_probes_the_others_wait(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breakers_module, "PROBE_CHECK_SECONDS", 0.001)
    gate = BreakerGate(lab.breakers, NAME)
    lab.fail(3)
    lab.clock.move(100)
    visitors = Visitors(gate)
    await visitors.until(1)
    await gate.succeeded()
    await visitors.until(2)
    await gate.succeeded()
    assert await visitors.endings() == [None] * 10


async def test_when_the_one_that_probes_fails_the_others_are_postponed(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breakers_module, "PROBE_CHECK_SECONDS", 0.001)
    gate = BreakerGate(lab.breakers, NAME)
    lab.fail(3)
    lab.clock.move(100)
    visitors = Visitors(gate)
    await visitors.until(1)
    await gate.failed("still no answer")
    endings = await visitors.endings()
    assert endings.count(None) == 1
    postponed = [ending for ending in endings if isinstance(ending, Postponed)]
    assert len(postponed) == 9
    assert {ending.until for ending in postponed} == {lab.clock.now + timedelta(seconds=100)}
