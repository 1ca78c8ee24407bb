"""Logs: the standard library's loggers, written as lines for a person or as JSON for a machine.

Rooms log through `logging.getLogger(__name__)` and know nothing of this. The text form, and the ids
that lines carry, need the standard library alone: structlog takes 60 ms to import, which a laptop's
`agenttrace run` would pay each time, so it is imported where its JSON is asked for.
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal, TextIO

from runner.domain.text import one_line
from runner.telemetry.redaction import (
    MOST_CHARACTERS,
    Plain,
    has_structure,
    redacted,
    redacted_fields,
    shown_text,
    without_userinfo,
)

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["text", "json"]

OURS = "runner"
MOST_TRACEBACK_LINES = 200
"""The last ones: they say what went wrong."""

_WORD = re.compile(r"[^\s\"'=]+")
"""A value that a line of text shows without quotes."""
_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_ids: ContextVar[Mapping[str, str | int]] = ContextVar(
    "agenttrace_log_ids",
    default=MappingProxyType({}),
)


def configure(level: Level, log_format: Format, stream: TextIO) -> None:
    """Writes what our loggers say from `level` up, and libraries from a warning up, to `stream`.

    What libraries say below that is about their affairs. May be called again: the last call holds.
    """
    handler = _Handler(stream)
    handler.setFormatter(_json_formatter() if log_format == "json" else TextFormatter())
    ours, libraries = logging.getLogger(OURS), logging.getLogger()
    ours.handlers[:] = [handler]
    ours.setLevel(level.upper())
    ours.propagate = False
    others = [each for each in libraries.handlers if not isinstance(each, _Handler)]
    libraries.handlers[:] = [*others, handler]


@contextmanager
def bound(**ids: str | int) -> Iterator[None]:
    """Within it every line says these: run, submission, task, attempt, worker.

    So do the asyncio tasks and the `asyncio.to_thread` calls that are started within it.
    """
    before = _ids.set(MappingProxyType({**_ids.get(), **ids}))
    try:
        yield
    finally:
        _ids.reset(before)


def fields_of(record: logging.LogRecord) -> dict[str, Plain]:
    """What a record says, redacted: timestamp, level, logger, event; ids and extras; exception."""
    fields: dict[str, Plain] = {
        "timestamp": datetime.fromtimestamp(record.created, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": _event(record),
    }
    if trace := _traceback(record):
        fields["exception"] = trace
    said = redacted_fields({**_ids.get(), **_extras(record)})
    return {**fields, **said, **fields}  # in this order, and no extra passes for one of ours


def _extras(record: logging.LogRecord) -> dict[str, object]:
    return {name: part for name, part in vars(record).items() if name not in _OF_EVERY_RECORD}


def _event(record: logging.LogRecord) -> str:
    """The message with its arguments; redacted once they are joined, since a URL may be in both."""
    message = str(_argument(record.msg))
    match record.args:
        case Mapping() as named:
            message %= redacted_fields(named)
        case tuple() as listed if listed:
            message %= tuple(map(_argument, listed))
    return shown_text(_without_inputs(message))


def _argument(value: object) -> object:
    """Redacted where something can be hidden in it; else as it is, for `%d` and `%r`."""
    return redacted(value) if has_structure(value) else value


def _traceback(record: logging.LogRecord) -> str:
    """Of the exception that the record carries, or of the call: never the values of variables."""
    if record.exc_info and record.exc_info[0]:
        text = "".join(traceback.format_exception(*record.exc_info))
    else:
        text = record.exc_text or ""
    lines = [*text.splitlines(), *(record.stack_info or "").splitlines()]
    shown = (_without_inputs(without_userinfo(line)) for line in lines[-MOST_TRACEBACK_LINES:])
    return "\n".join(line[:MOST_CHARACTERS] for line in shown)


def _without_inputs(text: str) -> str:
    """Without the value that pydantic did not like: it may be the secret that was mistyped."""
    start, end = text.find("input_value="), text.rfind(", input_type=")
    return f"{text[:start]}input_value=(not shown){text[end:]}" if 0 <= start < end else text


class TextFormatter(logging.Formatter):
    """`2026-11-22T10:00:00.000Z info runner.sandbox: message run=r1`, then an exception's lines."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of inert text, or more where there is an exception: those are indented."""
        fields = fields_of(record)
        exception = str(fields.pop("exception", ""))
        timestamp, level, logger, event = (str(fields.pop(name)) for name in tuple(fields)[:4])
        said = [f"{name}={_word(value)}" for name, value in fields.items()]
        first = one_line(f"{timestamp} {level} {logger}: {event}", MOST_CHARACTERS)
        rest = [f"  {one_line(line, MOST_CHARACTERS)}" for line in exception.splitlines()]
        return "\n".join([" ".join([first, *map(one_line, said)]), *rest])


def _word(value: Plain) -> str:
    if isinstance(value, str) and _WORD.fullmatch(value):
        return value
    return json.dumps(value, ensure_ascii=False)


def _json_formatter() -> logging.Formatter:
    """One object a line, ASCII alone, by structlog."""
    from structlog import processors, stdlib  # noqa: PLC0415 - see the module's docstring

    return stdlib.ProcessorFormatter(
        foreign_pre_chain=[_event_dict],
        processors=[processors.JSONRenderer()],
        pass_foreign_args=True,
        use_get_message=False,  # joined with its arguments before those were redacted
    )


def _event_dict(_logger: object, _method: str, given: Mapping[str, Any]) -> dict[str, Plain]:
    """A processor of structlog's: the fields of the record that it was handed."""
    whole = {**vars(given["_record"]), "args": given["positional_args"]}
    return fields_of(logging.makeLogRecord(whole))


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, to be told from those that others have attached to the root logger."""

    def format(self, record: logging.LogRecord) -> str:
        """Formats; where a log call was wrong, a line that says where it stands."""
        try:
            return super().format(record)
        except Exception as error:  # noqa: BLE001 - arguments are objects of any kind
            wrong = f"{type(error).__name__} in the log call at {record.filename}:{record.lineno}"
            facts = {"name": record.name, "levelname": record.levelname, "msg": wrong}
            return super().format(logging.makeLogRecord(facts))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Says nothing: logging's own would print the arguments as they are."""
