"""OpenAI's embeddings: what may be asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

from runner.domain import Api
from runner.gateway.apis import checks
from runner.gateway.apis.checks import Fields
from runner.gateway.calls import ModelRequest

MAX_INPUTS = 2048

_FIELDS = frozenset({"model", "input", "encoding_format", "dimensions", "user"})


def parse(body: dict[str, Any], headers: Mapping[str, str]) -> ModelRequest:  # noqa: ARG001 - the APIs are parsed alike
    """The checked request; raises Refused."""
    checks.only(body, _FIELDS)
    texts, tokens = inputs_of(body)
    if body.get("encoding_format") not in (None, "float", "base64"):
        raise checks.invalid("encoding_format", "is neither 'float' nor 'base64'")
    checks.count(body, "dimensions", most=65_536)
    return ModelRequest(
        api=Api.EMBEDDINGS,
        model=checks.model_of(body),
        body=body,
        texts=texts,
        messages=0,
        deterministic=True,
        tokens_besides=tokens,
    )


def prepared(body: Fields, *, streamed: bool) -> dict[str, Any]:  # noqa: ARG001 - the APIs are prepared alike
    """What goes upstream: the same."""
    return dict(body)


def with_limit(body: Fields, tokens: int, provider: str) -> dict[str, Any]:  # noqa: ARG001 - the APIs are limited alike
    """The same: embeddings have no output."""
    return dict(body)


def inputs_of(body: Fields) -> tuple[list[str], int]:
    """The texts, and the number of tokens that were given as numbers; raises Refused."""
    value = body.get("input")
    if isinstance(value, str):
        return [value], 0
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_INPUTS * 8:
        raise checks.invalid("input", "is neither a text, nor a list of texts or tokens")
    if _tokens(value):
        return [], len(value)
    if len(value) > MAX_INPUTS:
        raise checks.invalid("input", f"has more than {MAX_INPUTS} items")
    texts = [item for item in value if isinstance(item, str)]
    arrays = [item for item in value if _tokens(item)]
    if len(texts) + len(arrays) < len(value):
        raise checks.invalid("input", "is neither a text, nor a list of texts or tokens")
    return texts, sum(map(len, arrays))


def _tokens(value: Any) -> TypeGuard[list[int]]:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, int) and not isinstance(item, bool) for item in value)
    )
