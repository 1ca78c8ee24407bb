"""The suite `tools`: every key found a second time, by calling the very tools that it sets up."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import pytest
from pydantic import JsonValue

from runner.domain import BenchmarkCategory, BenchmarkTask
from runner.gateway.arguments import check_schema, check_shape, validator_of
from runner.gateway.tools import TOOL_NAMES, check_tools, make_tools
from runner.scoring import DefaultScorer
from runner.suites import DirectoryCatalog

SUITE = DirectoryCatalog().load("tools")
every_task = pytest.mark.parametrize("task", SUITE.tasks, ids=lambda task: task.task_id)


class World:
    """The tools of one task, asked as a patient agent asks them."""

    def __init__(self, task: BenchmarkTask) -> None:
        self.tools = make_tools(task.prompt.tools, task.tool_setups, seed=0)
        self.calls = 0

    async def ask(self, tool: str, **arguments: JsonValue) -> Any:
        given = check_shape(dict(arguments))
        check_schema(given, validator_of(self.tools[tool].definition.parameters))
        for _ in range(10):
            self.calls += 1
            answer = await self.tools[tool].call(given)
            if not answer.error and not isinstance(answer.result, str):
                return answer.result
        raise AssertionError(answer)

    async def rows(self, sql: str) -> list[Any]:
        rows: list[Any] = (await self.ask("database", sql=sql))["rows"]
        return rows

    async def read(self, document_id: str) -> str:
        text: str = (await self.ask("document_search", document_id=document_id))["text"]
        return text

    async def found(self, query: str) -> str:
        """The text of the first hit."""
        hits = await self.ask("document_search", query=query)
        return await self.read(hits["results"][0]["id"])


def number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    assert found, (pattern, text)
    return int(found[1].replace(",", ""))


async def calculator(world: World) -> object:
    return await world.ask("calculator", expression="(48271 * 16807 + 9973) ** 3 % 1000003")


async def key_value(world: World) -> object:
    value = {"next": "start"}
    while "next" in value:
        value = (await world.ask("key_value", operation="get", key=value["next"]))["value"]
    return value["word"]


async def database(world: World) -> object:
    purchases = await world.rows("SELECT day, pence, state, customer_id FROM purchase")
    quill = {row[0] for row in await world.rows("SELECT id FROM customer WHERE parish = 'Quill'")}
    return sum(
        pence
        for day, pence, state, customer in purchases
        if day.startswith("2025") and state == "paid" and customer in quill
    )


async def workspace(world: World) -> object:
    listed = await world.ask("workspace", operation="list", path="logs")
    texts = [
        (await world.ask("workspace", operation="read", path=file["path"]))["content"]
        for file in listed["files"]
    ]
    return sum(line.split()[2] == "ERROR" for text in texts for line in text.splitlines())


async def corpus_fact(world: World) -> object:
    return number(r"largest and carries (\d+) passengers", await world.found("Grey Sound Ferries"))


async def corpus_sum(world: World) -> object:
    stations = await world.found("stations of the Velmora Light Railway from west to east")
    order = re.split(r", | and ", re.sub(r".*? are | At .*|\.", "", stations))
    distance = order.index("Millrace") - order.index("Port Quill")
    fares = await world.found("fare Light Railway children")
    near, far = re.findall(r"(\d+) crowns", fares)[:2]
    assert (distance, number(r"under (\d+) travel free", fares) > 9) == (4, True)
    permit = number(r"permit costs (\d+) crowns a day", await world.found("Tarn trout permit"))
    fare = int(near if distance <= 3 else far)
    return await world.ask("calculator", expression=f"2 * 2 * {fare} + 2 * 2 * {permit}")


async def newest(world: World) -> object:
    hits = (await world.ask("document_search", query="lower bridge kg load", limit=20))["results"]
    limits = {}
    for hit in hits:
        day = datetime.strptime(hit["title"].split(" of ")[1], "%d %B %Y")  # noqa: DTZ007
        text = await world.read(hit["id"])
        if found := re.search(r"lower.*?([\d,]+) kg", text, re.IGNORECASE):
            limits[day] = int(found[1].replace(",", ""))
    return limits[max(day for day in limits if day <= datetime(2025, 5, 1))]  # noqa: DTZ001


async def project(world: World) -> object:
    minutes = dict(await world.rows("SELECT name, minutes FROM job"))
    waits = await world.rows("SELECT job, waits_for FROM wait")

    @cache
    def done(job: str) -> int:
        before = [done(other) for waiting, other in waits if waiting == job]
        return int(minutes[job]) + max(before, default=0)

    return max(done(job) for job in minutes)


async def clock(world: World) -> object:
    now = datetime.fromisoformat((await world.ask("clock"))["time"])
    begins = (now + timedelta(hours=100, minutes=45)).isoformat()
    told = await world.ask("clock", operation="convert", moment=begins, timezone="Asia/Kathmandu")
    return json.dumps({"weekday": told["weekday"], "time": told["time"][11:16]})


async def retry(world: World) -> object:
    return (await world.ask("key_value", operation="get", key="harbour-code"))["value"]


async def malformed(world: World) -> object:
    trees = await world.rows("SELECT kind, height FROM tree ORDER BY height")
    return sum(dict(trees).values())


async def injection(world: World) -> object:
    text = await world.read("aldery")
    return number(r"(\d+) steps", text) + number(r"(\d+) more", text)


SOLUTIONS: dict[str, Callable[[World], Awaitable[object]]] = {
    "tool_use-calculator-01": calculator,
    "tool_use-key_value-01": key_value,
    "tool_use-database-01": database,
    "tool_use-workspace-01": workspace,
    "grounding-corpus-01": corpus_fact,
    "grounding-corpus-02": corpus_sum,
    "grounding-newest-01": newest,
    "planning-project-01": project,
    "planning-clock-01": clock,
    "robustness-retry-01": retry,
    "robustness-malformed-01": malformed,
    "robustness-injection-01": injection,
}


@every_task
async def test_the_tools_lead_to_the_key(task: BenchmarkTask) -> None:
    answer = str(await SOLUTIONS[task.task_id](World(task)))
    assert DefaultScorer().score(answer, task.answer_key).normalized == 100.0, answer


def test_every_tool_is_needed_somewhere() -> None:
    assert len(SUITE.tasks) == len(SOLUTIONS) == 12
    assert {name for task in SUITE.tasks for name in task.prompt.tools} == set(TOOL_NAMES)
    assert {task.category for task in SUITE.tasks} == {
        BenchmarkCategory.TOOL_USE,
        BenchmarkCategory.GROUNDING,
        BenchmarkCategory.PLANNING,
        BenchmarkCategory.ROBUSTNESS,
    }


@every_task
def test_a_setup_fits_its_tools(task: BenchmarkTask) -> None:
    check_tools(task.prompt.tools, task.tool_setups)
    assert task.task_id.startswith(f"{task.category}-")


@every_task
def test_a_prompt_names_its_tools_and_the_form_of_the_answer(task: BenchmarkTask) -> None:
    text = task.prompt.text
    assert any(name in text for name in task.prompt.tools)
    assert re.search(r"\bAnswer with\b.*\balone\b", text, re.DOTALL)


@every_task
def test_a_prompt_alone_earns_nothing(task: BenchmarkTask) -> None:
    for answer in ["", task.prompt.text, *task.prompt.text.splitlines(), "0", "unknown", "{}"]:
        assert DefaultScorer().score(answer, task.answer_key).raw == 0, answer


@pytest.mark.parametrize("name", ["robustness-retry-01", "robustness-malformed-01"])
async def test_who_asks_once_is_not_told(name: str) -> None:
    [task] = [task for task in SUITE.tasks if task.task_id == name]
    world = World(task)
    await SOLUTIONS[name](world)
    assert world.calls > 1


async def test_the_order_in_a_document_is_what_a_search_finds() -> None:
    [task] = [task for task in SUITE.tasks if task.task_id == "robustness-injection-01"]
    hits = await World(task).ask("document_search", query="tower of Aldery steps")
    assert "notice" in [hit["id"] for hit in hits["results"]]
    assert DefaultScorer().score("1488", task.answer_key).raw == 0
