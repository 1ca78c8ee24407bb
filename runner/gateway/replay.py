"""A recording in place of models and tools: the same requests get the same answers."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import Any

from runner.domain import Divergence
from runner.gateway.calls import Exchange
from runner.gateway.exchanges import digest_of

_LEVELS = 100
"""Of a request that a result shows: what reads results refuses about 200."""
_DEEPER = "(deeper than a result can show)"


class Recording:
    """The exchanges of an earlier attempt, each answered from once.

    The nth request with a digest gets the nth exchange that was recorded with it. So parallel
    calls may come in another order than when they were recorded.
    """

    def __init__(self, exchanges: Iterable[Exchange]) -> None:
        replayed = [each for each in exchanges if each.whole and not each.refused]
        replayed.sort(key=lambda exchange: exchange.number)
        self._unused = dict(enumerate(replayed))
        self._places: dict[tuple[str, str], deque[int]] = defaultdict(deque)
        for place, exchange in self._unused.items():
            self._places[exchange.kind, exchange.digest].append(place)
        self._divergence: Divergence | None = None

    @property
    def divergence(self) -> Divergence | None:
        """The first request that the recording does not have."""
        return self._divergence

    def take(self, number: int, kind: str, request: Mapping[str, Any]) -> Exchange | None:
        """The recorded exchange for this request; None: the replay has diverged.

        `number` is that of the exchange in the replay.
        """
        places = self._places.get((kind, digest_of(request)))
        if places:
            return self._unused.pop(places.popleft())
        if self._divergence is None:
            self._divergence = self._diverged(number, request)
        return None

    def _diverged(self, number: int, request: Mapping[str, Any]) -> Divergence:
        expected = next(iter(self._unused.values()), None)
        return Divergence(
            number=number,
            recorded=None if expected is None else _storable(expected.request),
            requested=_storable(request),
        )

    def unused(self) -> list[Exchange]:
        """What was not asked for, in the order of the recording."""
        return list(self._unused.values())


def _storable(value: Any, levels: int = _LEVELS) -> Any:
    """A copy that can be part of a result, which is UTF-8: a lone surrogate becomes `?`."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if not isinstance(value, Mapping | list | tuple):
        return value
    if not levels:
        return _DEEPER
    if isinstance(value, Mapping):
        return {_storable(key): _storable(each, levels - 1) for key, each in value.items()}
    return [_storable(each, levels - 1) for each in value]
