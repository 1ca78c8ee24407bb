"""What a call costs: the settings' own prices first, then the table that genai-prices ships."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from runner.domain import TokenSource
from runner.gateway.calls import Price, Usage

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice, Provider
    from genai_prices.types import Usage as TableUsage

OWN_UPSTREAM = "agenttrace"
"""Its models run on this host, and cost nothing."""

_LONGEST_NAME = 200
"""Of a model; the names in requests are hostile, and the table searches them with patterns."""


class Prices:
    """Costs in US dollars; None: unknown, which is never zero."""

    def __init__(self, overrides: Mapping[tuple[str, str], Price]) -> None:
        self._overrides = dict(overrides)

    def cost(self, upstream: str, provider: str, model: str, usage: Usage) -> Decimal | None:
        """What `usage` costs now; `model` as the upstream names it.

        What the provider had cached, or cached anew, costs what the table says of it.
        """
        if upstream == OWN_UPSTREAM:
            return Decimal(0)
        if price := self._overrides.get((upstream, model)):
            return _plain(price, usage)
        found = _find(provider, model)
        if found is None:
            return None
        return _tabled(found.get_prices(datetime.now(UTC)), usage)

    def upper_bound(
        self,
        upstream: str,
        provider: str,
        model: str,
        tokens_input: int,
        tokens_output: int,
        *,
        has_audio: bool = False,
    ) -> Decimal | None:
        """The most that a call of so many tokens can cost: nothing read from the provider's cache,
        all of it written there where that is dearer, at the dearest hour of the day. With audio
        in it all of it may be that, since what a provider makes of a recording is a guess.
        """
        plain = Usage(
            tokens_input=tokens_input,
            tokens_output=tokens_output,
            source=TokenSource.ESTIMATE,
        )
        if upstream == OWN_UPSTREAM or (upstream, model) in self._overrides:
            return self.cost(upstream, provider, model, plain)
        found = _find(provider, model)
        if found is None:
            return None
        usages = [plain, replace(plain, tokens_cache_written=tokens_input)]
        if has_audio:
            usages.append(replace(plain, tokens_audio=tokens_input))
        readings = [
            _tabled(prices, usage) for prices in _prices_of_a_day(found) for usage in usages
        ]
        known = [cost for cost in readings if cost is not None]
        return max(known) if len(known) == len(readings) else None

    def prepare(self) -> None:
        """Loads the table, which takes a second; else the first cost does."""
        _table()


def _plain(price: Price, usage: Usage) -> Decimal:
    """At the settings' own prices, which know no caches."""
    return usage.tokens_input * price.input_usd + usage.tokens_output * price.output_usd


def _tabled(prices: ModelPrice, usage: Usage) -> Decimal | None:
    """None where a kind of token that was used has no price."""
    if usage.tokens_input and prices.input_mtok is None:
        return None
    if usage.tokens_output and prices.output_mtok is None:
        return None
    if usage.tokens_audio and prices.input_audio_mtok is None:
        return None
    return prices.calc_price(_table_usage(usage))["total_price"]


def _table_usage(usage: Usage) -> TableUsage:
    """`usage` as the table reads it; what was cached is part of the input, whatever was claimed.

    With audio nothing counts as cached: no provider says how much of it was, and fresh is dearer.
    """
    from genai_prices import Usage as TableUsage  # noqa: PLC0415

    if usage.tokens_audio:
        return TableUsage(
            input_tokens=usage.tokens_input,
            output_tokens=usage.tokens_output,
            input_audio_tokens=min(usage.tokens_audio, usage.tokens_input),
        )
    cached = min(usage.tokens_cached, usage.tokens_input)
    written = min(usage.tokens_cache_written, usage.tokens_input - cached)
    return TableUsage(
        input_tokens=usage.tokens_input,
        output_tokens=usage.tokens_output,
        cache_read_tokens=cached,
        cache_write_tokens=written,
    )


def _prices_of_a_day(model: ModelInfo) -> Iterator[ModelPrice]:
    """Each price that holds within the next 24 hours: some providers are cheaper at night."""
    now = datetime.now(UTC)
    seen: list[ModelPrice] = []
    for hour in range(25):
        prices = model.get_prices(now + timedelta(hours=hour))
        if not any(prices is each for each in seen):
            seen.append(prices)
            yield prices


@cache
def _table() -> DataSnapshot:
    """The table as it was installed; nothing ever fetches a newer one."""
    from genai_prices.data import providers  # noqa: PLC0415 - 30,000 lines: only when asked for
    from genai_prices.data_snapshot import DataSnapshot  # noqa: PLC0415

    return DataSnapshot(providers=providers, from_auto_update=False)


@cache
def _provider(name: str) -> Provider | None:
    try:
        return _table().find_provider(None, name, None)
    except LookupError:
        return None


@lru_cache(maxsize=256)
def _find(provider: str, model: str) -> ModelInfo | None:
    """The model's entry, found by its dated names too. Ours is the only cache on the way: that of
    the table keeps every name that an agent invents.
    """
    found = _provider(provider) if len(model) <= _LONGEST_NAME else None
    if found is None:
        return None
    return found.find_model(model, all_providers=_table().providers)
