"""Follows a run from another process: its event log, as it grows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import ValidationError

from runner.domain.run import EventKind, RunEvent
from runner.errors import InfrastructureError
from runner.records import layout
from runner.records.archive import is_running

_READ_BYTES = 1 << 20
_LONGEST_LINE_BYTES = 1 << 20
_QUIET_POLLS = 2
"""Before a run counts as abandoned: one that is just beginning has its log, and no lock on it."""


def _nobody() -> bool:
    return False


def follow(
    run_directory: Path, poll_seconds: float = 0.5, awaited: Callable[[], bool] = _nobody
) -> Iterator[RunEvent | None]:
    """The run's events from the first on, each as it comes; None whenever there is nothing new.

    Ends when the run has ended. `awaited` says whether somebody will yet begin the run or go on
    with it: it is waited for then, also where there is no directory yet, or an ending that will not
    be the last. Raises InfrastructureError when the runner is gone and the run has not ended.
    """
    log = _GrowingLog(run_directory / layout.EVENTS)
    ended, quiet = False, 0
    while True:
        for event in log.new_events():
            ended, quiet = event.kind is EventKind.RUN_FINISHED, 0
            yield event
        wanted = awaited()
        if ended and not wanted:
            return
        yield None
        # In this order, for a look at the lock is a short lock itself: it is only taken of a run
        # that nobody is expected to take up at this moment.
        quiet = 0 if wanted or is_running(run_directory) else quiet + 1
        if quiet > _QUIET_POLLS:
            raise _abandoned(run_directory)
        time.sleep(poll_seconds)


def _abandoned(run_directory: Path) -> InfrastructureError:
    run = run_directory.name
    return InfrastructureError(
        f"the runner of run {run} ended before the run did",
        remedy=f"`agenttrace resume {run}` goes on with it",
    )


class _GrowingLog:
    """A file of events that another process appends to; it may not be there yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""
        """The beginning of a line whose end is not written yet."""

    def new_events(self) -> Iterator[RunEvent]:
        """Those since the last call; what is no event, such as a torn line, is passed over."""
        for line in self._new_lines():
            try:
                yield RunEvent.model_validate_json(line)
            except ValidationError:
                continue

    def _new_lines(self) -> Iterator[bytes]:
        while read := self._read():
            *lines, self._rest = (self._rest + read).split(b"\n")
            yield from lines
            if len(self._rest) > _LONGEST_LINE_BYTES:
                self._rest = b""

    def _read(self) -> bytes:
        """Opened each time: a reader that holds no file cannot keep a removed one from going."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                read = file.read(_READ_BYTES)
        except OSError:
            return b""
        self._offset += len(read)
        return read
