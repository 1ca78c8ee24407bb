"""The key-value store keeps what it is given, within bounds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from tests.unit.gateway.tools.asking import ask, error, tool


async def test_values_come_back() -> None:
    store = tool("key_value", data={"a": {"deep": [1, None]}})
    assert await ask(store, operation="get", key="a") == {"value": {"deep": [1, None]}}
    assert await ask(store, operation="set", key="b", value=False) == {"stored": True}
    assert await ask(store, operation="get", key="b") == {"value": False}
    assert await ask(store, operation="list") == {"keys": ["a", "b"], "total": 2}
    assert await ask(store, operation="delete", key="a") == {"deleted": True}
    assert await error(store, operation="get", key="a") == "there is no such key"
    assert await error(store, operation="delete", key="a") == "there is no such key"


async def test_lists_are_by_prefix_and_by_page() -> None:
    store = tool("key_value", data={f"k{n:03}": n for n in range(150)} | {"other": 1})
    first = await ask(store, operation="list", prefix="k")
    rest = await ask(store, operation="list", prefix="k", offset=100)
    assert (len(first["keys"]), len(rest["keys"]), rest["total"]) == (100, 50, 150)


async def test_what_is_missing_is_said() -> None:
    store = tool("key_value")
    assert await error(store, operation="get") == "get needs a key"
    assert await error(store, operation="set", key="a") == "set needs a value"


async def test_a_null_is_a_value() -> None:
    store = tool("key_value")
    await ask(store, operation="set", key="a", value=None)
    assert await ask(store, operation="get", key="a") == {"value": None}


async def test_values_keys_and_the_whole_are_bounded() -> None:
    store = tool("key_value")
    assert "at most" in await error(store, operation="set", key="a", value="x" * 16_384)
    text = "x" * 16_000
    for n in range(65):
        await ask(store, operation="set", key=f"k{n}", value=text)
    assert "full" in await error(store, operation="set", key="one more", value=text)
    await ask(store, operation="set", key="k1", value=text[1:])  # in place of one of the same size
    await ask(store, operation="delete", key="k2")
    await ask(store, operation="set", key="one more", value=text)

    many = tool("key_value", data=dict.fromkeys(map(str, range(1000)), 0))
    assert "1000 keys" in await error(many, operation="set", key="new", value=0)
    await ask(many, operation="set", key="7", value=1)


keys = st.sampled_from(["a", "b", "c"])
values = st.recursive(st.none() | st.integers() | st.text(), st.lists)
steps = st.lists(
    st.tuples(st.sampled_from(["get", "set", "delete"]), keys, values),
    max_size=20,
)


@given(steps)
async def test_it_is_a_dictionary(steps: list[tuple[str, str, JsonValue]]) -> None:
    store, model = tool("key_value"), dict[str, JsonValue]()
    for operation, key, value in steps:
        answer = await store.call({"operation": operation, "key": key, "value": value})
        if operation == "set":
            model[key] = value
        elif key not in model:
            assert answer.error
        elif operation == "get":
            assert answer.result == {"value": model[key]}
        else:
            del model[key]
    listed = await ask(store, operation="list")
    assert listed == {"keys": sorted(model), "total": len(model)}
