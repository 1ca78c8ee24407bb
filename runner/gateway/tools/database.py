"""A small relational database: real SQLite in memory, read-only unless the task says otherwise."""

from __future__ import annotations

import asyncio
import math
import sqlite3
import weakref
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, JsonValue

from runner.domain import ToolAnswer, ToolDefinition
from runner.domain.text import one_line
from runner.gateway.tools.setup import ToolSetup
from runner.gateway.tools.sqlite import LONGEST_VALUE, Bounds, confine, connect

_SETUP_CHARACTERS = 500_000
_ROWS = 200
_RESULT_BYTES = 60_000
_CELL_CHARACTERS = 2_000
_PARAMETERS = 100

_PROGRAM = ("addr", "opcode", "p1", "p2", "p3", "p4", "p5", "comment")
"""Columns of EXPLAIN, which tells addresses of our memory."""

_SCALAR: JsonValue = {"type": ["string", "number", "boolean", "null"]}
Cell = str | int | float | bool | None
TableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]

_DEFINITION = ToolDefinition(
    name="database",
    description=(
        "Runs one SQL statement in a SQLite database and gives columns and rows. Tables: "
        "SELECT name, sql FROM sqlite_schema."
    ),
    parameters={
        "type": "object",
        "properties": {
            "sql": {"type": "string", "minLength": 1, "maxLength": 10_000},
            "parameters": {
                "description": "Values for ? (a list), or for :name (an object)",
                "anyOf": [
                    {"type": "array", "maxItems": _PARAMETERS, "items": _SCALAR},
                    {
                        "type": "object",
                        "maxProperties": _PARAMETERS,
                        "additionalProperties": _SCALAR,
                    },
                ],
            },
        },
        "required": ["sql"],
        "additionalProperties": False,
    },
)


class DatabaseSetup(ToolSetup):
    """What the database holds at first; made in the order of the fields."""

    schema_sql: str = Field(default="", alias="schema", max_length=_SETUP_CHARACTERS)
    rows: dict[TableName, list[dict[str, Cell]]] = Field(default_factory=dict)
    """Rows by table, each a value by column."""
    script: str = Field(default="", max_length=_SETUP_CHARACTERS)
    """SQL statements."""
    writable: bool = False


class Database:
    """SQL (`runner.ports.Tool`)."""

    def __init__(self, setup: DatabaseSetup) -> None:
        self._connection = connect()
        self._one_at_a_time = asyncio.Lock()
        self._writable = setup.writable
        weakref.finalize(self, self._connection.close)
        bounds = Bounds()
        try:
            with bounds.hold(self._connection):
                _fill(self._connection, setup)
        except (sqlite3.Error, sqlite3.Warning, OverflowError) as error:
            raise ValueError(bounds.met or f"SQLite says: {error}") from None
        dates = confine(self._connection, writable=setup.writable)
        weakref.finalize(self, dates.close)

    @property
    def definition(self) -> ToolDefinition:
        """What the agent is told of it."""
        return _DEFINITION

    @property
    def cacheable(self) -> bool:
        """Whether it is read-only."""
        return not self._writable

    async def call(self, arguments: Mapping[str, JsonValue]) -> ToolAnswer:
        """Columns and rows, or what SQLite has against the statement."""
        values: Any = arguments.get("parameters", [])
        async with self._one_at_a_time:
            bounds = Bounds()
            running = asyncio.ensure_future(
                asyncio.to_thread(self._run, str(arguments["sql"]), values, bounds)
            )
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                bounds.met = "the call was broken off"  # a thread ends by itself or not at all
                await asyncio.wait([running])
                raise

    def _run(
        self, sql: str, values: Sequence[Cell] | Mapping[str, Cell], bounds: Bounds
    ) -> ToolAnswer:
        try:
            with bounds.hold(self._connection):
                return ToolAnswer(result=_fetched(self._connection.execute(sql, values)))
        except _Withheld as reason:
            return ToolAnswer(error=str(reason))
        except (sqlite3.Error, sqlite3.Warning, OverflowError, MemoryError) as error:
            return ToolAnswer(error=bounds.met or _reason(error))


class _Withheld(Exception):
    """A result that is not given."""


def _fill(connection: sqlite3.Connection, setup: DatabaseSetup) -> None:
    connection.executescript(setup.schema_sql)
    for table, rows in setup.rows.items():
        for row in rows:
            columns = ", ".join('"' + column.replace('"', '""') + '"' for column in row)
            marks = ", ".join("?" * len(row))
            statement = f'INSERT INTO "{table}" ({columns}) VALUES ({marks})'  # noqa: S608
            connection.execute(statement, list(row.values()))
    connection.executescript(setup.script)
    if connection.in_transaction:
        raise sqlite3.OperationalError("the script leaves a transaction open")


def _fetched(cursor: sqlite3.Cursor) -> JsonValue:
    """Never part of a result: what is too large is refused, so that nobody counts half of it."""
    if cursor.description is None:
        return {"changed": max(cursor.rowcount, 0)}
    columns = tuple(column[0] for column in cursor.description)
    if columns[: len(_PROGRAM)] == _PROGRAM:
        cursor.close()
        raise _Withheld("EXPLAIN QUERY PLAN is allowed, EXPLAIN is not")
    rows: list[JsonValue] = []
    size = 0
    for row in cursor:
        cells = [_cell(value) for value in row]
        size += sum(len(str(cell).encode()) + 4 for cell in cells)
        if len(rows) >= _ROWS or size > _RESULT_BYTES:
            cursor.close()
            raise _Withheld(
                f"the result has more than {_ROWS} rows or {_RESULT_BYTES} bytes; "
                "use LIMIT, fewer columns or an aggregate"
            )
        rows.append([*cells])
    return {"columns": [*columns], "rows": rows}


def _cell(value: object) -> JsonValue:
    match value:
        case bytes():
            return _short("x'" + value.hex() + "'")
        case str():
            return _short(value)
        case float() if not math.isfinite(value):
            return None
        case int() | float() | None:
            return value
        case _:
            return _short(str(value))


def _short(text: str) -> str:
    if len(text) > _CELL_CHARACTERS:
        raise _Withheld(f"a value has more than {_CELL_CHARACTERS} characters; use substr")
    return text


def _reason(error: Exception) -> str:
    match error:
        case sqlite3.DatabaseError() if "not authorized" in str(error):
            return "not allowed here: one statement that reads, without pragmas or extensions"
        case sqlite3.OperationalError() if "user-defined function" in str(error):
            return "dates need a time, such as '2026-01-05 09:00'; 'now' is not known here"
        case sqlite3.DataError():
            return f"a value is larger than {LONGEST_VALUE} bytes"
        case _:
            return one_line(f"SQLite says: {' '.join(str(error).split())}")
