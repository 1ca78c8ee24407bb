"""What the settings make of a gateway, and what a run that was begun keeps of them."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from runner.bootstrap import gateway
from runner.bootstrap.begun_with import gateway_begun_with, replay_settings, resumed_settings
from runner.bootstrap.gateway import (
    check_gateway,
    check_models,
    opened_gateway,
    policy_of,
    run_ledger,
    upstreams_of,
)
from runner.bootstrap.running import local_breakers
from runner.config import Settings, load_settings, settings_as_data
from runner.domain import Api, Spending, TokenSource
from runner.errors import InvalidConfiguration, NotSetUp
from runner.gateway.calls import Usage
from runner.records.spending import SpendingJournal
from tests.unit.records.nouns import plan

LOCAL = {
    "api": "openai",
    "base_url": "http://127.0.0.1:9/v1",
    "key_env": "LOCAL_KEY",
    "provider": "openai",
    "prices": {"m": {"input_usd_per_million": 0.3, "output_usd_per_million": 10}},
}
CLAUDE = {"api": "anthropic", "base_url": "http://127.0.0.1:9", "key_env": ""}


def settings(**flags: Any) -> Settings:
    """With two upstreams; `gateway__models` is the setting `gateway.models`."""
    named = {name.replace("__", "."): value for name, value in flags.items()}
    given = {"gateway.upstreams": {"local": LOCAL, "claude": CLAUDE}} | named
    return load_settings(given, cwd=Path("/"), environ={}).settings


def begun(directory: Path, made: Settings) -> Path:
    """A run directory, as far as its settings go."""
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps({"settings": settings_as_data(made)}))
    return directory


# -- upstreams, prices, policy ---------------------------------------------------------------------


async def test_upstreams_are_those_of_the_settings() -> None:
    made = settings()
    found = upstreams_of(made.gateway, local_breakers(made), {"LOCAL_KEY": "sk-1"})
    assert [each.name for each in found if each.name in {"local", "claude"}] == ["local", "claude"]
    local, claude = (each for each in found if each.name in {"local", "claude"})
    assert (local.provider, claude.provider) == ("openai", "claude")
    assert Api.CHAT in local.apis
    assert claude.apis == {Api.MESSAGES}
    assert "sk-1" not in repr(local)


def test_prices_of_the_settings_are_for_a_million_tokens() -> None:
    prices = gateway._prices_of(settings().gateway)
    usage = Usage(tokens_input=1_000, tokens_output=10, source=TokenSource.PROVIDER)
    assert prices.cost("local", "openai", "m", usage) == Decimal("0.0004")
    assert prices.cost("claude", "nobody", "m", usage) is None


def test_the_policy_is_the_settings() -> None:
    policy = policy_of(settings(gateway__record=False, gateway__connections=7).gateway)
    assert (policy.record, policy.connections) == (False, 7)
    assert policy.models == ("agenttrace/scripted",)


# -- models that can be called ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "models",
    [
        ["agenttrace/scripted"],
        ["claude/*", "agenttrace/*"],
        ["local/m"],
        ["*/m"],
        ["c*/opus"],
        [],
    ],
)
def test_models_of_known_upstreams_are_fine(models: list[str]) -> None:
    check_models(settings(gateway__models=models).gateway, {"LOCAL_KEY": "sk-1"})


@pytest.mark.parametrize("environ", [{}, {"LOCAL_KEY": ""}])
def test_a_key_that_is_not_there_is_told(environ: dict[str, str]) -> None:
    with pytest.raises(NotSetUp, match="local/m, but LOCAL_KEY is not set"):
        check_models(settings(gateway__models=["claude/x", "local/m"]).gateway, environ)


def test_no_key_is_asked_for_that_nobody_needs() -> None:
    check_models(settings(gateway__models=["claude/x"]).gateway, {})


@pytest.mark.parametrize("model", ["nowhere/m", "m", "n*/m", ""])
def test_an_upstream_that_there_is_not_is_told(model: str) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        check_models(settings(gateway__models=["claude/x", model]).gateway, {})
    assert repr(model) in caught.value.message
    assert "agenttrace" in caught.value.remedy
    assert "local, claude" in caught.value.remedy


@pytest.mark.parametrize("enabled", [True, False])
def test_rules_are_looked_for_where_there_is_a_gateway(tmp_path: Path, enabled: bool) -> None:
    flags = {"gateway__script": str(tmp_path / "rules.toml"), "gateway__enabled": enabled}
    if enabled:
        with pytest.raises(InvalidConfiguration, match=r"rules\.toml"):
            check_gateway(settings(**flags).gateway, {})
    else:
        check_gateway(settings(**flags, gateway__models=["nowhere/m"]).gateway, {})


async def test_a_run_asks_for_keys_and_a_replay_does_not(tmp_path: Path) -> None:
    made = settings(gateway__models=["local/m"])
    breakers = local_breakers(made)
    with pytest.raises(NotSetUp):
        async with opened_gateway(made, plan(), tmp_path, breakers):
            raise AssertionError("opened")
    async with opened_gateway(made, plan(), tmp_path, breakers, recordings={}) as opened:
        assert opened is not None


# -- the budget of a run ---------------------------------------------------------------------------


def test_without_a_budget_there_is_no_ledger(tmp_path: Path) -> None:
    assert run_ledger(settings(), tmp_path) is None


def test_what_earlier_runners_spent_counts(tmp_path: Path) -> None:
    journal = SpendingJournal(tmp_path / "spending.jsonl")
    for cost in (0.1, 0.2):
        journal.append(
            Spending(
                at="2026-03-14T09:26:00Z",
                task_id="t",
                repeat=1,
                upstream="local",
                model="m",
                tokens_input=10,
                tokens_output=5,
                cost_usd=cost,
            )
        )
    journal.close()
    ledger = run_ledger(settings(run__max_tokens=100, run__max_cost_usd=0.5), tmp_path)
    assert ledger is not None
    assert (ledger.tokens_left, ledger.cost_left) == (70, Decimal("0.2"))
    ledger = run_ledger(settings(run__max_tokens=20), tmp_path)
    assert ledger is not None
    assert ledger.cost_left is None
    assert ledger.tokens_left is not None
    assert ledger.tokens_left <= 0


# -- runs that were begun --------------------------------------------------------------------------


def test_a_resumed_run_may_call_what_it_could(tmp_path: Path) -> None:
    run = begun(tmp_path / "run", settings(gateway__models=["local/m"]))
    now = settings(gateway__models=["claude/x"], gateway__retries=9, run__max_tokens=5)
    resumed = resumed_settings(now, run)
    assert resumed.gateway.models == ("local/m",)
    assert resumed.gateway.retries == 9
    assert resumed.run == now.run


def test_a_resumed_run_has_its_own_budget_unless_there_is_another(tmp_path: Path) -> None:
    run = begun(tmp_path / "run", settings(run__max_tokens=100, run__max_cost_usd=0.5))
    kept = resumed_settings(settings(), run).run
    assert (kept.max_tokens, kept.max_cost_usd) == (100, 0.5)
    raised = resumed_settings(settings(run__max_cost_usd=2.0), run).run
    assert (raised.max_tokens, raised.max_cost_usd) == (100, 2.0)


def test_a_replay_has_the_prices_it_was_recorded_with_and_spends_nothing(tmp_path: Path) -> None:
    given = {"run__suite": "tools", "run__repeats": 3}
    made = settings(gateway__models=["local/m"], gateway__script="gone", **given)
    run = begun(tmp_path / "run", made)
    flags = {
        "run.max_tokens": 5,
        "run.max_cost_usd": 1.0,
        "run.reuse": True,
        "gateway.enabled": False,
        "gateway.cache_models": True,
        "gateway.cache_tools": True,
        "gateway.record": False,
    }
    now = load_settings(flags, cwd=Path("/"), environ={}).settings
    replay = replay_settings(now, run)
    assert replay.gateway.models == ("local/m",)
    assert replay.gateway.upstreams["local"].prices["m"].output_usd_per_million == 10
    assert (replay.gateway.enabled, replay.gateway.script) == (True, "")
    assert not replay.gateway.cache_models
    assert not replay.gateway.cache_tools
    assert not replay.gateway.record
    assert (replay.run.max_tokens, replay.run.max_cost_usd, replay.run.reuse) == (0, 0.0, False)
    assert (replay.run.suite, replay.run.repeats) == ("tools", 3)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "[]",
        "{}",
        '{"settings": 7}',
        '{"settings": {"gateway.models": 7, "run.max_tokens": "many"}}',
        '{"settings": {"run.max_tokens": -1, "run.max_cost_usd": []}}',
        '{"settings": {"gateway.from_a_later_version": 7}}',
        "\x00",
    ],
)
def test_damaged_settings_of_a_run_are_those_of_now(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    given = settings(gateway__models=["claude/x"])
    assert gateway_begun_with(given.gateway, tmp_path) == given.gateway
    assert resumed_settings(given, tmp_path) == given
