"""Puts together what serves one attempt: imported when its first connection comes."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from pydantic import JsonValue

from runner.domain import BenchmarkTask, Budget, Divergence, Limits
from runner.errors import RunnerError
from runner.gateway.app import GatewayApp
from runner.gateway.counting import TokenCounter
from runner.gateway.cycle import Application
from runner.gateway.door import Door
from runner.gateway.exchanges import ExchangeLog
from runner.gateway.gateway import Attempted, ModelGateway
from runner.gateway.ledger import Ledger
from runner.gateway.model_calls import ModelCalls
from runner.gateway.replay import Recording
from runner.gateway.room import RequestRoom
from runner.gateway.server import HttpLimits, serve
from runner.gateway.session import Session
from runner.gateway.tool_calls import ToolCalls
from runner.gateway.tools import make_tools, scope_of
from runner.gateway.upstreams.routing import Upstreams
from runner.ports import Connection

_LARGE_REQUESTS = 8
"""Of the largest size at once: as much of an attempt's requests is in memory."""


class Assembly:
    """`runner.gateway.session.Equipment` of real pieces."""

    def __init__(
        self,
        application: Application,
        *,
        http: HttpLimits,
        door: Door,
        log: ExchangeLog,
        recording: Recording | None,
    ) -> None:
        self._application = application
        self._http = http
        self._door = door
        self._log = log
        self._recording = recording
        self._room = RequestRoom(http.request_bytes * _LARGE_REQUESTS)

    async def serve(self, connection: Connection) -> None:
        """Speaks HTTP/1.1 until either side ends it."""
        await serve(connection, self._application, self._http, self._room)

    @property
    def divergence(self) -> Divergence | None:
        """In a replay."""
        return self._recording.divergence if self._recording else None

    async def aclose(self) -> None:
        """Gives up what it holds."""
        await self._door.aclose()
        self._log.close()


async def equip(gateway: ModelGateway, attempted: Attempted, session: Session) -> Assembly:
    """Everything for one attempt; raises RunnerError where its task or recording does not allow."""
    policy, task = gateway.policy, attempted.task
    books = _Books(
        ledger=Ledger(_budget(task, attempted.limits), gateway.ledger),
        log=ExchangeLog(attempted.exchanges if policy.record else None, policy.record_bytes),
        recording=await _recording(gateway, attempted),
    )
    tools = await _tool_calls(gateway, task, session, books)
    door = Door(lambda: _open_mcp(tools, session.fail))
    application = GatewayApp(
        key=session.key,
        ports=policy.ports,
        models=await _model_calls(gateway, attempted, session, books),
        tools=tools,
        mcp=door,
        budget_left=lambda: _left(books.ledger),
        fail=session.fail,
    )
    http = HttpLimits(idle_seconds=policy.idle_seconds, request_bytes=policy.request_bytes)
    return Assembly(application, http=http, door=door, log=books.log, recording=books.recording)


@dataclass(frozen=True, kw_only=True)
class _Books:
    """What models and tools of an attempt have in common."""

    ledger: Ledger
    log: ExchangeLog
    recording: Recording | None


async def _model_calls(
    gateway: ModelGateway, attempted: Attempted, session: Session, books: _Books
) -> ModelCalls:
    policy = gateway.policy
    counter = TokenCounter()
    if any(not pattern.startswith("agenttrace/") for pattern in policy.models):
        await asyncio.to_thread(counter.prepare, policy.models)
        await asyncio.to_thread(gateway.prices.prepare)
    return ModelCalls(
        upstreams=Upstreams(gateway.upstreams(), policy.models),
        ledger=books.ledger,
        counter=counter,
        prices=gateway.prices,
        log=books.log,
        recording=books.recording,
        cache=gateway.model_cache,
        waits=session.clockwork,
        margin=policy.token_margin,
        on_call=session.note_model_call,
        on_spending=gateway.on_spending,
        on_over_budget=session.met_budget,
        numbers=session.next_number,
        response_bytes=policy.response_bytes,
        call_seconds=policy.call_seconds,
        task_id=attempted.task.task_id,
        repeat=attempted.repeat,
    )


async def _tool_calls(
    gateway: ModelGateway, task: BenchmarkTask, session: Session, books: _Books
) -> ToolCalls:
    names, setups = task.prompt.tools, task.tool_setups
    return ToolCalls(
        tools=await asyncio.to_thread(make_tools, names, setups, gateway.seed),
        ledger=books.ledger,
        log=books.log,
        recording=books.recording,
        cache=gateway.tool_cache,
        on_call=session.note_tool_call,
        on_over_budget=session.met_budget,
        numbers=session.next_number,
        scope=scope_of(names, setups, gateway.seed),
    )


async def _recording(gateway: ModelGateway, attempted: Attempted) -> Recording | None:
    if gateway.recordings is None:
        return None
    task_id = attempted.task.task_id
    return await asyncio.to_thread(gateway.recordings, task_id, attempted.repeat)


def _budget(task: BenchmarkTask, limits: Limits) -> Budget:
    return Budget(
        tokens=task.token_budget,
        cost_usd=task.cost_budget_usd,
        model_calls=limits.model_calls,
        tool_calls=limits.tool_calls,
    )


def _left(ledger: Ledger) -> Mapping[str, JsonValue]:
    """What `GET /budget` tells; null: no budget."""
    cost = ledger.cost_left
    return {
        "tokens_left": ledger.tokens_left,
        "cost_usd_left": None if cost is None else float(cost),
        "model_calls_left": ledger.model_calls_left,
        "tool_calls_left": ledger.tool_calls_left,
    }


async def _open_mcp(
    tools: ToolCalls, fail: Callable[[RunnerError], None]
) -> AbstractAsyncContextManager[Application]:
    # Imported in a thread, and only for agents that speak MCP: it takes longer than all the rest.
    mcp = await asyncio.to_thread(importlib.import_module, "runner.gateway.mcp")
    endpoint: AbstractAsyncContextManager[Application] = mcp.McpEndpoint(tools, fail)
    return endpoint
