"""One attempt's access to models and tools: who it is, what it did, and whether it is over."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from runner.domain import BudgetKind, Divergence, GatewayUse, ModelCall, ToolCall
from runner.errors import InfrastructureError, RunnerError
from runner.gateway.waits import Clockwork
from runner.ports import Connection

if TYPE_CHECKING:
    from runner.gateway.ledger import OverBudget

_log = logging.getLogger(__name__)

_REFUSED_KEPT = 1000
"""Refused calls of which a result tells: a flood of them is not to fill our memory."""


class Equipment(Protocol):
    """What serves an attempt's connections, made for the first one."""

    async def serve(self, connection: Connection) -> None:
        """As `GatewayAccess.serve`, and closes the connection."""
        ...

    @property
    def divergence(self) -> Divergence | None:
        """In a replay."""
        ...

    async def aclose(self) -> None:
        """Gives up what it holds."""
        ...


class Session:
    """`GatewayAccess` of one attempt; its pieces report here what was done."""

    def __init__(
        self,
        *,
        max_connections: int,
        clockwork: Clockwork,
        equip: Callable[[Session], Awaitable[Equipment]],
    ) -> None:
        """`equip` is called for the first connection; it may raise RunnerError."""
        self.key = f"at-{secrets.token_hex(16)}"
        self.clockwork = clockwork
        self._max_connections = max_connections
        self._equip = equip
        self._equipping = asyncio.Lock()
        self._equipment: Equipment | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._closed = False
        self._connections = 0
        self._numbers = itertools.count(1)
        self._model_calls: list[ModelCall] = []
        self._tool_calls: list[ToolCall] = []
        self._refused = 0
        self._over_budget: BudgetKind | None = None
        self._spent_out = False
        self._failure: RunnerError | None = None
        self._over = asyncio.Event()

    # -- what the attempt sees -------------------------------------------------------------------

    @property
    def environment(self) -> Mapping[str, str]:
        """Where SDKs of OpenAI and Anthropic look, and two variables of our own."""
        return {
            "OPENAI_BASE_URL": "{url}/v1",
            "OPENAI_API_KEY": self.key,
            "ANTHROPIC_BASE_URL": "{url}",
            "ANTHROPIC_API_KEY": self.key,
            "AGENTTRACE_GATEWAY_URL": "{url}",
            "AGENTTRACE_GATEWAY_KEY": self.key,
        }

    @property
    def max_connections(self) -> int:
        """At once."""
        return self._max_connections

    @property
    def excused_seconds(self) -> float:
        """By how much the attempt's deadline is put off so far."""
        return self.clockwork.excused_seconds

    async def serve(self, connection: Connection) -> None:
        """Speaks HTTP/1.1 until either side ends it; after the attempt's end, not at all."""
        self._connections += 1
        serving = asyncio.create_task(self._serve(connection))
        self._serving.add(serving)
        serving.add_done_callback(self._serving.discard)
        try:
            await asyncio.wait({serving})
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            await connection.close()
        if not serving.cancelled() and (error := serving.exception()) is not None:
            _log.error("a connection of an agent could not be served", exc_info=error)

    async def over(self) -> None:
        """Returns once a budget was met, or our own side has failed."""
        await self._over.wait()

    def use(self) -> GatewayUse:
        """What was done until now, calls in order of their number."""
        return GatewayUse(
            model_calls=tuple(sorted(self._model_calls, key=lambda call: call.number)),
            tool_calls=tuple(sorted(self._tool_calls, key=lambda call: call.number)),
            excused_seconds=self.clockwork.excused_seconds,
            model_seconds=self.clockwork.model_seconds,
            over_budget=self._over_budget,
            spent_out=self._spent_out,
            connections=self._connections,
            divergence=self._equipment.divergence if self._equipment else None,
        )

    # -- what its pieces report ------------------------------------------------------------------

    def next_number(self) -> int:
        """Of an exchange; models and tools count together."""
        return next(self._numbers)

    def note_model_call(self, call: ModelCall) -> None:
        """One has ended, however."""
        # What was counted is always told: an agent could hide it behind a flood of refusals.
        if call.token_source is not None or self._keeps(call.refused):
            self._model_calls.append(call)

    def note_tool_call(self, call: ToolCall) -> None:
        """One has ended, however."""
        if self._keeps(call.refused):
            self._tool_calls.append(call)

    def met_budget(self, over: OverBudget) -> None:
        """A call was refused for it. Too many calls end nothing: the agent is told, and goes on."""
        if over.whole_run:
            self._spent_out = True
        elif over.kind is not None:
            self._over_budget = self._over_budget or over.kind
        else:
            return
        self._over.set()

    def fail(self, error: RunnerError) -> None:
        """Our own side failed: whatever comes of the attempt is no verdict."""
        self._failure = self._failure or error
        self._over.set()

    # -- its end ---------------------------------------------------------------------------------

    async def close(self) -> None:
        """Ends and settles all that is under way; may be repeated."""
        self._closed = True
        serving = list(self._serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        if self._equipment is not None:
            await self._equipment.aclose()

    def raise_failure(self) -> None:
        """Raises what `fail` was told of first."""
        if isinstance(self._failure, InfrastructureError):
            raise self._failure
        if self._failure is not None:
            raise InfrastructureError(
                f"the gateway failed: {self._failure.message}", remedy=self._failure.remedy
            ) from self._failure

    def _keeps(self, refused: str) -> bool:
        self._refused += bool(refused)
        return not refused or self._refused <= _REFUSED_KEPT

    async def _serve(self, connection: Connection) -> None:
        try:
            equipment = await self._equipped()
            if equipment is not None:
                await equipment.serve(connection)
        except RunnerError as error:
            self.fail(error)

    async def _equipped(self) -> Equipment | None:
        """None where there is none any more."""
        async with self._equipping:
            if self._closed or self._failure is not None:
                return None
            if self._equipment is None:
                self._equipment = await self._equip(self)
            return self._equipment
