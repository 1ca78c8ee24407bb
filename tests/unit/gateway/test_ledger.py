"""No budget is exceeded by one, whatever calls are under way at once."""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runner.domain import Budget, BudgetKind
from runner.gateway.ledger import Ledger, OverBudget, Reservation

CENT, MILL = Decimal("0.01"), Decimal("0.001")


def refused(ledger: Ledger, tokens: int, cost: Decimal | None = Decimal(0)) -> OverBudget:
    with pytest.raises(OverBudget) as caught:
        ledger.reserve(tokens, cost)
    return caught.value


def test_a_budget_can_be_used_up_to_its_last_token_and_no_further():
    ledger = Ledger(Budget(tokens=10))
    ledger.reserve(10, None).settle(10, None)
    assert ledger.tokens_left == 0
    refusal = refused(ledger, 1)
    assert (refusal.kind, refusal.whole_run, refusal.held) == (BudgetKind.TOKENS, False, False)


def test_the_cost_is_exact_where_floats_are_not():
    ledger = Ledger(Budget(cost_usd=0.3))
    for _ in range(3):
        ledger.reserve(0, Decimal("0.1")).settle(0, Decimal("0.1"))
    assert ledger.cost_left == 0
    assert refused(ledger, 0, Decimal("1e-20")).kind is BudgetKind.COST


def test_what_was_reserved_and_not_used_comes_back():
    ledger = Ledger(Budget(tokens=100, cost_usd=1.0))
    first = ledger.reserve(90, Decimal("0.9"))
    assert (ledger.tokens_left, ledger.cost_left) == (10, Decimal("0.1"))
    first.settle(20, Decimal("0.2"))
    assert (ledger.tokens_left, ledger.cost_left) == (80, Decimal("0.8"))


def test_a_refusal_that_only_calls_under_way_cause_says_so():
    ledger = Ledger(Budget(tokens=100))
    first = ledger.reserve(90, None)
    assert refused(ledger, 11).held
    assert not refused(ledger, 101).held
    first.settle(90, None)
    assert not refused(ledger, 11).held


def test_a_settlement_above_its_reservation_counts_in_full_and_leaves_nothing_not_less():
    ledger = Ledger(Budget(tokens=10, cost_usd=1.0))
    ledger.reserve(5, Decimal(1)).settle(25, Decimal(3))
    assert (ledger.tokens_left, ledger.cost_left) == (0, 0)
    assert ledger.books[0].tokens.used == 25
    assert refused(ledger, 0).kind is BudgetKind.TOKENS


def test_of_settling_and_releasing_the_first_one_counts():
    ledger = Ledger(Budget(tokens=10, model_calls=3))
    settled, released = ledger.reserve(5, None), ledger.reserve(5, None)
    settled.settle(1, None)
    settled.settle(5, None)
    settled.release()
    released.release()
    released.settle(5, None)
    assert (ledger.tokens_left, ledger.model_calls_left) == (9, 2)


def test_a_call_counts_from_its_reservation_on_unless_it_was_never_sent():
    ledger = Ledger(Budget(model_calls=1))
    first = ledger.reserve(0, None)
    assert refused(ledger, 0).kind is None
    first.release()
    ledger.reserve(0, None).settle(0, None)
    assert refused(ledger, 0).kind is None


def test_an_unknown_cost_cannot_be_reserved_under_a_cost_budget_of_the_attempt_or_the_run():
    for ledger in (Ledger(Budget(cost_usd=1.0)), Ledger(Budget(), Ledger(Budget(cost_usd=1.0)))):
        with pytest.raises(ValueError, match="unknown cost"):
            ledger.reserve(1, None)
        assert ledger.cost_left == 1


def test_a_call_whose_cost_stays_unknown_counts_with_what_was_reserved_for_it():
    ledger = Ledger(Budget(cost_usd=1.0))
    ledger.reserve(1, Decimal("0.4")).settle(1, None)
    assert ledger.cost_left == Decimal("0.6")


@pytest.mark.parametrize(
    ("tokens", "cost"), [(-1, Decimal(0)), (0, Decimal(-1)), (0, Decimal("NaN"))]
)
def test_nothing_below_zero_is_taken_or_given(tokens, cost):
    ledger = Ledger(Budget(tokens=10, cost_usd=1.0))
    held = ledger.reserve(5, CENT)
    for operation in (ledger.reserve, ledger.spend, held.settle):
        with pytest.raises(ValueError, match="negative"):
            operation(tokens, cost)
    assert (ledger.tokens_left, ledger.cost_left) == (5, Decimal("0.99"))


def test_what_the_run_refuses_is_not_taken_from_the_attempt():
    run = Ledger(Budget(tokens=10))
    attempt = Ledger(Budget(tokens=100, model_calls=5), run)
    refusal = refused(attempt, 11)
    assert (refusal.kind, refusal.whole_run) == (BudgetKind.TOKENS, True)
    assert (attempt.books[0].tokens.held, attempt.model_calls_left) == (0, 5)


def test_what_the_attempt_refuses_is_its_own_even_where_the_run_would_refuse_too():
    attempt = Ledger(Budget(tokens=5), Ledger(Budget(tokens=5)))
    assert not refused(attempt, 6).whole_run


def test_attempts_of_a_run_share_its_budget_and_not_their_own():
    run = Ledger(Budget(tokens=100))
    one, other = (Ledger(Budget(tokens=80), run) for _ in range(2))
    one.reserve(60, None)
    assert (one.tokens_left, other.tokens_left, run.tokens_left) == (20, 40, 40)
    assert refused(other, 41).whole_run


def test_what_earlier_runners_of_the_run_used_counts():
    run = Ledger(Budget(tokens=100, cost_usd=1.0))
    run.spend(70, Decimal("0.7"))
    run.spend(10, None)
    attempt = Ledger(Budget(), run)
    assert (attempt.tokens_left, attempt.cost_left) == (20, Decimal("0.3"))
    run.spend(70, Decimal(7))
    assert (attempt.tokens_left, attempt.cost_left) == (0, 0)


def test_tool_calls_are_limited_apart_from_model_calls():
    ledger = Ledger(Budget(tool_calls=2, model_calls=1), Ledger(Budget()))
    ledger.reserve_tool()
    ledger.reserve_tool()
    with pytest.raises(OverBudget) as caught:
        ledger.reserve_tool()
    assert (caught.value.kind, caught.value.whole_run) == (None, False)
    assert (ledger.tool_calls_left, ledger.model_calls_left) == (0, 1)


def test_without_a_budget_nothing_is_refused():
    ledger = Ledger(Budget())
    ledger.reserve(10**12, None).settle(10**12, Decimal(10**6))
    left = (ledger.tokens_left, ledger.cost_left, ledger.model_calls_left, ledger.tool_calls_left)
    assert left == (None, None, None, None)


async def test_those_that_wait_hear_of_a_call_that_ended_in_another_attempt_of_the_run():
    run = Ledger(Budget(tokens=10))
    one, other = Ledger(Budget(), run), Ledger(Budget(), run)
    held = one.reserve(10, None)
    waiting = asyncio.create_task(other.returned())
    await asyncio.sleep(0)
    assert not waiting.done()
    held.settle(1, None)
    await waiting
    assert other.reserve(9, None)
    assert not any(book.waiting for book in other.books)


async def test_one_that_stops_waiting_is_forgotten():
    ledger = Ledger(Budget(tokens=10))
    waiting = asyncio.create_task(ledger.returned())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not ledger.books[0].waiting
    ledger.reserve(1, None).settle(1, None)


@pytest.mark.parametrize(
    "budget",
    [Budget(tokens=5_000), Budget(cost_usd=5.0), Budget(model_calls=300)],
    ids=["tokens", "cost", "calls"],
)
async def test_a_thousand_parallel_calls_use_a_budget_up_and_never_exceed_it(budget):
    ledger = Ledger(Budget(), Ledger(budget))
    chance = random.Random(7)
    spent: list[int] = []

    async def reserved(tokens: int) -> Reservation | None:
        """Waits for calls under way as long as these may give enough back."""
        while True:
            try:
                return ledger.reserve(tokens, tokens * MILL)
            except OverBudget as refusal:
                if not refusal.held:
                    return None
            await ledger.returned()

    async def call() -> None:
        tokens = chance.randrange(1, 40)
        if reservation := await reserved(tokens):
            for _ in range(chance.randrange(5)):
                await asyncio.sleep(0)
            used = chance.choice([tokens, chance.randrange(tokens + 1)])
            reservation.settle(used, used * MILL)
            spent.append(used)

    await asyncio.gather(*(call() for _ in range(1_000)))
    assert len(spent) <= (budget.model_calls or 1_000)
    assert sum(spent) <= (budget.tokens or 10**6)
    assert sum(spent) * MILL <= Decimal(budget.cost_usd or 10**6)
    # What is left is less than one call: it was not by refusing too much that the budget held.
    assert not any(account.held for account in (ledger.books[1].tokens, ledger.books[1].cost))
    left = ledger.tokens_left, ledger.cost_left and ledger.cost_left / MILL, ledger.model_calls_left
    assert any(each is not None and each < 40 for each in left)


amounts = st.integers(0, 30)


def reservation_or_refusal(ledger: Ledger, tokens: int) -> Reservation | OverBudget:
    try:
        return ledger.reserve(tokens, tokens * CENT)
    except OverBudget as refusal:
        return refusal


class LedgerAgainstSums(RuleBasedStateMachine):
    """Two attempts of one run, beside plain lists of what each has open and has settled."""

    def __init__(self) -> None:
        super().__init__()
        self.budgets = {
            "run": Budget(tokens=100, cost_usd=1.0, model_calls=12),
            "one": Budget(tokens=60, cost_usd=0.7),
            "other": Budget(tokens=80, model_calls=8),
        }
        self.run_ledger = Ledger(self.budgets["run"])
        self.ledgers = {name: Ledger(self.budgets[name], self.run_ledger) for name in self.names}
        self.open: list[tuple[str, int, Reservation]] = []
        self.settled: list[tuple[str, int]] = []

    names = ("one", "other")

    def figures(self, name: str) -> tuple[int, int, int]:
        """Tokens settled, tokens held and calls of that ledger; a token costs a cent."""
        mine = (name,) if name != "run" else self.names
        settled = [tokens for owner, tokens in self.settled if owner in mine]
        held = [tokens for owner, tokens, _ in self.open if owner in mine]
        return sum(settled), sum(held), len(settled) + len(held)

    def left(self, name: str) -> tuple[int | None, Decimal | None, int | None]:
        settled, held, calls = self.figures(name)
        budget = self.budgets[name]
        taken = settled + held
        return (
            None if budget.tokens is None else budget.tokens - taken,
            None if budget.cost_usd is None else Decimal(str(budget.cost_usd)) - taken * CENT,
            None if budget.model_calls is None else budget.model_calls - calls,
        )

    def admits(self, name: str, tokens: int) -> bool:
        left_tokens, left_cost, left_calls = self.left(name)
        return (
            (left_tokens is None or tokens <= left_tokens)
            and (left_cost is None or tokens * CENT <= left_cost)
            and (left_calls is None or left_calls >= 1)
        )

    @rule(name=st.sampled_from(names), tokens=amounts)
    def reserve(self, name: str, tokens: int) -> None:
        expected = self.admits(name, tokens) and self.admits("run", tokens)
        outcome = reservation_or_refusal(self.ledgers[name], tokens)
        if isinstance(outcome, OverBudget):
            assert not expected
            assert outcome.whole_run == self.admits(name, tokens)
        else:
            assert expected
            self.open.append((name, tokens, outcome))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        name, tokens, reservation = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        used = data.draw(st.integers(0, tokens))
        reservation.settle(used, used * CENT)
        reservation.release()
        self.settled.append((name, used))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        _, tokens, reservation = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        reservation.release()
        reservation.settle(tokens, tokens * CENT)

    @invariant()
    def no_budget_is_exceeded(self) -> None:
        for name in self.budgets:
            assert all(each is None or each >= 0 for each in self.left(name))

    @invariant()
    def what_is_left_is_the_least_of_attempt_and_run(self) -> None:
        for name, ledger in self.ledgers.items():
            found = ledger.tokens_left, ledger.cost_left, ledger.model_calls_left
            pairs = zip(self.left(name), self.left("run"), strict=True)
            assert found == tuple(min(x for x in pair if x is not None) for pair in pairs)


TestLedgerAgainstSums = LedgerAgainstSums.TestCase
