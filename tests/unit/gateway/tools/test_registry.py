"""Tools as tasks name them: made, checked, described; and none knows an answer key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import JsonValue

from runner.domain import (
    AnswerKey,
    BenchmarkCategory,
    BenchmarkTask,
    ExactCriterion,
    Prompt,
    ToolAnswer,
    ToolDefinition,
)
from runner.errors import InvalidSuite
from runner.gateway.arguments import Unfit, check_schema, check_shape, validator_of
from runner.gateway.tools import TOOL_NAMES, TOOLS, ToolKind, ToolSetup, check_tools, make_tools
from runner.gateway.tools.formats import answer_body, as_anthropic, as_openai, as_plain
from runner.gateway.tools.registry import scope_of
from runner.ports import Tool

every_tool = pytest.mark.parametrize("name", TOOL_NAMES)

ARGUMENTS: dict[str, dict[str, JsonValue]] = {
    "calculator": {"expression": "1 + 1"},
    "clock": {},
    "database": {"sql": "SELECT 1"},
    "document_search": {"query": "ferry"},
    "key_value": {"operation": "set", "key": "a", "value": 1},
    "workspace": {"operation": "write", "path": "a", "content": "b"},
}


@every_tool
async def test_each_works_without_a_setup(name: str) -> None:
    tool = make_tools([name], {}, seed=1)[name]
    check_schema(ARGUMENTS[name], validator_of(tool.definition.parameters))
    assert not (await tool.call(ARGUMENTS[name])).error


@every_tool
def test_each_definition_is_a_closed_object_that_says_what_is_what(name: str) -> None:
    definition = make_tools([name], {}, seed=1)[name].definition
    Draft202012Validator.check_schema(definition.parameters)
    assert definition.name == name
    assert definition.parameters["type"] == "object"
    assert definition.parameters["additionalProperties"] is False


def test_tools_come_in_the_order_of_their_names_and_new_each_time() -> None:
    names = ["workspace", "calculator"]
    first, second = make_tools(names, {}, 0), make_tools(names, {}, 0)
    assert list(first) == names
    assert first["workspace"] is not second["workspace"]


async def test_a_change_in_one_attempt_is_unknown_to_the_next() -> None:
    setups: dict[str, dict[str, JsonValue]] = {"key_value": {"data": {"a": 1}}}
    first = make_tools(["key_value"], setups, 0)["key_value"]
    await first.call({"operation": "delete", "key": "a"})
    second = make_tools(["key_value"], setups, 0)["key_value"]
    assert (await second.call({"operation": "get", "key": "a"})).result == {"value": 1}


MISTAKES: list[tuple[list[str], Any, str]] = [
    (["teleport"], {}, "there is no tool 'teleport'"),
    (["clock", "clock"], {}, "names a tool twice"),
    ([], {"clock": {}}, "tool_setups.clock is for a tool that the task does not offer"),
    (["clock"], {"clock": {"hour": 1}}, "tool_setups.clock.hour: Extra inputs"),
    (["clock"], {"clock": {"now": "noon"}}, "tool_setups.clock.now: "),
    (["clock"], {"clock": {"now": "2026-01-01T00:00:00"}}, "tool_setups.clock.now: "),
    (["clock"], {"clock": {"now": "0001-01-01T00:00:00Z"}}, "between the years"),
    (["clock"], {"clock": {"step_seconds": -1}}, "tool_setups.clock.step_seconds: "),
    (["calculator"], {"calculator": {"digits": 3}}, "tool_setups.calculator.digits: Extra"),
    (["calculator"], {"calculator": {"flaky": ["maybe"]}}, "tool_setups.calculator.flaky.0: "),
    (["calculator"], {"calculator": {"slow_seconds": 60}}, "calculator.slow_seconds: "),
    (["key_value"], {"key_value": {"data": {"": 1}}}, "tool_setups.key_value.data.."),
    (["key_value"], {"key_value": {"data": {"a": "x" * 20_000}}}, "16384 bytes"),
    (["key_value"], {"key_value": {"data": {str(n): 1 for n in range(1001)}}}, "key_value.data: "),
    (["workspace"], {"workspace": {"files": {"/etc": ""}}}, "tool_setups.workspace.files"),
    (["workspace"], {"workspace": {"files": {"a": "", "a/b": ""}}}, "both a file and a folder"),
    (["workspace"], {"workspace": {"files": {"a": "x" * 70_000}}}, "65536 bytes"),
    (["document_search"], {"document_search": {"documents": []}}, "document_search.documents: "),
    (
        ["document_search"],
        {"document_search": {"documents": [{"id": "a", "title": "t", "text": ""}] * 2}},
        "the same id",
    ),
    (["database"], {"database": {"tables": {}}}, "tool_setups.database.tables: Extra"),
    (["database"], {"database": {"rows": {"a; DROP": []}}}, "tool_setups.database.rows"),
    (["database"], {"database": {"rows": {"a": [{"b": [1]}]}}}, "tool_setups.database.rows.a.0.b"),
    (["database"], {"database": {"schema": "CREATE"}}, "tool_setups.database: SQLite says"),
]


@pytest.mark.parametrize(("names", "setups", "reason"), MISTAKES)
def test_mistakes_name_tool_and_field(names: list[str], setups: Any, reason: str) -> None:
    with pytest.raises(InvalidSuite) as raised:
        check_tools(names, setups)
    assert reason in raised.value.message
    assert raised.value.message.isprintable()
    assert raised.value.remedy
    with pytest.raises(InvalidSuite):
        make_tools(names, setups, seed=0)


def test_a_third_partys_tool_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    class DiceSetup(ToolSetup):
        sides: int = 6

    class Dice:
        cacheable = False

        def __init__(self, setup: DiceSetup, seed: int) -> None:
            self.value = seed % setup.sides + 1

        @property
        def definition(self) -> ToolDefinition:
            return ToolDefinition(name="dice", description="", parameters={"type": "object"})

        async def call(self, arguments: Mapping[str, JsonValue]) -> ToolAnswer:
            return ToolAnswer(result=self.value)

    monkeypatch.setitem(TOOLS, "dice", ToolKind(setup=DiceSetup, make=Dice))
    made = make_tools(["dice"], {"dice": {"sides": 4}}, seed=7)["dice"]
    assert isinstance(made, Dice)
    assert made.value == 4
    with pytest.raises(InvalidSuite, match=r"tool_setups\.dice\.faces"):
        check_tools(["dice"], {"dice": {"faces": 4}})


def test_definitions_in_the_forms_of_the_model_apis() -> None:
    definition = ToolDefinition(name="t", description="d", parameters={"type": "object"})
    plain = {"name": "t", "description": "d", "parameters": {"type": "object"}}
    assert as_plain([definition]) == [plain]
    assert as_openai([definition]) == [{"type": "function", "function": plain}]
    assert as_anthropic([definition]) == [
        {"name": "t", "description": "d", "input_schema": {"type": "object"}}
    ]
    assert answer_body(ToolAnswer(result=[1])) == {"result": [1], "error": ""}


def test_scopes_differ_with_all_that_answers_depend_on() -> None:
    scopes = {
        scope_of(["clock"], {}, 0),
        scope_of(["clock"], {}, 1),
        scope_of(["clock"], {"clock": {"step_seconds": 1}}, 0),
        scope_of(["clock", "calculator"], {}, 0),
    }
    assert len(scopes) == 4
    assert scope_of(["clock"], {}, 0) in scopes


# -- the answer key ------------------------------------------------------------------------------

CANARY = "canary-5f1d0c"


def _task_with_a_canary() -> BenchmarkTask:
    return BenchmarkTask(
        task_id="canary",
        category=BenchmarkCategory.TOOL_USE,
        name="A key that nobody may see",
        prompt=Prompt(task_id="canary", text="?", tools=TOOL_NAMES),
        answer_key=AnswerKey(criteria=(ExactCriterion(expected=CANARY),)),
    )


@every_tool
async def test_no_tool_says_anything_of_the_answer_key(name: str) -> None:
    task = _task_with_a_canary()
    tool = make_tools(task.prompt.tools, task.tool_setups, 0)[name]
    asked: list[dict[str, JsonValue]] = [ARGUMENTS[name]]
    if name == "database":
        asked += [{"sql": "SELECT * FROM sqlite_schema"}]
    if name == "document_search":
        asked += [{"query": CANARY}, {"query": "answer key"}]
    if name in ("key_value", "workspace"):
        asked += [{"operation": "list"}]
    said = [(await tool.call(arguments)).model_dump_json() for arguments in asked]
    assert CANARY not in "".join([*said, tool.definition.model_dump_json()])


# -- arguments of any kind -----------------------------------------------------------------------

TEXTS = ["", "a", "a/b", "1/0", "SELECT * FROM sqlite_schema", "2026-01-01T00:00Z", "\0", "é\u2028"]


def _values(schema: Any) -> st.SearchStrategy[Any]:
    texts = st.sampled_from([*TEXTS, *schema.get("enum", [])]) | st.text(max_size=30)
    integers = st.integers(-5, 2000) | st.just(2**70)
    return texts | integers | st.floats() | st.none() | st.lists(integers | texts, max_size=3)


def _calls(tool: Tool) -> st.SearchStrategy[dict[str, Any]]:
    properties: Any = tool.definition.parameters["properties"]
    fields = {key: _values(schema) for key, schema in properties.items()}
    return st.fixed_dictionaries({}, optional=fields)


@every_tool
@given(data=st.data())
async def test_no_arguments_that_fit_make_it_raise(name: str, data: st.DataObject) -> None:
    tool = make_tools([name], {}, 0)[name]
    validator = validator_of(tool.definition.parameters)
    for _ in range(data.draw(st.integers(1, 4))):
        arguments = data.draw(_calls(tool))
        try:
            check_schema(check_shape(arguments), validator)
        except Unfit:
            continue
        answer = await tool.call(arguments)
        assert len(json.dumps(answer.result, allow_nan=False)) < 100_000
        assert answer.error == "" or (answer.result is None and "\n" not in answer.error)
