"""SQLite for hostile statements: what they may do, and how much of it."""

from __future__ import annotations

import resource
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STEPS = 5_000_000
"""Steps of SQLite's virtual machine for one statement: the same statement always ends alike."""
_STEPS_BETWEEN_LOOKS = 1_000
_SECONDS = 3.0
"""Behind the steps, which are the rule: some take much longer than others."""
_MEMORY_BYTES = 256 * 1024 * 1024
"""By which the whole process may grow while a statement runs; behind the steps too."""
_PAGES = 4_096
"""Of 4 KiB each: the largest database."""
LONGEST_VALUE = 16 * 1024
"""Bytes of a text, a blob or a row."""

_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: LONGEST_VALUE,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 16 * 1024,
    sqlite3.SQLITE_LIMIT_COLUMN: 200,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 50,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 25_000,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 20,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 100,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 100,
    sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH: 10,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE}
_WRITING = {
    sqlite3.SQLITE_INSERT,
    sqlite3.SQLITE_UPDATE,
    sqlite3.SQLITE_DELETE,
    sqlite3.SQLITE_CREATE_TABLE,
    sqlite3.SQLITE_CREATE_INDEX,
    sqlite3.SQLITE_CREATE_VIEW,
    sqlite3.SQLITE_DROP_TABLE,
    sqlite3.SQLITE_DROP_INDEX,
    sqlite3.SQLITE_DROP_VIEW,
}
_PRAGMAS = {"table_info", "table_list", "table_xinfo", "index_list", "index_info"}
_PRAGMAS |= {"foreign_key_list"}
_TABLE_FUNCTIONS = ["json_each", "json_tree", *sorted(f"pragma_{name}" for name in _PRAGMAS)]
_DATES = ("date", "time", "datetime", "julianday", "unixepoch", "strftime", "timediff")
# Not here, on purpose: random, randomblob, current_*, load_extension, fts3_tokenizer, edit,
# writefile, zeroblob, sqlite_*: what differs between two runs, reaches out or only fills memory.
_FUNCTION_NAMES = (
    "abs avg ceil ceiling char coalesce concat concat_ws count cume_dist date datetime degrees "
    "dense_rank exp first_value floor format glob group_concat hex ifnull iif instr json "
    "json_array json_array_length json_each json_extract json_group_array json_group_object "
    "json_insert json_object json_patch json_quote json_remove json_replace json_set json_tree "
    "json_type json_valid julianday lag last_value lead length like ln log log10 log2 lower "
    "ltrim max min mod nth_value ntile nullif octet_length percent_rank pi pow power printf "
    "quote radians rank replace round row_number rtrim sign sqrt strftime string_agg substr "
    "substring subtype sum time timediff total trim trunc typeof unicode unixepoch upper -> ->>"
)
_FUNCTIONS = frozenset(_FUNCTION_NAMES.split())
_CLOCKS = {"now", "subsec", "subsecond", "localtime", "utc"}


def connect() -> sqlite3.Connection:
    """An empty database in memory, to be filled by a setup: it reaches no file even then."""
    connection = _in_memory()
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(f"PRAGMA max_page_count = {_PAGES}")
    return connection


def _in_memory() -> sqlite3.Connection:
    # No cache of statements: an agent's would stay in it, each as large as its program.
    return sqlite3.connect(
        ":memory:", isolation_level=None, check_same_thread=False, cached_statements=0
    )


def confine(connection: sqlite3.Connection, *, writable: bool) -> sqlite3.Connection:
    """From here on its statements come from an agent.

    Returns a second, empty database that it computes dates with; to be closed after it.
    """
    for limit, value in _LIMITS.items():
        connection.setlimit(limit, value)
    for table in _TABLE_FUNCTIONS:
        # Made at first use, which looks to the authorizer like a CREATE TABLE.
        connection.execute(f"SELECT * FROM {table}('{{}}')").fetchall()  # noqa: S608
    plain = _in_memory()
    for name in _DATES:
        connection.create_function(name, -1, _without_the_present(plain, name))
    allowed = _READING | _WRITING if writable else _READING
    connection.set_authorizer(_authorizer(allowed))
    return plain


def _authorizer(allowed: set[int]) -> Callable[..., int]:
    def authorize(
        action: int, first: str | None, second: str | None, _where: object, _by: object
    ) -> int:
        match action:
            case sqlite3.SQLITE_FUNCTION:
                permitted = (second or "").lower() in _FUNCTIONS
            case sqlite3.SQLITE_PRAGMA:
                permitted = (first or "").lower() in _PRAGMAS
            case _:
                permitted = action in allowed
        return sqlite3.SQLITE_OK if permitted else sqlite3.SQLITE_DENY

    return authorize


def _without_the_present(plain: sqlite3.Connection, name: str) -> Callable[..., Any]:
    """A function of dates that does not know what time it really is, nor where."""
    moments = 1 if name == "strftime" else 0

    def function(*arguments: object) -> Any:
        if len(arguments) <= moments or any(map(_is_clock, arguments)):
            raise ValueError
        marks = ", ".join("?" * len(arguments))
        return plain.execute(f"SELECT {name}({marks})", arguments).fetchone()[0]

    return function


def _is_clock(argument: object) -> bool:
    text = argument.decode("latin-1") if isinstance(argument, bytes) else str(argument)
    return text.partition("\0")[0].strip().casefold() in _CLOCKS


class Bounds:
    """Ends a statement that goes on for too long, or takes too much memory."""

    def __init__(self) -> None:
        self._looks = 0
        self._until = time.monotonic() + _SECONDS
        self._memory = _resident_bytes()
        self.met = ""
        """Which bound ended it; empty: none. May be set from another thread, which ends it too."""

    def look(self) -> int:
        """For `set_progress_handler`: whether to end the statement."""
        self._looks += 1
        if self.met:
            return 1
        if self._looks * _STEPS_BETWEEN_LOOKS > STEPS:
            self.met = "the statement takes too many steps; ask for less, or join on less"
        elif time.monotonic() > self._until:
            self.met = "the statement takes too long"
        elif _resident_bytes() - self._memory > _MEMORY_BYTES:
            self.met = "the statement takes too much memory"
        return 1 if self.met else 0

    @contextmanager
    def hold(self, connection: sqlite3.Connection) -> Iterator[None]:
        """Within it they hold for statements of `connection`, all together."""
        connection.set_progress_handler(self.look, _STEPS_BETWEEN_LOOKS)
        try:
            yield
        finally:
            connection.set_progress_handler(None, 0)


def _resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize()
