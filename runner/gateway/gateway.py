"""All that network-less agents can reach, for one run: it opens a session for each attempt."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from runner.domain import BenchmarkTask, Limits, Spending
from runner.domain.base import Noun
from runner.gateway.exchanges import MOST_BYTES
from runner.gateway.session import Equipment, Session
from runner.gateway.waits import Clockwork

if TYPE_CHECKING:
    from runner.gateway.cache import AnswerCache
    from runner.gateway.calls import Upstream
    from runner.gateway.ledger import Ledger
    from runner.gateway.prices import Prices
    from runner.gateway.replay import Recording


@runtime_checkable
class Closing(Protocol):
    """An upstream that keeps connections."""

    async def close(self) -> None:
        """Ends them; may be repeated."""
        ...


class GatewayPolicy(Noun):
    """What agents may use, and what they may cost us; see the settings `gateway.*`."""

    models: tuple[str, ...]
    """Shell patterns of UPSTREAM/MODEL."""
    token_margin: float = 1.25
    """How much more than our own count a call is assumed to take."""
    max_wait_seconds: float = 120.0
    """Longest waiting for upstreams in trouble within one attempt, all together."""
    excuse_waits: bool = True
    """Whether the attempt's deadline is put off by it."""
    idle_seconds: float = 120.0
    """Longest wait for an agent's next bytes."""
    call_seconds: float = 600.0
    """Longest model call."""
    request_bytes: int = 8 * 1024**2
    response_bytes: int = 32 * 1024**2
    connections: int = 256
    """Of one attempt at once."""
    record: bool = True
    """Whether exchanges are written, whole."""
    record_bytes: int = MOST_BYTES
    """Of one attempt; exchanges beyond are told by their digests alone."""
    ports: tuple[int, ...] = (4180, 4181)
    """At which agents find us inside their containers."""


@dataclass(frozen=True, kw_only=True)
class Attempted:
    """What a session is for."""

    task: BenchmarkTask
    repeat: int
    limits: Limits
    exchanges: Path


class ModelGateway:
    """`runner.ports.Gateway`. An attempt that never connects costs next to nothing."""

    def __init__(
        self,
        policy: GatewayPolicy,
        *,
        shared_upstreams: Callable[[], Sequence[Upstream]] = tuple,
        own_upstreams: Callable[[], Sequence[Upstream]] = tuple,
        prices: Callable[[], Prices],
        ledger: Ledger | None = None,
        model_cache: AnswerCache | None = None,
        tool_cache: AnswerCache | None = None,
        recordings: Callable[[str, int], Recording] | None = None,
        on_spending: Callable[[Spending], None] | None = None,
        seed: int = 0,
    ) -> None:
        """`shared_upstreams` and `prices` are called once, for the run's first connection;
        `own_upstreams`, whose answers depend on what they were asked before, for each attempt.

        `ledger` is the whole run's. `recordings` gives what a task and repeat are answered from
        in a replay. `on_spending` is told of each call that used anything.
        """
        self.policy = policy
        self.ledger = ledger
        self.model_cache = model_cache
        self.tool_cache = tool_cache
        self.recordings = recordings
        self.on_spending = on_spending
        self.seed = seed
        self._make_shared = shared_upstreams
        self._make_own = own_upstreams
        self._make_prices = prices
        self._shared: Sequence[Upstream] | None = None
        self._prices: Prices | None = None

    @asynccontextmanager
    async def open(
        self, task: BenchmarkTask, repeat: int, limits: Limits, exchanges: Path
    ) -> AsyncIterator[Session]:
        """As `runner.ports.Gateway`; on exit it raises what made the attempt worthless."""
        attempted = Attempted(task=task, repeat=repeat, limits=limits, exchanges=exchanges)
        session = Session(
            max_connections=self.policy.connections,
            clockwork=Clockwork(
                self.policy.max_wait_seconds, excuse_waits=self.policy.excuse_waits
            ),
            equip=partial(self._equip, attempted),
        )
        try:
            yield session
        finally:
            await session.close()
        session.raise_failure()

    def upstreams(self) -> list[Upstream]:
        """Those of one attempt: the run's, then its own."""
        if self._shared is None:
            self._shared = self._make_shared()
        return [*self._shared, *self._make_own()]

    @property
    def prices(self) -> Prices:
        """Of their models."""
        if self._prices is None:
            self._prices = self._make_prices()
        return self._prices

    async def close(self) -> None:
        """Closes the connections of shared upstreams; after the run's last attempt."""
        shared, self._shared = self._shared, None
        for upstream in shared or ():
            if isinstance(upstream, Closing):
                await upstream.close()

    async def _equip(self, attempted: Attempted, session: Session) -> Equipment:
        # Imported in a thread: it takes long, and other attempts are being timed meanwhile.
        assembly: Any = await asyncio.to_thread(importlib.import_module, "runner.gateway.assembly")
        equipment: Equipment = await assembly.equip(self, attempted, session)
        return equipment
