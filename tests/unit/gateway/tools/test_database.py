"""The database: what an agent may do in it, and that hostile statements end."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.errors import InvalidSuite
from runner.gateway.tools import sqlite
from runner.gateway.tools.sqlite import LONGEST_VALUE, confine, connect
from runner.ports import Tool
from tests.unit.gateway.tools.asking import ask, error, tool

SCHEMA = "CREATE TABLE town (id INTEGER PRIMARY KEY, name TEXT NOT NULL, people INTEGER);"
ROWS = [
    {"id": 1, "name": "Ostreva", "people": 48_300},
    {"id": 2, "name": "Port Quill", "people": 21_750},
    {"id": 3, "name": "Senn", "people": None},
]
ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
WIDE = "printf('%16000d', x)"
FILLING = (
    f"WITH RECURSIVE n(x, y) AS (SELECT 1, 'a' UNION ALL SELECT x + 1, {WIDE} FROM n) "
    "SELECT count(*) FROM (SELECT y FROM n ORDER BY y)"
)


@pytest.fixture
def towns() -> Tool:
    return tool("database", schema=SCHEMA, rows={"town": [*ROWS]})


@pytest.fixture
def writable() -> Tool:
    return tool("database", schema=SCHEMA, rows={"town": [*ROWS]}, writable=True)


async def test_columns_and_rows(towns: Tool) -> None:
    assert await ask(towns, sql="SELECT name, people FROM town ORDER BY id") == {
        "columns": ["name", "people"],
        "rows": [["Ostreva", 48_300], ["Port Quill", 21_750], ["Senn", None]],
    }


async def test_parameters_by_place_and_by_name(towns: Tool) -> None:
    by_place = await ask(towns, sql="SELECT name FROM town WHERE id = ?", parameters=[2])
    by_name = await ask(
        towns, sql="SELECT name FROM town WHERE id = :id", parameters={"id": 2, "unused": 1}
    )
    assert by_place["rows"] == by_name["rows"] == [["Port Quill"]]


async def test_a_script_runs_after_the_rows() -> None:
    database = tool("database", schema=SCHEMA, rows={"town": [*ROWS]}, script="DELETE FROM town")
    assert (await ask(database, sql="SELECT count(*) FROM town"))["rows"] == [[0]]


@pytest.mark.parametrize(
    "sql",
    [
        "PRAGMA table_info(town)",
        "SELECT name FROM pragma_table_info('town')",
        "SELECT value FROM json_each('[1, 2]')",
        "SELECT name, sql FROM sqlite_schema",
        "SELECT name, rank() OVER (ORDER BY people DESC) FROM town",
        "SELECT strftime('%Y', '2026-01-05'), date('2026-01-31', '+1 day'), upper('a') || 'b'",
        "EXPLAIN QUERY PLAN SELECT * FROM town",
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 9) SELECT * FROM n",
    ],
)
async def test_what_reads_is_allowed(towns: Tool, sql: str) -> None:
    assert (await ask(towns, sql=sql))["rows"]


REFUSED = [
    "INSERT INTO town VALUES (4, 'x', 1)",
    "UPDATE town SET people = 1",
    "DELETE FROM town",
    "DROP TABLE town",
    "CREATE TABLE t (a)",
    "CREATE TEMP TABLE t (a)",
    "CREATE VIRTUAL TABLE t USING fts5(a)",
    "ATTACH ':memory:' AS other",
    "DETACH main",
    "VACUUM",
    "VACUUM INTO '{file}'",
    "PRAGMA writable_schema = 1",
    "PRAGMA temp_store_directory = '/'",
    "PRAGMA hard_heap_limit = 1",
    "PRAGMA max_page_count = 1000000",
    "SELECT load_extension('x')",
    "SELECT writefile('{file}', 'x')",
    "SELECT readfile('/etc/passwd')",
    "SELECT fts3_tokenizer('simple')",
    "SELECT random()",
    "SELECT hex(randomblob(8))",
    "SELECT zeroblob(1000)",
    "SELECT CURRENT_TIMESTAMP",
    "SELECT sqlite_version()",
    "SELECT date()",
    "SELECT date('now')",
    "SELECT datetime('NoW', 'utc')",
    "SELECT julianday(CAST('now' AS BLOB))",
    "SELECT date('now' || char(0) || 'x')",
    "SELECT strftime('%Y')",
    "SELECT strftime('%H', '2026-01-05 12:00', 'localtime')",
    "EXPLAIN SELECT * FROM json_each('[]')",
    "BEGIN",
    "SAVEPOINT a",
    "ANALYZE",
    "SELECT 1; SELECT 2",
    "SELEC",
    "SELECT \0 1",
    "SELECT \x1b[31m",
    "SELECT 1 AS a, \u202e",
    "SELECT CAST(x'ff' AS TEXT)",
    "SELECT 'x' LIKE '" + "%a" * 100 + "'",
]


@pytest.fixture
def untouched(tmp_path: Path) -> Iterator[Path]:
    """A directory that must be empty in the end."""
    yield tmp_path
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sql", REFUSED)
async def test_everything_else_is_not(towns: Tool, sql: str, untouched: Path) -> None:
    await error(towns, sql=sql.replace("{file}", str(untouched / "out")))
    assert (await ask(towns, sql="SELECT count(*) FROM town"))["rows"] == [[3]]


async def test_a_writable_one_keeps_what_is_written(writable: Tool) -> None:
    changed = await ask(writable, sql="INSERT INTO town VALUES (4, 'Westing', 700), (5, 'F', 1)")
    assert changed == {"changed": 2}
    await ask(writable, sql="CREATE TABLE big AS SELECT * FROM town WHERE people > 600")
    assert (await ask(writable, sql="SELECT count(*) FROM big"))["rows"] == [[3]]
    assert not writable.cacheable


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TRIGGER t AFTER INSERT ON town BEGIN SELECT 1; END",
        "CREATE VIRTUAL TABLE t USING fts5(a)",
        "INSERT INTO sqlite_schema VALUES (1, 2, 3, 4, 5)",
        "ATTACH ':memory:' AS other",
        "BEGIN",
        "PRAGMA foreign_keys = 0",
        "INSERT INTO town VALUES (1, 'twice', 1)",
    ],
)
async def test_a_writable_one_refuses_what_is_not_data(writable: Tool, sql: str) -> None:
    await error(writable, sql=sql)


async def test_a_statement_that_is_stopped_changes_nothing(writable: Tool) -> None:
    grow = ENDLESS.replace("SELECT count(*) FROM n", "INSERT INTO town SELECT x + 9, 'a', 1 FROM n")
    assert "too many steps" in await error(writable, sql=grow)
    assert (await ask(writable, sql="SELECT count(*) FROM town"))["rows"] == [[3]]


async def test_a_database_cannot_grow_without_end(
    writable: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_MEMORY_BYTES", 2**40)
    grow = (
        "WITH RECURSIVE n(x) AS (SELECT 9 UNION ALL SELECT x + 1 FROM n) "
        f"INSERT INTO town SELECT x, {WIDE}, 1 FROM n"
    )
    assert "full" in await error(writable, sql=grow)


async def test_endless_statements_end_by_their_steps_the_same_each_time(towns: Tool) -> None:
    told = {await error(towns, sql=ENDLESS) for _ in range(3)}
    assert told == {"the statement takes too many steps; ask for less, or join on less"}


async def test_memory_is_bounded_too(towns: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_MEMORY_BYTES", 32 * 1024 * 1024)
    assert await error(towns, sql=FILLING) == "the statement takes too much memory"


async def test_time_is_the_last_bound(towns: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_SECONDS", -1.0)
    assert await error(towns, sql=ENDLESS) == "the statement takes too long"


async def test_a_cancelled_call_stops_its_statement(
    towns: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "STEPS", 2**60)
    monkeypatch.setattr(sqlite, "_SECONDS", 1e9)
    calling = asyncio.create_task(towns.call({"sql": ENDLESS}))
    await asyncio.sleep(0)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert (await ask(towns, sql="SELECT 1"))["rows"] == [[1]]


async def test_calls_take_turns(writable: Tool) -> None:
    await asyncio.gather(
        *(ask(writable, sql="UPDATE town SET people = people + 1 WHERE id = 1") for _ in range(50))
    )
    assert (await ask(writable, sql="SELECT people FROM town WHERE id = 1"))["rows"] == [[48_350]]


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT a.id FROM town a, town b, town c, town d, town e, town f", "more than 200 rows"),
        ("SELECT printf('%1500d', value) FROM json_each(?)", "60000 bytes"),
        ("SELECT printf('%3000d', 1)", "use substr"),
    ],
)
async def test_large_results_are_refused_not_cut(towns: Tool, sql: str, reason: str) -> None:
    parameters = [str([0] * 100)] if "?" in sql else []
    assert reason in await error(towns, sql=sql, parameters=[*parameters])


async def test_values_that_json_does_not_have(towns: Tool) -> None:
    result = await ask(towns, sql="SELECT x'00ff', 9e999, -9e999, 1 = 1")
    assert result["rows"] == [["x'00ff'", None, None, 1]]


@pytest.mark.parametrize(
    "parameters", [[2**70], [], ["a", "b"], {"other": 1}], ids=["huge", "few", "many", "named"]
)
async def test_parameters_that_do_not_fit(towns: Tool, parameters: list[int]) -> None:
    await error(towns, sql="SELECT :id", parameters=parameters)  # type: ignore[arg-type]


SETUPS = {
    "incomplete input": {"schema": "CREATE TABLE"},
    "no such table": {"rows": {"town": [{"id": 1}]}},
    "no column named": {"schema": SCHEMA, "rows": {"town": [{"nosuch": 1}]}},
    "too many attached": {"script": "ATTACH '/tmp/x' AS y"},
    "too many attached ": {"script": "VACUUM INTO '/tmp/x'"},
    "too many steps": {"script": "CREATE TABLE t AS " + ENDLESS},
    "too big": {"schema": SCHEMA, "rows": {"town": [{"name": "x" * LONGEST_VALUE}]}},
    "transaction": {"script": "BEGIN"},
}


@pytest.mark.parametrize(("reason", "setup"), SETUPS.items())
def test_setups_that_make_no_database(reason: str, setup: dict[str, object]) -> None:
    with pytest.raises(InvalidSuite, match=r"tool_setups\.database") as raised:
        tool("database", **setup)  # type: ignore[arg-type]
    assert reason.strip() in raised.value.message


def test_connections_are_closed_with_their_tool() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        database = tool("database", schema=SCHEMA)
        del database
        gc.collect()


def test_functions_that_reach_out_or_differ_are_there_and_refused() -> None:
    calls = {
        "load_extension": "load_extension('x')",
        "random": "random()",
        "randomblob": "randomblob(1)",
        "zeroblob": "zeroblob(1)",
        "current_timestamp": "current_timestamp",
    }
    plain = sqlite3.connect(":memory:")
    known = {row[0] for row in plain.execute("SELECT name FROM pragma_function_list")}
    plain.close()
    assert known.issuperset(calls)
    confined = connect()
    dates = confine(confined, writable=True)
    for call in calls.values():
        with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
            confined.execute(f"SELECT {call}")
    confined.close()
    dates.close()
