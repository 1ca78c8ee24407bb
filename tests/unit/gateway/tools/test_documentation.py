"""docs/tools.md says what is so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from runner.gateway.tools import TOOL_NAMES, TOOLS, ToolSetup, check_tools, make_tools
from runner.gateway.tools.document_search import bundled_corpus
from runner.gateway.tools.flaky import TIMED_OUT, UNAVAILABLE
from runner.gateway.tools.setup import Fault
from runner.suites import load_suite
from tests.unit.gateway.tools.asking import ask

PAGE = (Path(__file__).parents[4] / "docs" / "tools.md").read_text()
SECTIONS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##)", PAGE, re.DOTALL | re.MULTILINE))


def named_in_tables(text: str) -> set[str]:
    first_cells = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    return {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}


@pytest.mark.parametrize("name", TOOL_NAMES)
def test_each_tool_is_described_with_its_arguments_and_setup(name: str) -> None:
    properties: Any = make_tools([name], {}, 0)[name].definition.parameters["properties"]
    fields = TOOLS[name].setup.model_fields
    setup = {field.alias or key for key, field in fields.items() if key not in _SHARED}
    assert named_in_tables(SECTIONS[name]) == set(properties) | setup


_SHARED: Mapping[str, object] = ToolSetup.model_fields


def test_failures_are_described_word_by_word() -> None:
    section = PAGE.split("## Tools that fail")[1].split("## Writing a task")[0]
    assert named_in_tables(section) == {*_SHARED, *Fault}
    assert f"`{UNAVAILABLE}`" in section
    assert f"`{TIMED_OUT}`" in section


def test_the_number_of_documents() -> None:
    assert f"{len(bundled_corpus())} short documents" in PAGE


async def test_the_example_of_a_task_is_one_and_its_key_is_right(tmp_path: Path) -> None:
    [example] = [block for block in _blocks("toml") if "[[task]]" in block]
    (tmp_path / "suite.toml").write_text('format = 1\nname = "mine"\nversion = "1"\n')
    (tmp_path / "tool_use.toml").write_text(example)
    [task] = load_suite(tmp_path).tasks
    check_tools(task.prompt.tools, task.tool_setups)
    database = make_tools(task.prompt.tools, task.tool_setups, 0)["database"]
    sql = "SELECT sum(pieces * pence) FROM stock"
    assert (await database.call({"sql": sql})).error == UNAVAILABLE
    [[worth]] = (await ask(database, sql=sql))["rows"]
    assert f"expected = {worth}\n" in example


async def test_the_example_of_a_tool_works(monkeypatch: pytest.MonkeyPatch) -> None:
    [example] = [block for block in _blocks("python") if "class Dice" in block]
    monkeypatch.setitem(TOOLS, "dice", TOOLS["clock"])  # taken away again afterwards
    exec(compile(example, "docs/tools.md", "exec"), {"__name__": "example"})

    async def throws(seed: int) -> list[int]:
        dice = make_tools(["dice"], {"dice": {"sides": 20}}, seed)["dice"]
        return [await ask(dice) for _ in range(20)]

    assert await throws(1) == await throws(1) != await throws(2)
    assert len(set(await throws(1))) > 5
    assert all(1 <= value <= 20 for value in await throws(1))


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
