"""Which upstream a model's name leads to, and whether agents may call it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from runner.domain.text import one_line
from runner.gateway.calls import ModelRequest, Refused, Upstream

_SHOWN = 5


class Upstreams:
    """Those of the settings, in their order, and the models of theirs that agents may call.

    A model is named `NAME`, or `UPSTREAM/NAME` where more than one may have it; `allowed` are
    shell patterns of `UPSTREAM/NAME`.
    """

    def __init__(self, upstreams: Sequence[Upstream], allowed: Sequence[str]) -> None:
        self._upstreams = tuple(upstreams)
        self._allowed = tuple(allowed)

    def route(self, request: ModelRequest) -> tuple[Upstream, ModelRequest]:
        """The upstream, and the request with the model's name as it knows it; raises Refused.

        The first one that speaks the request's API and whose model is allowed has it.
        """
        allowed = [each for each in self._candidates(request.model) if self._is_allowed(*each)]
        for upstream, name in allowed:
            if request.api in upstream.apis:
                return upstream, replace(request, body={**request.body, "model": name})
        if allowed:
            raise _wrong_api(request, [upstream for upstream, _ in allowed])
        raise self._unknown(request.model)

    def models(self) -> list[str]:
        """The allowed ones whose names are known: patterns with wildcards are no names."""
        names = {upstream.name for upstream in self._upstreams}
        return [
            pattern
            for pattern in dict.fromkeys(self._allowed)
            if pattern.partition("/")[0] in names and not any(sign in pattern for sign in "*?[")
        ]

    def owner(self, model: str) -> str:
        """Who is said to own one of `models()`."""
        named = model.partition("/")[0]
        for upstream in self._upstreams:
            if upstream.name == named:
                return getattr(upstream, "owned_by", upstream.provider)
        return ""

    def _candidates(self, model: str) -> Iterator[tuple[Upstream, str]]:
        """The named upstream first; names of models may have slashes of their own."""
        named, _, rest = model.partition("/")
        for upstream in self._upstreams:
            if upstream.name == named and rest:
                yield upstream, rest
        for upstream in self._upstreams:
            yield upstream, model

    def _is_allowed(self, upstream: Upstream, name: str) -> bool:
        full = f"{upstream.name}/{name}"
        return any(fnmatchcase(full, pattern) for pattern in self._allowed)

    def _unknown(self, model: str) -> Refused:
        shown = ", ".join(self._allowed[:_SHOWN]) + (", ..." if self._allowed[_SHOWN:] else "")
        may = f"agents may call: {shown}" if shown else "agents may call none"
        named, _, rest = model.partition("/")
        if rest and any(upstream.name == named for upstream in self._upstreams):
            return Refused(
                403, "model_not_allowed", f"model {one_line(model, 80)!r} is not allowed; {may}"
            )
        return Refused(404, "model_not_found", f"there is no model {one_line(model, 80)!r}; {may}")


def _wrong_api(request: ModelRequest, upstreams: Sequence[Upstream]) -> Refused:
    spoken = sorted({api.value for upstream in upstreams for api in upstream.apis})
    message = f"model {one_line(request.model, 80)!r} is not at {request.api}, but at "
    return Refused(400, "wrong_api", message + ", ".join(spoken))
