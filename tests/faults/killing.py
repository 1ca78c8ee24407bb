"""Runs `agenttrace` and kills it with SIGKILL at one exact point.

    python -m tests.faults.killing POINT[:N] -- run DIR ...

It dies the N-th time (default: the first) that it comes to that point of POINTS. The runner itself
knows nothing of this: the function that lies before or after the point is replaced.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

POINTS = {
    "before the directory": "before runner.records.run_directory:RunDirectory.begin",
    "in the directory, without a lock": "before runner.records.run_directory:_lock",
    "with the directory": "after runner.records.run_directory:RunDirectory.begin",
    "before an attempt's number": "before runner.records.run_directory:RunDirectory.begin_attempt",
    "after an attempt's number": "after runner.records.run_directory:RunDirectory.begin_attempt",
    "with a name, without a container": "after runner.sandbox.journal:Journal.new_name",
    "between create and start": "after runner.sandbox.session:DockerSandbox._create",
    "after start": "after runner.sandbox.session:DockerSandbox._start",
    "before asking": "before runner.transport.conversation:ShimConversation.ask",
    "while asking": "after runner.transport.conversation:ShimConversation._start",
    "before measuring": "before runner.sandbox.session:ContainerSession.measure",
    "after measuring": "after runner.sandbox.session:ContainerSession.measure",
    "before removing": "before runner.sandbox.session:DockerSandbox._remove",
    "after removing": "after runner.sandbox.session:DockerSandbox._remove",
    "before keeping": "before runner.records.run_directory:RunDirectory.keep",
    "kept half": "after runner.records.run_directory:trace_lines",
    "before the rename": "after runner.records.run_directory:_write_attempt",
    "after the rename": "after runner.records.run_directory:RunDirectory._keep",
    "before the event": "before runner.evaluation.executor:Executor._tell_finished",
    "after the event": "after runner.evaluation.executor:Executor._tell_finished",
    "before the result": "before runner.records.run_directory:RunDirectory.finish",
    "before the result's rename": "after runner.records.durable:write_synced",
    "after the result": "after runner.records.run_directory:RunDirectory.finish",
    "after the last event": "after runner.evaluation.executor:Executor.finish",
}
"""Where it may die, and how that point is found: before or after one function."""


def die() -> None:
    """As the kernel's out-of-memory killer, or a power switch, ends a process."""
    os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()  # the signal is on its way


class Fuse:
    """Dies when it is struck for the last time."""

    def __init__(self, strikes: int) -> None:
        self._left = strikes
        self._striking = threading.Lock()

    def strike(self) -> None:
        """Once, from any thread."""
        with self._striking:
            self._left -= 1
            if not self._left:
                die()


def before(function: Callable[..., Any], fuse: Fuse) -> Callable[..., Any]:
    """`function`, which strikes the fuse first."""

    @functools.wraps(function)
    def struck(*arguments: Any, **named: Any) -> Any:
        fuse.strike()
        return function(*arguments, **named)

    return struck


def after(function: Callable[..., Any], fuse: Fuse) -> Callable[..., Any]:
    """`function`, which strikes the fuse when it has ended well."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def struck_at_last(*arguments: Any, **named: Any) -> Any:
            value = await function(*arguments, **named)
            fuse.strike()
            return value

        return struck_at_last

    @functools.wraps(function)
    def struck(*arguments: Any, **named: Any) -> Any:
        value = function(*arguments, **named)
        fuse.strike()
        return value

    return struck


def plant(point: str, strikes: int) -> None:
    """Replaces the function of that point; fails where there is none any more."""
    when, _, where = POINTS[point].partition(" ")
    module, _, path = where.partition(":")
    owner: Any = importlib.import_module(module)
    *classes, name = path.split(".")
    for each in classes:
        owner = getattr(owner, each)
    wrap = {"before": before, "after": after}[when]
    setattr(owner, name, wrap(getattr(owner, name), Fuse(strikes)))


def main() -> int:
    """Plants the fuse and goes on as the command line does."""
    point, separator, *arguments = sys.argv[1:]
    assert separator == "--", __doc__
    name, _, strikes = point.partition(":")
    plant(name, int(strikes or 1))
    from runner.cli import main as agenttrace

    return agenttrace(arguments)


if __name__ == "__main__":
    sys.exit(main())
