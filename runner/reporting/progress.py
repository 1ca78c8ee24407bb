"""What a person sees while a run goes on: a live display, plain lines, or nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from runner.domain import EventKind, RunEvent
from runner.domain.progress import ProgressFold, attempted, name_of, task_end
from runner.reporting.console import console_for, inert, score_cell, task_cell
from runner.reporting.escape import escape, shorten

_FRAMES_PER_SECOND = 8
_TASKS_SHOWN = 8
_SAID_BELOW = frozenset(
    {
        EventKind.SUBMITTED,
        EventKind.CLAIMED,
        EventKind.RUN_RESUMED,
        EventKind.RUN_POSTPONED,
        EventKind.TASK_RETRIED,
        EventKind.RUN_DRAINING,
    }
)
"""What the bar and the list of tasks do not say themselves."""


class Progress(Protocol):
    """A display of one run; a context manager, and a receiver of the run's events."""

    def __enter__(self) -> Progress:
        """Starts the display."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends it and leaves the terminal as it was."""
        ...

    def notify(self, event: RunEvent) -> None:
        """Shows an event; from any thread, without waiting, and without raising."""
        ...

    def say(self, line: str) -> None:
        """Shows a line of ours, such as a step of a build."""
        ...


def progress_for(stream: TextIO, *, quiet: bool = False) -> Progress:
    """Live on a terminal that can move its cursor, plain lines elsewhere, nothing when quiet."""
    if quiet:
        return QuietProgress()
    console = console_for(stream)
    if console.is_terminal and not console.is_dumb_terminal:
        return LiveProgress(console)
    return PlainProgress(stream)


class QuietProgress:
    """Nothing at all."""

    def __enter__(self) -> QuietProgress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    def notify(self, event: RunEvent) -> None:
        """Shows nothing."""

    def say(self, line: str) -> None:
        """Shows nothing."""


class PlainProgress(QuietProgress):
    """One line an event, without control characters: for logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._fold = ProgressFold()
        self._lock = threading.Lock()

    def notify(self, event: RunEvent) -> None:
        """Writes the event's line."""
        with self._lock:
            self._fold.add(event)
            self._write(self._fold.message)

    def say(self, line: str) -> None:
        """Writes the line."""
        with self._lock:
            self._write(line)

    def _write(self, line: str) -> None:
        try:
            self._stream.write(escape(line) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return  # nobody reads any more: no reason to stop a run


class LiveProgress(QuietProgress):
    """A bar, the tasks that run and for how long, and what has ended last."""

    def __init__(
        self, console: Console, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._console = console
        self._clock = clock
        self._fold = ProgressFold()
        self._lock = threading.Lock()
        self._message = Text()
        self._last = Text()
        self._opened = clock()
        self._spinner = Spinner("line" if console.options.ascii_only else "dots", style="cyan")
        self._live = Live(
            console=console,
            get_renderable=self._render,
            refresh_per_second=_FRAMES_PER_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> LiveProgress:
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.__exit__(kind, error, traceback)

    def notify(self, event: RunEvent) -> None:
        """Takes the event up; the next frame shows it."""
        with self._lock:
            self._fold.add(event)
            if event.kind is EventKind.TASK_FINISHED:
                self._last = _ended_line(event, self._console)
            elif event.kind is EventKind.RUN_STARTED:
                self._message = Text()
            elif event.kind in _SAID_BELOW:
                self._message = inert(self._fold.message, "yellow")

    def say(self, line: str) -> None:
        """Shows the line in place of the last one said."""
        with self._lock:
            self._message = inert(shorten(line, 300), "dim")

    def _render(self) -> Group:
        with self._lock:
            parts = [self._bar(), *self._running()]
            parts += [line for line in (self._last, self._message) if line]
            return Group(*parts)

    def _bar(self) -> Table:
        fold, grid = self._fold, Table.grid(padding=(0, 1))
        done = Text(f"{fold.ended}/{fold.announced or '?'}")
        bar = ProgressBar(total=fold.announced or None, completed=fold.ended, width=30)
        grid.add_row(self._spinner, bar, done, Text("tasks"), Text(self._times(), style="dim"))
        return grid

    def _times(self) -> str:
        now = self._clock()
        end = self._fold.estimate(now)
        elapsed = clock_cell((now - self._begun()).total_seconds())
        return (
            f"{elapsed}, about {clock_cell((end - now).total_seconds())} left" if end else elapsed
        )

    def _begun(self) -> datetime:
        """Of the run, or of the display where that began before: images are built first."""
        return min(self._opened, self._fold.started_at or self._opened)

    def _running(self) -> list[Table | Text]:
        now = self._clock()
        running = list(self._fold.running.items())
        rows: list[Table | Text] = [
            Text.assemble("  ", (_since(since, now), "dim"), "  ", escape(name_of(which)))
            for which, since in running[:_TASKS_SHOWN]
        ]
        hidden = len(running) - _TASKS_SHOWN
        return [*rows, Text(f"  and {hidden} more", style="dim")] if hidden > 0 else rows


# -- words ---------------------------------------------------------------------------------------


def _ended_line(event: RunEvent, console: Console) -> Text:
    end = task_end(event)
    return Text.assemble(
        task_cell(end.status, end.reason, end.score, console) if end.status else Text(end.word),
        f"  {escape(name_of(attempted(event)))}  ",
        score_cell(end.score),
        "" if end.seconds is None else f"  {end.seconds:.2f} s",
    )


def _since(since: datetime, now: datetime) -> str:
    return clock_cell((now - since).total_seconds())


def clock_cell(seconds: float) -> str:
    """`1:05`, `2:00:00`."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
