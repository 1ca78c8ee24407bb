"""Search in documents: the task's own, or a small corpus of invented facts that we ship."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from runner.domain import ToolAnswer, ToolDefinition
from runner.gateway.tools.ranking import Ranking, words_of
from runner.gateway.tools.setup import ToolSetup

CORPUS = Path(__file__).parent / "corpus"
_DOCUMENTS = 1_000
_TEXT_CHARACTERS = 20_000
_TOTAL_CHARACTERS = 1_000_000
_MOST_HITS = 20
_SNIPPET_CHARACTERS = 240

_DEFINITION = ToolDefinition(
    name="document_search",
    description=(
        "Searches documents by words, best first, and gives an id, a title and a snippet of each; "
        "with document_id instead of a query it gives that document whole."
    ),
    parameters={
        "type": "object",
        "properties": {
            "query": {"type": "string", "minLength": 1, "maxLength": 1_000},
            "limit": {
                "type": "integer",
                "minimum": 1,
                "maximum": _MOST_HITS,
                "description": "Of results; left out: 5",
            },
            "document_id": {"type": "string", "minLength": 1, "maxLength": 100},
        },
        "additionalProperties": False,
    },
)


class Document(BaseModel):
    """One text with a name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(min_length=1, max_length=100)]
    title: Annotated[str, Field(min_length=1, max_length=200)]
    text: Annotated[str, Field(max_length=_TEXT_CHARACTERS)]


class DocumentSearchSetup(ToolSetup):
    """What documents there are."""

    documents: tuple[Document, ...] | None = Field(
        default=None, min_length=1, max_length=_DOCUMENTS
    )
    """Left out: the corpus that is shipped."""

    @model_validator(mode="after")
    def _fits(self) -> DocumentSearchSetup:
        documents = self.documents or ()
        if len({document.id for document in documents}) < len(documents):
            raise ValueError("two documents have the same id")
        if sum(len(document.text) for document in documents) > _TOTAL_CHARACTERS:
            raise ValueError(f"documents have more than {_TOTAL_CHARACTERS} characters together")
        return self


class DocumentSearch:
    """Documents by words and by id (`runner.ports.Tool`)."""

    def __init__(self, setup: DocumentSearchSetup) -> None:
        self._documents = setup.documents or bundled_corpus()
        self._ranking = (
            _ranking_of(setup.documents) if setup.documents else _ranking_of_bundled_corpus()
        )

    @property
    def definition(self) -> ToolDefinition:
        """What the agent is told of it."""
        return _DEFINITION

    @property
    def cacheable(self) -> bool:
        """True: documents do not change."""
        return True

    async def call(self, arguments: Mapping[str, JsonValue]) -> ToolAnswer:
        """Hits, or one document."""
        match arguments:
            case {"document_id": _, "query": _} | {"document_id": _, "limit": _}:
                return ToolAnswer(error="give a query, with or without limit, or a document_id")
            case {"document_id": str(document_id)}:
                return self._read(document_id)
            case {"query": str(query)}:
                limit = arguments.get("limit", 5)
                return self._search(query, int(limit) if isinstance(limit, int | float) else 5)
            case _:
                return ToolAnswer(error="give a query or a document_id")

    def _read(self, document_id: str) -> ToolAnswer:
        for document in self._documents:
            if document.id == document_id:
                return ToolAnswer(result=document.model_dump(mode="json"))
        return ToolAnswer(error="there is no document of that id")

    def _search(self, query: str, limit: int) -> ToolAnswer:
        ranked = self._ranking.best(query)
        hits: list[JsonValue] = [
            _hit(self._documents[index], query, score) for index, score in ranked[:limit]
        ]
        return ToolAnswer(result={"results": hits, "total": len(ranked)})


@cache
def bundled_corpus() -> tuple[Document, ...]:
    """The documents that are shipped, in the order of their files and lines."""
    lines = [
        line
        for file in sorted(CORPUS.glob("*.jsonl"))
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    return tuple(Document.model_validate(json.loads(line)) for line in lines)


@cache
def _ranking_of_bundled_corpus() -> Ranking:
    return _ranking_of(bundled_corpus())


def _ranking_of(documents: tuple[Document, ...]) -> Ranking:
    return Ranking([f"{document.title}\n{document.text}" for document in documents])


def _hit(document: Document, query: str, score: float) -> JsonValue:
    return {
        "id": document.id,
        "title": document.title,
        "snippet": _snippet(document.text, frozenset(words_of(query))),
        "score": round(score, 4),
    }


def _snippet(text: str, wanted: frozenset[str]) -> str:
    """The part of `text` that begins with the first sentence which has a word of the query."""
    sentences = text.replace("\n", " ").split(". ")
    first = next((i for i, each in enumerate(sentences) if wanted & set(words_of(each))), 0)
    return ". ".join(sentences[first:])[:_SNIPPET_CHARACTERS]
