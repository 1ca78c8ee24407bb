"""What a call costs: our own prices first, then the installed table; unknown is never zero."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain import TokenSource
from runner.gateway import prices as prices_module
from runner.gateway.calls import Price, Usage
from runner.gateway.prices import Prices

TABLE = Prices({})
M = 1_000_000


def usage(tokens_input: int, tokens_output: int = 0, cached: int = 0, written: int = 0) -> Usage:
    return Usage(
        tokens_input=tokens_input,
        tokens_output=tokens_output,
        source=TokenSource.PROVIDER,
        tokens_cached=cached,
        tokens_cache_written=written,
    )


def test_a_model_of_the_table_costs_what_the_table_says_dated_names_too():
    for name in ("gpt-4o", "gpt-4o-2024-08-06", "GPT-4o"):
        assert TABLE.cost("openai", "openai", name, usage(M, M)) == Decimal("12.5")


def test_embeddings_have_no_output_to_pay():
    cost = TABLE.cost("openai", "openai", "text-embedding-3-small", usage(M))
    assert cost == Decimal("0.02")


def test_input_that_the_provider_had_cached_is_cheaper_and_what_it_caches_anew_dearer():
    args = ("anthropic", "anthropic", "claude-3-5-sonnet-20241022")
    assert TABLE.cost(*args, usage(M)) == 3
    assert TABLE.cost(*args, usage(M, cached=M)) == Decimal("0.3")
    assert TABLE.cost(*args, usage(M, written=M)) == Decimal("3.75")
    assert TABLE.cost(*args, usage(M, cached=M // 2, written=M // 4)) == Decimal("1.8375")


def test_a_provider_that_claims_more_cached_than_there_was_pays_for_the_input_once():
    assert TABLE.cost("openai", "openai", "gpt-4o", usage(M, cached=5 * M, written=M)) == Decimal(
        "1.25"
    )


def test_a_long_input_is_paid_by_its_tier():
    args = ("google", "google", "gemini-2.5-pro")
    short, long = TABLE.cost(*args, usage(200_000)), TABLE.cost(*args, usage(200_001))
    assert short is not None
    assert long is not None
    assert long / 200_001 == 2 * short / 200_000


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "no-such-model"),
        ("no-such-provider", "gpt-4o"),
        ("", "gpt-4o"),
        ("openai", ""),
        ("openai", "x" * 100_000),
        ("openai", "gpt-4o" + "-" * 500),
        ("openai", "\ud800"),
    ],
)
def test_an_unknown_price_is_unknown_and_not_zero(provider, model):
    assert TABLE.cost("mine", provider, model, usage(10, 10)) is None
    assert TABLE.upper_bound("mine", provider, model, 10, 10) is None


def test_a_model_of_the_table_without_a_price_is_unknown():
    assert TABLE.cost("x", "github-copilot", "gpt-4o", usage(10, 10)) is None
    assert TABLE.upper_bound("x", "github-copilot", "gpt-4o", 10, 10) is None


def test_output_of_a_model_whose_output_has_no_price_is_unknown():
    assert TABLE.cost("openai", "openai", "text-embedding-3-small", usage(10, 1)) is None


def test_prices_of_the_settings_win_over_the_table_and_know_models_that_it_does_not():
    own = Price(input_usd=Decimal("0.000001"), output_usd=Decimal("0.000004"))
    prices = Prices({("openai", "gpt-4o"): own, ("mine", "llama"): own})
    for upstream, provider, model in [("openai", "openai", "gpt-4o"), ("mine", "mine", "llama")]:
        assert prices.cost(upstream, provider, model, usage(M, M, cached=M)) == 5
        assert prices.upper_bound(upstream, provider, model, M, M) == 5
    assert prices.cost("other", "openai", "gpt-4o", usage(M, M)) == Decimal("12.5")


def test_the_scripted_model_costs_nothing_and_that_is_known():
    assert TABLE.cost("agenttrace", "agenttrace", "scripted", usage(M, M)) == 0
    assert TABLE.upper_bound("agenttrace", "", "scripted", M, M) == 0


def test_the_upper_bound_assumes_that_all_is_written_to_a_dearer_cache():
    bound = TABLE.upper_bound("a", "anthropic", "claude-3-5-sonnet-20241022", M, M)
    assert bound == Decimal("18.75")
    assert TABLE.upper_bound("o", "openai", "gpt-4o", M, M) == Decimal("12.5")


def test_the_upper_bound_is_that_of_the_dearest_hour(monkeypatch):
    """Some providers are cheaper at night; a call may end in another hour than it began."""
    model = prices_module._find("deepseek", "deepseek-chat")
    assert model is not None
    bound = TABLE.upper_bound("d", "deepseek", "deepseek-chat", M, M)
    assert bound is not None
    today = datetime.now(UTC)
    for hour in range(24):
        there = model.get_prices(today + timedelta(hours=hour))
        cost = prices_module._tabled(there, usage(M, M))
        assert cost is not None
        assert cost <= bound


MODELS = [
    ("openai", "gpt-4o"),
    ("openai", "gpt-5"),
    ("anthropic", "claude-sonnet-4-5"),
    ("anthropic", "claude-3-5-haiku-latest"),
    ("google", "gemini-2.5-pro"),
    ("deepseek", "deepseek-chat"),
]


@given(
    st.sampled_from(MODELS),
    st.integers(0, M),
    st.integers(0, M),
    st.integers(0, M),
    st.integers(0, M),
)
def test_no_call_costs_more_than_its_upper_bound(model, tokens, output, cached, written):
    cost = TABLE.cost("x", *model, usage(tokens, output, cached, written))
    bound = TABLE.upper_bound("x", *model, tokens, output)
    assert cost is not None
    assert bound is not None
    assert 0 <= cost <= bound


def test_names_that_an_agent_invents_are_not_kept():
    table = prices_module._table()
    before = len(table._lookup_cache), len(table._provider_cache), len(table._provider_misses)
    for number in range(1_000):
        TABLE.cost("openai", "openai", f"gpt-4o-{number}", usage(1))
    assert before == (
        len(table._lookup_cache),
        len(table._provider_cache),
        len(table._provider_misses),
    )
    assert prices_module._find.cache_info().currsize <= 256


def test_the_table_is_loaded_when_a_price_is_asked_for_and_never_fetched():
    code = (
        "import sys, socket\n"
        "def refuse(*_): raise AssertionError('network')\n"
        "socket.socket.connect = refuse\n"
        "from runner.gateway.prices import Prices\n"
        "print('genai_prices' in sys.modules)\n"
        "Prices({}).prepare()\n"
        "print(Prices({}).upper_bound('openai', 'openai', 'gpt-4o', 1000000, 0))\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["False", "2.50"]


def test_audio_costs_what_the_table_says_of_it():
    heard = Usage(
        tokens_input=M,
        tokens_output=0,
        source=TokenSource.PROVIDER,
        tokens_cached=M // 2,
        tokens_audio=M,
    )
    assert TABLE.cost("o", "openai", "gpt-audio", usage(M)) == Decimal("2.5")
    assert TABLE.cost("o", "openai", "gpt-audio", heard) == 32
    assert TABLE.cost("g", "google", "gemini-2.5-flash", heard) == 1
    assert TABLE.upper_bound("o", "openai", "gpt-audio", M, 0, has_audio=True) == 32


def test_audio_for_a_model_without_a_price_of_it_is_of_unknown_cost():
    heard = Usage(tokens_input=2, tokens_output=0, source=TokenSource.PROVIDER, tokens_audio=1)
    assert TABLE.cost("o", "openai", "gpt-4o", heard) is None
    assert TABLE.upper_bound("o", "openai", "gpt-4o", 2, 0, has_audio=True) is None


def test_the_table_is_not_loaded_for_our_own_model():
    code = (
        "import sys\n"
        "from runner.gateway.prices import Prices\n"
        "print(Prices({}).upper_bound('agenttrace', 'agenttrace', 'scripted', 1, 1))\n"
        "print('genai_prices' in sys.modules)\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["0", "False"]
