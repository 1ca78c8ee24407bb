"""How much a model call may use: its output is limited to what is left, and that is reserved."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from runner.domain import Api, BudgetKind
from runner.gateway.apis import limited
from runner.gateway.calls import ModelRequest, Refused, Upstream
from runner.gateway.ledger import Ledger, OverBudget, Reservation
from runner.gateway.prices import Prices

UNSAID_OUTPUT_TOKENS = 4_096
"""Under a budget, of a choice whose agent set no limit. Everything that is left would be more than
many models accept as a limit, and would leave nothing to calls beside it."""


@dataclass(frozen=True, kw_only=True)
class Admission:
    """The budgets of an attempt, and what calls are assumed to take of them."""

    ledger: Ledger
    prices: Prices
    margin: float
    on_over_budget: Callable[[OverBudget], None]

    async def admit(
        self, request: ModelRequest, upstream: Upstream, tokens_input: int
    ) -> tuple[ModelRequest, Reservation]:
        """The request, its output limited, and what was reserved for it; raises Refused.

        A call that fits, but for what calls under way hold, waits for them to give back.
        """
        margin = 1.0 if upstream.counts_as_we_do else self.margin
        need = _Need(
            request=request,
            upstream=upstream,
            tokens_input=math.ceil(tokens_input * margin),
            prices=self.prices,
        )
        self._check_price(need)
        while True:
            try:
                return self._reserved(need)
            except OverBudget as over:
                if not over.held:
                    self.on_over_budget(over)
                    raise _refusal(over) from None
            await self.ledger.returned()

    def _check_price(self, need: _Need) -> None:
        if self.ledger.cost_left is not None and need.cost(0) is None:
            message = "there is a cost budget, and the price of this model is unknown"
            raise Refused(400, "price_unknown", message)

    def _reserved(self, need: _Need) -> tuple[ModelRequest, Reservation]:
        """All that is asked for, else as much as is left; raises OverBudget."""
        if self.ledger.tokens_left is None and self.ledger.cost_left is None:
            return need.request, self.ledger.reserve(need.tokens_input, None)
        try:
            return self._taken(need, need.wanted)
        except OverBudget as over:
            if over.kind is None or over.held or not need.wanted:
                raise
        # It will never fit as it is. The least that makes sense decides whether it may wait.
        self._taken(need, need.least)[1].release()
        return self._taken(need, self._affordable(need))

    def _taken(self, need: _Need, output: int) -> tuple[ModelRequest, Reservation]:
        request = limited(need.request, output, need.upstream.provider)
        output = (request.max_output_tokens or 0) * request.choices
        return request, self.ledger.reserve(need.tokens_input + output, need.cost(output))

    def _affordable(self, need: _Need) -> int:
        """The most output that tokens and money left allow, at least `need.least`."""
        tokens = self.ledger.tokens_left
        most = need.wanted if tokens is None else min(need.wanted, tokens - need.tokens_input)
        if (money := self.ledger.cost_left) is None:
            return most
        low, high = need.least, max(need.least, most)
        while low < high:
            middle = (low + high + 1) // 2
            cost = need.cost(middle)
            low, high = (middle, high) if cost is not None and cost <= money else (low, middle - 1)
        return low


@dataclass(frozen=True, kw_only=True)
class _Need:
    """What one call needs."""

    request: ModelRequest
    upstream: Upstream
    tokens_input: int
    """At most."""
    prices: Prices

    @property
    def least(self) -> int:
        """One token of output for each choice."""
        return self.request.choices if self._speaks else 0

    @property
    def wanted(self) -> int:
        """Output of all choices."""
        each = self.request.max_output_tokens or UNSAID_OUTPUT_TOKENS
        return each * self.request.choices if self._speaks else 0

    def cost(self, output: int) -> Decimal | None:
        """At most; None: unknown."""
        return self.prices.upper_bound(
            self.upstream.name,
            self.upstream.provider,
            str(self.request.body["model"]),
            self.tokens_input,
            output,
            has_audio=self.request.tokens_audio > 0,
        )

    @property
    def _speaks(self) -> bool:
        return self.request.api is not Api.EMBEDDINGS


def _refusal(over: OverBudget) -> Refused:
    whose = "this run" if over.whole_run else "this attempt"
    match over.kind:
        case None:
            message = f"the model calls that {whose} may make are used up"
            return Refused(429, "model_calls_exceeded", message)
        case BudgetKind.TOKENS | BudgetKind.COST:
            message = f"this call does not fit in what is left of the {over.kind} budget of {whose}"
            return Refused(429, "budget_exceeded", message)
