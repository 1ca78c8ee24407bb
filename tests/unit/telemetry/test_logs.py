"""The two forms of a log line, and what they never hold."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr, ValidationError

from runner.telemetry.logs import Format, Level, bound, configure
from tests.unit.telemetry.test_redaction import SECRET, WRAPPED_SECRETS

log = logging.getLogger("runner.sandbox")
FORMATS: tuple[Format, ...] = ("text", "json")
Configure = Callable[..., io.StringIO]


@pytest.fixture
def configured() -> Iterator[Configure]:
    """Logging into a buffer; afterwards as it was."""
    ours, root = logging.getLogger("runner"), logging.getLogger()
    before = ours.handlers[:], ours.level, ours.propagate, root.handlers[:]

    def call(log_format: Format = "json", level: Level = "debug") -> io.StringIO:
        stream = io.StringIO()
        configure(level, log_format, stream)
        return stream

    yield call
    ours.handlers[:], ours.level, ours.propagate, root.handlers[:] = before
    logging.getLogger("runner").setLevel(before[1])  # forgets what is cached of the level


class Fault(Exception):
    pass


def fail(message: object) -> None:
    log.info("before it fails")
    raise Fault(message)


def objects(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_json_line(configured: Configure) -> None:
    stream = configured()
    with bound(run="r1", attempt=2):
        log.info("made %d of %s", 2, "x", extra={"seconds": 1.5, "limits": {"cpus": 1}})
    [line] = objects(stream)
    assert datetime.fromisoformat(line.pop("timestamp")).utcoffset() is not None
    assert line == {
        "level": "info",
        "logger": "runner.sandbox",
        "event": "made 2 of x",
        "run": "r1",
        "attempt": 2,
        "seconds": 1.5,
        "limits": {"cpus": 1},
    }


def test_a_text_line(configured: Configure) -> None:
    stream = configured("text")
    with bound(run="r1", task="a b"):
        log.warning("made %d", 2, extra={"ok": True, "limits": {"cpus": 1}})
    timestamp, _, rest = stream.getvalue().partition(" ")
    assert timestamp.endswith("Z")
    assert datetime.fromisoformat(timestamp).utcoffset() is not None
    assert rest == ('warning runner.sandbox: made 2 run=r1 task="a b" ok=true limits={"cpus": 1}\n')


def test_no_extra_passes_for_a_field_of_ours(configured: Configure) -> None:
    stream = configured()
    log.info("true", extra={"event": "false", "level": "false", "timestamp": "", "logger": ""})
    [line] = objects(stream)
    assert (line["event"], line["level"], line["logger"]) == ("true", "info", "runner.sandbox")


def test_ours_from_the_level_up_and_libraries_from_a_warning_up(configured: Configure) -> None:
    stream = configured(level="info")
    library = logging.getLogger("some_library")
    for logger in (log, library):
        for level in (logging.DEBUG, logging.INFO, logging.WARNING):
            logger.log(level, "said")
    said = [(line["logger"], line["level"]) for line in objects(stream)]
    assert said == [
        ("runner.sandbox", "info"),
        ("runner.sandbox", "warning"),
        ("some_library", "warning"),
    ]


def test_the_last_configuration_holds_alone(configured: Configure) -> None:
    first, second = configured(), configured()
    log.info("once")
    logging.getLogger("some_library").warning("once")
    assert first.getvalue() == ""
    assert len(objects(second)) == 2


# -- ids ----------------------------------------------------------------------------------------


async def test_ids_follow_tasks_and_threads(configured: Configure) -> None:
    stream = configured()

    async def attempt(name: str) -> None:
        with bound(task=name):
            await asyncio.sleep(0)
            await asyncio.to_thread(log.info, "in a thread of %s", name)
            log.info("after %s", name)

    with bound(run="r1"):
        await asyncio.gather(attempt("a"), attempt("b"))
        log.info("at the end")
    log.info("outside")
    lines = objects(stream)
    ids = {line["event"]: (line.get("run"), line.get("task")) for line in lines}
    assert ids == {
        "in a thread of a": ("r1", "a"),
        "in a thread of b": ("r1", "b"),
        "after a": ("r1", "a"),
        "after b": ("r1", "b"),
        "at the end": ("r1", None),
        "outside": (None, None),
    }


def test_ids_nest_and_end_with_an_exception(configured: Configure) -> None:
    stream = configured()
    with pytest.raises(Fault), bound(run="r1", task="a"), bound(task="b"):
        fail("inner")
    log.info("outer")
    inner, outer = objects(stream)
    assert (inner["run"], inner["task"]) == ("r1", "b")
    assert "run" not in outer


# -- hostile text -------------------------------------------------------------------------------

HOSTILE = "\x1b[2J\x00\x07\r\n\x7f\x9b\u202e\u2028\ud800 2026-11-22T10:00:00Z info runner.x: forged"


@pytest.mark.parametrize("log_format", FORMATS)
def test_nothing_written_acts_on_a_terminal_or_forges_a_line(
    configured: Configure, log_format: Format
) -> None:
    stream = configured(log_format)
    with bound(run=HOSTILE):
        log.info(
            HOSTILE.join(["", "%s"]),
            HOSTILE,
            extra={"text": HOSTILE, "parts": [HOSTILE]},
        )
    written = stream.getvalue()
    assert written.endswith("\n")
    assert written[:-1].isprintable()


@pytest.mark.parametrize("log_format", FORMATS)
def test_an_exception_is_told_without_variables(configured: Configure, log_format: Format) -> None:
    stream = configured(log_format)
    kept = "a value of a variable"
    try:
        fail(HOSTILE + "postgres://u:pass@h")
    except Fault:
        log.exception("failed: %s", len(kept))
    written = stream.getvalue()
    assert all(line.isprintable() for line in written.split("\n"))
    assert "Fault" in written
    assert "Traceback" in written
    assert kept not in written.replace(f'kept = "{kept}"', "")
    assert "pass@" not in written
    if log_format == "json":
        assert isinstance(objects(stream)[1]["exception"], str)
    else:
        assert all(line.startswith("  ") for line in written.splitlines()[2:])


@pytest.mark.parametrize("log_format", FORMATS)
def test_an_endless_message_is_cut(configured: Configure, log_format: Format) -> None:
    stream = configured(log_format)
    try:
        fail("x\n" * 100_000 + "y" * 100_000)
    except Fault:
        log.exception("z" * 100_000, extra={"more": ["w" * 100_000]})
    assert len(stream.getvalue()) < 20_000


# -- secrets ------------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(value=WRAPPED_SECRETS, log_format=st.sampled_from(FORMATS))
def test_a_secret_is_never_written(
    configured: Configure, value: object, log_format: Format
) -> None:
    stream = configured(log_format)
    log.info("one %s", value, extra={"value": value})
    log.info("two %s and %r", value, [value])
    log.info(value)
    log.info("wrong %d %d", value)  # noqa: PLE1206 - a mistake
    log.info("%(value)s", {"value": value, "password": SECRET})
    try:
        fail(value if isinstance(value, str) else [SecretStr(SECRET)])
    except Fault:
        log.exception("failed")
    assert SECRET not in stream.getvalue()
    assert (
        stream.getvalue().count(" runner.sandbox:" if log_format == "text" else '"runner.sandbox"')
        == 7
    )


def test_headers_as_the_only_argument(configured: Configure) -> None:
    stream = configured("text")
    log.info("headers %s", {"Authorization": SECRET, "accept": "text"})
    assert SECRET not in stream.getvalue()
    assert "'accept': 'text'" in stream.getvalue()


def test_the_input_that_pydantic_refused(configured: Configure) -> None:
    class Login(BaseModel):
        password: int

    stream = configured()
    try:
        Login.model_validate({"password": SECRET})
    except ValidationError as error:
        log.exception("refused: %s", error)  # noqa: TRY401 - it may be said twice
    assert "int_parsing" in stream.getvalue()
    assert SECRET not in stream.getvalue()


def test_an_argument_that_cannot_be_shown(
    configured: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken:
        def __str__(self) -> str:
            raise RuntimeError(SECRET)

    stream = configured()
    log.error("this %s", Broken())
    [line] = objects(stream)
    assert line["event"].startswith("RuntimeError in the log call at test_logs.py:")
    assert line["level"] == "error"
    assert capsys.readouterr().err == ""


def test_a_stream_that_is_gone(configured: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    configured().close()
    log.error("unheard %s", SECRET)
    assert capsys.readouterr().err == ""


def test_text_needs_no_structlog() -> None:
    """It would cost every `agenttrace run` its import."""
    program = (
        "import sys; from runner.telemetry.logs import configure;"
        "configure('debug', 'text', sys.stderr);"
        "import logging; logging.getLogger('runner').info('hello');"
        "sys.exit('structlog' in sys.modules or 'prometheus_client' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, b"hello" in done.stderr) == (0, True)
