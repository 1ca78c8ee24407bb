"""Document search: what fits best comes first, always in the same order."""

from __future__ import annotations

import math

import pytest

from runner.gateway.tools.document_search import CORPUS, bundled_corpus
from runner.gateway.tools.ranking import Ranking, words_of
from tests.unit.gateway.tools.asking import ask, error, tool

DOCUMENTS = [
    {"id": "a", "title": "Bees", "text": "Bees make honey. Honey keeps for years."},
    {"id": "b", "title": "Wasps", "text": "Wasps make paper."},
    {"id": "c", "title": "Paper", "text": "Paper is made of wood. A bee makes none."},
]


async def test_hits_have_what_is_needed_to_read_on() -> None:
    search = tool("document_search", documents=[*DOCUMENTS])
    found = await ask(search, query="honey")
    assert found["total"] == 1
    assert found["results"][0].keys() == {"id", "title", "snippet", "score"}
    assert found["results"][0]["snippet"].startswith("Bees make honey")
    assert await ask(search, document_id="a") == DOCUMENTS[0]


async def test_a_snippet_begins_where_the_word_is() -> None:
    search = tool("document_search", documents=[*DOCUMENTS])
    found = await ask(search, query="years")
    assert found["results"][0]["snippet"] == "Honey keeps for years."


async def test_limits_and_nothing_found() -> None:
    search = tool("document_search", documents=[*DOCUMENTS])
    assert len((await ask(search, query="paper bees", limit=1))["results"]) == 1
    assert (await ask(search, query="paper bees", limit=1))["total"] == 3
    assert await ask(search, query="zebra !!") == {"results": [], "total": 0}


async def test_one_of_the_two_is_asked_for() -> None:
    search = tool("document_search", documents=[*DOCUMENTS])
    assert "query or a document_id" in await error(search)
    assert "or a document_id" in await error(search, query="x", document_id="a")
    assert await error(search, document_id="nosuch") == "there is no document of that id"


def test_scores_are_bm25() -> None:
    """By hand: two texts of 3 words and 1 word, `a` twice in the first alone."""
    ranking = Ranking(["a a b", "c"])
    rarity = math.log(1 + (2 - 1 + 0.5) / (1 + 0.5))
    weight = 2 * 2.5 / (2 + 1.5 * (0.25 + 0.75 * 3 / 2))
    [(index, score)] = ranking.best("a")
    assert (index, score) == (0, pytest.approx(rarity * weight))


def test_plurals_and_case_do_not_matter() -> None:
    assert words_of("Bees, BEE; glass gas Öl") == ["bee", "bee", "glass", "gas", "öl"]


def test_equal_scores_keep_the_order_of_the_documents() -> None:
    assert [index for index, _ in Ranking(["x"] * 5).best("x x")] == [0, 1, 2, 3, 4]


async def test_the_corpus_that_ships_is_sound() -> None:
    documents = bundled_corpus()
    assert len(documents) >= 40
    assert len({document.id for document in documents}) == len(documents)
    assert all(len(document.text) <= 600 for document in documents)
    assert list(CORPUS.glob("*.jsonl"))


async def test_each_document_of_the_corpus_is_found_by_its_title() -> None:
    search = tool("document_search")
    for document in bundled_corpus():
        found = await ask(search, query=document.title, limit=3)
        assert document.id in [hit["id"] for hit in found["results"]], document.title
