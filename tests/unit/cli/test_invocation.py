"""Which commands log how."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.cli.invocation import load


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def logging_as_before(no_agenttrace_environment: None) -> Iterator[None]:
    ours, root = logging.getLogger("runner"), logging.getLogger()
    before = ours.handlers[:], ours.level, ours.propagate, root.handlers[:]
    yield
    ours.handlers[:], level, ours.propagate, root.handlers[:] = before
    ours.setLevel(level)


@pytest.mark.parametrize(
    ("chosen", "service", "stderr", "json_expected"),
    [
        ("auto", False, io.StringIO, False),
        ("auto", True, io.StringIO, True),
        ("auto", True, Terminal, False),
        ("json", False, Terminal, True),
        ("text", True, io.StringIO, False),
    ],
)
def test_the_form_of_the_log(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    chosen: str,
    service: bool,
    stderr: type[io.StringIO],
    json_expected: bool,
) -> None:
    stream = stderr()
    monkeypatch.setattr(sys, "stderr", stream)
    load(None, {"log.format": chosen}, cwd=tmp_path, service=service)
    log = logging.getLogger("runner.somewhere")
    log.warning("said")
    log.info("not said")
    [line] = stream.getvalue().splitlines()
    assert line.startswith("{") is json_expected
    assert not json_expected or json.loads(line)["event"] == "said"
