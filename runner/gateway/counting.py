"""How many tokens a text is, and who says so."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.machinery import PathFinder
from threading import Lock
from types import ModuleType
from typing import Protocol

from runner.domain import TokenSource
from runner.gateway.approximation import approximate_tokens

SCRIPTED = "agenttrace/scripted"
MESSAGE_TOKENS = 4
"""Of each message beside its texts: its bounds (3) and its role (1), as OpenAI documents it."""
REPLY_TOKENS = 3
"""Once for each request with messages: what the answer begins with."""

_O200K = re.compile(r"gpt-4o|gpt-4\.|gpt-[5-9]|gpt-oss|chatgpt-|codex-|o[1-9](?![0-9a-z])")
_CL100K = re.compile(r"gpt-4(?![0-9a-z])|gpt-3\.?5|text-embedding-(?:3-|ada-002)")
_LOADING = Lock()


class TokenCounter:
    """Counts as a model's own provider would, as nearly as this host can."""

    def count(self, model: str, texts: Sequence[str], messages: int = 0) -> tuple[int, TokenSource]:
        """Tokens of `texts` that were in so many messages; 0: bare text, such as an answer.

        `model` is a bare name or UPSTREAM/NAME. What looks like a special token is text.
        """
        overhead = messages * MESSAGE_TOKENS + REPLY_TOKENS if messages else 0
        if model in {SCRIPTED, SCRIPTED.partition("/")[2]}:
            # Its tokens are those of the approximation, by definition: the same on every host.
            return overhead + _approximate(texts), TokenSource.TOKENIZER
        encoding = encoding_of(model)
        if encoding and (tokenizer := _tokenizer(encoding)):
            tokens = sum(tokenizer.count(_encodable(text)) for text in texts)
            return overhead + tokens, TokenSource.TOKENIZER
        return overhead + _approximate(texts), TokenSource.ESTIMATE

    def prepare(self, models: Iterable[str]) -> None:
        """Loads the tokenizers of these models, if they are installed: else the first count does.

        One takes 30 to 70 MB.
        """
        for encoding in {encoding_of(model) for model in models} - {None}:
            if encoding and (tokenizer := _tokenizer(encoding)):
                tokenizer.count("")


def encoding_of(model: str) -> str | None:
    """The encoding of OpenAI's model of that name, dated and fine-tuned ones too; None: no such."""
    name = model.rpartition("/")[2].lower().removeprefix("ft:")
    if _O200K.match(name):
        return "o200k_base"
    return "cl100k_base" if _CL100K.match(name) else None


class _Tokenizer(Protocol):
    def count(self, text: str) -> int: ...


@cache
def _tokenizer(encoding: str) -> _Tokenizer | None:
    """None where bpe-openai is not installed."""
    with _LOADING:  # threads that prepare attempts may all be the first one
        bindings = _bindings()
    if bindings is None:
        return None
    tokenizer: _Tokenizer = bindings.tokenizer_for_encoding(encoding)
    return tokenizer


@cache
def _bindings() -> ModuleType | None:
    """The extension module of bpe-openai alone.

    The package around it takes ten times as long to import: it reads the vocabularies once more,
    into dicts that counting does not need.
    """
    package = importlib.util.find_spec("bpe_openai")
    if package is None:
        return None
    spec = PathFinder.find_spec("_bindings", package.submodule_search_locations)
    if spec is None or spec.loader is None:
        return None
    bindings = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bindings)
    return bindings


def _approximate(texts: Sequence[str]) -> int:
    return sum(map(approximate_tokens, texts))


def _encodable(text: str) -> str:
    """`text`, its lone surrogates as the replacement character that a provider gets to see."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
