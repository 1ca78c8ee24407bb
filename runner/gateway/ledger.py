"""What an attempt and its run may still use: reserved before each call, settled after it.

One event loop uses a ledger, and none of its operations awaits: each is done as a whole before
the next begins, whatever else runs.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Generic, TypeVar

from runner.domain import Budget, BudgetKind

N = TypeVar("N", int, Decimal)


class OverBudget(Exception):
    """A call that would exceed a budget; nothing was taken for it.

    `kind` is the budget; None: the number of calls. `whole_run`: it is the whole run's, not the
    attempt's own. `held`: only calls under way are in the way, and one of them may give back
    enough (see `Ledger.returned`).
    """

    def __init__(
        self, kind: BudgetKind | None, whole_run: bool = False, *, held: bool = False
    ) -> None:
        super().__init__(f"over the budget: {kind or 'number of calls'}")
        self.kind = kind
        self.whole_run = whole_run
        self.held = held


class Ledger:
    """The budgets of one attempt, and those of its run, which is the parent.

    A call is taken from both, or from neither.
    """

    def __init__(self, budget: Budget, parent: Ledger | None = None) -> None:
        self.books: tuple[_Book, ...] = (_Book.of(budget), *(parent.books if parent else ()))
        """Its own first."""

    def reserve(self, tokens: int, cost: Decimal | None) -> Reservation:
        """Takes one model call that uses at most this; raises OverBudget and takes nothing.

        `cost` None, unknown, is an error of the caller where there is a budget for it.
        """
        if cost is None and self.cost_left is not None:
            raise ValueError("a call of unknown cost cannot be reserved under a cost budget")
        reservation = Reservation(self.books, tokens, cost or Decimal(0))
        for book in self.books:
            if refusal := book.refusal(tokens, reservation.cost):
                refusal.whole_run = book is not self.books[0]
                raise refusal
        for book in self.books:
            book.tokens.held += tokens
            book.cost.held += reservation.cost
            book.model_calls.held += 1
        return reservation

    def reserve_tool(self) -> None:
        """Takes one tool call; raises OverBudget and takes nothing."""
        for book in self.books:
            if not book.tool_calls.fits(1):
                raise OverBudget(None, book is not self.books[0])
        for book in self.books:
            book.tool_calls.used += 1

    def spend(self, tokens: int, cost: Decimal | None) -> None:
        """Adds what was used before, by an earlier runner of the run; it may exceed the budget."""
        _check(tokens, cost or Decimal(0))
        for book in self.books:
            book.tokens.used += tokens
            book.cost.used += cost or Decimal(0)

    @property
    def tokens_left(self) -> int | None:
        """Here and above, without what calls under way hold; None: no budget."""
        return _least([book.tokens.left for book in self.books])

    @property
    def cost_left(self) -> Decimal | None:
        """The same, in US dollars."""
        return _least([book.cost.left for book in self.books])

    @property
    def model_calls_left(self) -> int | None:
        """The same."""
        return _least([book.model_calls.left for book in self.books])

    @property
    def tool_calls_left(self) -> int | None:
        """The same."""
        return _least([book.tool_calls.left for book in self.books])

    async def returned(self) -> None:
        """Waits until a call under way, of this ledger or of another of its run, has ended.

        Ask `reserve` again then: another call may have been quicker.
        """
        ended = asyncio.get_running_loop().create_future()
        for book in self.books:
            book.waiting.add(ended)
        try:
            await ended
        finally:
            for book in self.books:
                book.waiting.discard(ended)


class Reservation:
    """What one model call may use at most. Of `settle` and `release` the first one counts."""

    def __init__(self, books: tuple[_Book, ...], tokens: int, cost: Decimal) -> None:
        _check(tokens, cost)
        self.tokens = tokens
        self.cost = cost
        self._books = books
        """Empty once it has ended."""

    def settle(self, tokens: int, cost: Decimal | None) -> None:
        """The call was sent and used this, in full also where it is more than was reserved.

        `cost` None, unknown: what was reserved for it counts.
        """
        spent = self.cost if cost is None else cost
        _check(tokens, spent)
        for book in self._end():
            book.tokens.used += tokens
            book.cost.used += spent
            book.model_calls.used += 1

    def release(self) -> None:
        """The call was never sent: it does not count as one either."""
        self._end()

    def _end(self) -> tuple[_Book, ...]:
        """Gives back what was held, and tells those that wait; says in which books."""
        books, self._books = self._books, ()
        for book in books:
            book.tokens.held -= self.tokens
            book.cost.held -= self.cost
            book.model_calls.held -= 1
            for waiting in book.waiting:
                if not waiting.done():
                    waiting.set_result(None)
        return books


@dataclass
class _Account(Generic[N]):
    """One figure of a book."""

    budget: N | None
    """None: no budget."""
    used: N
    held: N
    """By calls under way."""

    def fits(self, more: N) -> bool:
        return self.budget is None or self.used + self.held + more <= self.budget

    def would_fit(self, more: N) -> bool:
        """If the calls under way used nothing."""
        return self.budget is None or self.used + more <= self.budget

    @property
    def left(self) -> N | None:
        if self.budget is None:
            return None
        return self.budget - min(self.budget, self.used + self.held)


@dataclass
class _Book:
    """What is known of one ledger without its parents."""

    tokens: _Account[int]
    cost: _Account[Decimal]
    model_calls: _Account[int]
    tool_calls: _Account[int]
    waiting: set[asyncio.Future[None]] = field(default_factory=set)

    @classmethod
    def of(cls, budget: Budget) -> _Book:
        # By way of its shortest text: 0.1 dollars are 0.1, not the float's 0.1000000000000000055.
        cost = None if budget.cost_usd is None else Decimal(str(budget.cost_usd))
        return cls(
            tokens=_Account(budget.tokens, 0, 0),
            cost=_Account(cost, Decimal(0), Decimal(0)),
            model_calls=_Account(budget.model_calls, 0, 0),
            tool_calls=_Account(budget.tool_calls, 0, 0),
        )

    def refusal(self, tokens: int, cost: Decimal) -> OverBudget | None:
        """Why one more model call, of so many tokens and dollars, does not fit."""
        if not self.model_calls.fits(1):
            return OverBudget(None)
        if not self.tokens.fits(tokens):
            return OverBudget(BudgetKind.TOKENS, held=self.tokens.would_fit(tokens))
        if not self.cost.fits(cost):
            return OverBudget(BudgetKind.COST, held=self.cost.would_fit(cost))
        return None


def _least(left: list[N | None]) -> N | None:
    return min((each for each in left if each is not None), default=None)


def _check(tokens: int, cost: Decimal) -> None:
    """What is below zero would give a budget back more than was taken from it."""
    if tokens < 0 or not cost.is_finite() or cost < 0:
        raise ValueError(f"neither tokens nor costs are negative: {tokens}, {cost}")
