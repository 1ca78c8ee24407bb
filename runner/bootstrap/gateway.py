"""The gateway of a run, from the settings: its upstreams, budgets, caches and recordings."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from runner.config import GatewaySettings, Settings, state_directory
from runner.domain import Budget, RunPlan, TokenSource
from runner.errors import InvalidConfiguration, NotSetUp
from runner.gateway.cache import AnswerCache
from runner.gateway.calls import Price, Upstream
from runner.gateway.counting import SCRIPTED
from runner.gateway.gateway import GatewayPolicy, ModelGateway
from runner.gateway.ledger import Ledger
from runner.gateway.prices import Prices
from runner.gateway.replay import Recording
from runner.ports import Breakers, Gateway
from runner.records import layout
from runner.records.spending import SpendingJournal, load_spending

if TYPE_CHECKING:
    from runner.gateway.upstreams.script import Script

Recordings = Mapping[tuple[str, int], Path]
"""In a replay: the file of exchanges of each task and repeat; it may be missing."""

PER_MILLION = 1_000_000


@asynccontextmanager
async def opened_gateway(
    settings: Settings,
    plan: RunPlan,
    run: Path,
    breakers: Breakers,
    recordings: Recordings | None = None,
) -> AsyncIterator[Gateway | None]:
    """The gateway of the run whose directory is `run`; None where its agent cannot reach one.

    Raises InvalidConfiguration, InvalidSuite, NotSetUp.
    """
    if plan.image is None or not settings.gateway.enabled:
        yield None
        return
    given = settings.gateway
    if recordings is None:
        check_gateway(given, os.environ)
    models, tools = answer_caches(settings)
    with closing(SpendingJournal(run / layout.SPENDING)) as journal:
        gateway = ModelGateway(
            policy_of(given),
            shared_upstreams=partial(upstreams_of, given, breakers, os.environ),
            own_upstreams=partial(_scripted_of, given),
            prices=partial(_prices_of, given),
            ledger=run_ledger(settings, run),
            model_cache=models if given.cache_models else None,
            tool_cache=tools if given.cache_tools else None,
            recordings=None if recordings is None else partial(_recording, recordings),
            on_spending=journal.append,
            seed=plan.seed,
        )
        warming = asyncio.create_task(_warmed(plan, given))
        try:
            yield gateway
        finally:
            await warming
            await gateway.close()


async def _warmed(plan: RunPlan, given: GatewaySettings) -> None:
    """Imports what serves connections before the first task's time runs, where some will come."""
    with_tools = any(task.prompt.tools for task in plan.tasks)
    if with_tools or given.models != (SCRIPTED,):
        await asyncio.to_thread(importlib.import_module, "runner.gateway.assembly")


def answer_caches(settings: Settings) -> tuple[AnswerCache, AnswerCache]:
    """Of models, and of tools; nothing is made until something is kept in them."""
    directory = state_directory(settings, os.environ) / "answers"
    return AnswerCache(directory / "models"), AnswerCache(directory / "tools")


def policy_of(given: GatewaySettings) -> GatewayPolicy:
    """What the settings say, as the gateway's own type."""
    return GatewayPolicy(
        models=given.models,
        token_margin=given.token_margin,
        max_wait_seconds=given.max_wait_seconds,
        excuse_waits=given.excuse_waits,
        idle_seconds=given.idle_seconds,
        call_seconds=given.call_seconds,
        request_bytes=given.request_bytes,
        response_bytes=given.response_bytes,
        connections=given.connections,
        record=given.record,
        record_bytes=given.record_bytes,
    )


def check_gateway(given: GatewaySettings, environ: Mapping[str, str]) -> None:
    """What of it can be wrong before there is a run; raises InvalidConfiguration, NotSetUp."""
    if not given.enabled:
        return
    check_models(given, environ)
    if given.script:
        _script_of(given)


def check_models(given: GatewaySettings, environ: Mapping[str, str]) -> None:
    """Whether agents can call what they may.

    Raises InvalidConfiguration for a model of an upstream that there is not, NotSetUp where the key
    of one that is named is not set.
    """
    known = (SCRIPTED.partition("/")[0], *given.upstreams)
    for model in given.models:
        if not any(fnmatchcase(name, model.partition("/")[0]) for name in known):
            raise InvalidConfiguration(
                f"agents may call {model!r}, but there is no upstream of that name",
                remedy=f"write UPSTREAM/MODEL, with one of {', '.join(known)},"
                " or add a table [gateway.upstreams.NAME]",
            )
    for name, upstream in given.upstreams.items():
        wanted = [each for each in given.models if each.partition("/")[0] == name]
        if wanted and upstream.key_env and not environ.get(upstream.key_env):
            raise NotSetUp(
                f"agents may call {wanted[0]}, but {upstream.key_env} is not set",
                remedy=f"export {upstream.key_env},"
                " or leave that model out of --model and gateway.models",
            )


def upstreams_of(
    given: GatewaySettings, breakers: Breakers, environ: Mapping[str, str]
) -> Sequence[Upstream]:
    """Those of the settings."""
    from runner.gateway.upstreams.http import (  # noqa: PLC0415 - with the first connection
        HttpPolicy,
        HttpUpstream,
    )

    policy = HttpPolicy(
        retries=given.retries,
        connect_seconds=given.connect_seconds,
        idle_seconds=given.idle_seconds,
    )
    return [
        HttpUpstream(
            name=name,
            api=each.api,
            base_url=each.base_url,
            key=environ.get(each.key_env, ""),
            provider=each.provider,
            policy=policy,
            breakers=breakers,
        )
        for name, each in given.upstreams.items()
    ]


def _scripted_of(given: GatewaySettings) -> Sequence[Upstream]:
    """`agenttrace/scripted`, which remembers what one attempt has asked it."""
    from runner.gateway.counting import TokenCounter  # noqa: PLC0415 - the same
    from runner.gateway.upstreams.scripted import ScriptedUpstream  # noqa: PLC0415 - the same

    return [ScriptedUpstream(_script_of(given), TokenCounter(), retries=given.retries)]


def _script_of(given: GatewaySettings) -> Script:
    """The rules of the scripted model; raises InvalidConfiguration."""
    from runner.gateway.upstreams.script import SHIPPED, load_script  # noqa: PLC0415 - the same

    return load_script(Path(given.script).expanduser() if given.script else SHIPPED)


def _prices_of(given: GatewaySettings) -> Prices:
    overrides = {
        (name, model): Price(
            input_usd=Decimal(str(price.input_usd_per_million)) / PER_MILLION,
            output_usd=Decimal(str(price.output_usd_per_million)) / PER_MILLION,
        )
        for name, upstream in given.upstreams.items()
        for model, price in upstream.prices.items()
    }
    return Prices(overrides)


def run_ledger(settings: Settings, run: Path) -> Ledger | None:
    """The budget of a whole run, less what its earlier runners have spent; None: there is none."""
    given = settings.run
    if not given.max_tokens and not given.max_cost_usd:
        return None
    ledger = Ledger(Budget(tokens=given.max_tokens or None, cost_usd=given.max_cost_usd or None))
    for spent in load_spending(run / layout.SPENDING):
        cost = Decimal(str(spent.cost_usd)) if spent.cost_usd is not None else None
        ledger.spend(spent.tokens_input + spent.tokens_output, cost)
    return ledger


def _recording(recordings: Recordings, task_id: str, repeat: int) -> Recording:
    from runner.gateway.exchanges import load_exchanges  # noqa: PLC0415 - for replays alone

    path = recordings.get((task_id, repeat))
    return Recording(load_exchanges(path) if path and path.exists() else ())


def token_count() -> Callable[[Sequence[str]], tuple[int, TokenSource]]:
    """Counts the tokens of an agent that calls no model, as those of models nobody knows."""
    from runner.gateway.counting import TokenCounter  # noqa: PLC0415 - kept out of start-up

    return partial(TokenCounter().count, "")
