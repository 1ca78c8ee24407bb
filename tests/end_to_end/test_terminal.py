"""On a real terminal: a live display, and no byte of an agent's that the terminal would obey."""

from __future__ import annotations

import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from concurrent.futures import ThreadPoolExecutor
from fcntl import ioctl
from pathlib import Path

import pytest

from .conftest import SESSION
from .shell import PATIENCE_SECONDS, SUITE, Shell

pytestmark = pytest.mark.docker

EVIL = "\x1b]0;owned\x07\x1b[2J\x1b[7;31m[bold red]red[/]\x9b31m\r\n\u202eabc\x1bc"
HOSTILE = f"""# {SESSION}
import os, sys
EVIL = {EVIL!r}

def answer(prompt, config):
    print(EVIL)
    print(EVIL, file=sys.stderr)
    open(os.path.join(config["output_directory"], "a" + EVIL.replace("/", "")), "w").close()
    if "beta" in prompt:
        raise ValueError(EVIL)
    return EVIL
"""
OURS = re.compile(
    r"\x1b\[(?:\d{1,3}(?:;\d{1,3}){0,4})?m"  # colours
    r"|\x1b\[\?25[hl]"  # the cursor, hidden and shown
    r"|\x1b\[\d*[AK]"  # up a line; to the end of the line
)
"""What rich itself sends."""


def on_a_terminal(shell: Shell, *arguments: str) -> tuple[int, str]:
    """The exit code and everything that a terminal was sent."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    with subprocess.Popen(
        [*shell.command, *arguments],
        cwd=shell.directory,
        env=shell.environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        sent = everything(ours)
        return process.wait(PATIENCE_SECONDS), sent.decode("utf-8", "surrogateescape")


def on_terminals(shell: Shell, *commands: tuple[str, ...]) -> list[tuple[int, str]]:
    """The same of several commands, two at once."""
    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(lambda command: on_a_terminal(shell, *command), commands))


def everything(descriptor: int) -> bytes:
    """All that is written there until nobody has it open any more."""
    sent = b""
    deadline = time.monotonic() + PATIENCE_SECONDS
    try:
        while select.select([descriptor], [], [], max(0, deadline - time.monotonic()))[0]:
            sent += os.read(descriptor, 65536)
    except OSError:  # EIO: the other side is closed
        pass
    finally:
        os.close(descriptor)
    return sent


def harmless(sent: str) -> str:
    """What is left without rich's own sequences; fails on anything else that is not plain text."""
    assert "\x1b[7;31m" not in sent
    plain = OURS.sub("", sent).replace("\r\n", "\n").replace("\r", "")
    assert [c for c in plain if not c.isprintable() and c != "\n"] == []
    return plain


@pytest.fixture
def hostile(shell: Shell) -> Shell:
    shell.write("hostile.py", HOSTILE)
    return shell


def test_a_run_and_all_that_shows_it(hostile: Shell) -> None:
    code, sent = on_a_terminal(hostile, "run", "hostile.py:answer", "--suite", SUITE, "-n", "2")
    assert code == 0, sent
    harmless(sent)
    assert "\x1b[?25l" in sent  # the live display was one
    [run] = hostile.runs
    for code, sent in on_terminals(
        hostile,
        ("runs", "list"),
        ("runs", "show", run.name),
        ("runs", "show", run.name, "alpha"),
        ("runs", "show", run.name, "beta"),
        ("trace", "show", run.name, "alpha"),
        ("trace", "show", run.name, "beta"),
    ):
        assert code == 0, sent
        harmless(sent)
    shown = hostile("runs", "show", run.name, "alpha").out
    assert "[bold red]red[/]" in shown
    assert r"\x1b]0;owned\x07" in shown
    data = hostile("runs", "show", run.name, "alpha", "--json").out
    assert data.isascii()
    assert "\x1b" not in data


@pytest.mark.slow
def test_names_that_a_user_gives(hostile: Shell) -> None:
    for code, sent in on_terminals(
        hostile,
        ("run", EVIL),
        ("run", "hostile.py:answer", "-t", EVIL),
        ("run", "hostile.py:answer", "-c", EVIL),
        ("run", "--image", EVIL),
        ("run", "hostile.py:answer", "--memory", EVIL),
        ("runs", "show", EVIL),
        ("suite", "show", EVIL),
        ("config", "show", EVIL),
        (EVIL,),
    ):
        assert code == 2, sent
        harmless(sent)


@pytest.mark.slow
def test_colours_are_a_choice(finished: Path, hostile: Shell) -> None:
    hostile.directory = finished
    coloured = re.compile(r"\x1b\[(?:\d+;)*3\d")
    assert coloured.search(on_a_terminal(hostile, "runs", "list")[1])
    hostile.environment["NO_COLOR"] = "1"
    assert not coloured.search(on_a_terminal(hostile, "runs", "list")[1])
