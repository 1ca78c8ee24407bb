"""What a person sees while a run goes on: a live display, plain lines, or nothing."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Protocol, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from runner.domain import EventKind, ExecutionStatus, FailureReason, RunEvent
from runner.reporting.console import console_for, inert, score_cell, task_cell
from runner.reporting.escape import escape, shorten

_FRAMES_PER_SECOND = 8
_TASKS_SHOWN = 8
_REASON_CHARACTERS = 120

Attempted = tuple[str, int]
"""A task and which repeat of it."""


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
        self._tally = Tally()
        self._lock = threading.Lock()

    def notify(self, event: RunEvent) -> None:
        """Writes the event's line."""
        with self._lock:
            self._tally.count(event)
            self._write(_line(event, self._tally))

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

    def __init__(self, console: Console) -> None:
        self._console = console
        self._tally = Tally()
        self._lock = threading.Lock()
        self._message = Text()
        self._last = Text()
        self._started = time.monotonic()
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
            self._tally.count(event)
            match event.kind:
                case EventKind.TASK_FINISHED:
                    self._last = _ended_line(event, self._console)
                case EventKind.TASK_RETRIED | EventKind.RUN_DRAINING:
                    self._message = inert(_line(event, self._tally), "yellow")
                case EventKind.RUN_STARTED:
                    self._message = Text()
                case _:
                    pass

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
        tally = self._tally
        grid = Table.grid(padding=(0, 1))
        elapsed = Text(_clock(time.monotonic() - self._started), style="dim")
        done = Text(f"{tally.ended}/{tally.total or '?'}")
        bar = ProgressBar(total=tally.total or None, completed=tally.ended, width=30)
        grid.add_row(self._spinner, bar, done, Text("tasks"), elapsed)
        return grid

    def _running(self) -> list[Table | Text]:
        now = time.monotonic()
        running = list(self._tally.running.items())
        rows: list[Table | Text] = [
            Text.assemble("  ", (_clock(now - since), "dim"), "  ", escape(_name(*attempted)))
            for attempted, since in running[:_TASKS_SHOWN]
        ]
        hidden = len(running) - _TASKS_SHOWN
        return [*rows, Text(f"  and {hidden} more", style="dim")] if hidden > 0 else rows


class Tally:
    """How far a run is, by its events; which may be missing, doubled or late."""

    def __init__(self) -> None:
        self.total = 0
        self.running: dict[Attempted, float] = {}
        self._ended: set[Attempted] = set()

    @property
    def ended(self) -> int:
        """Tasks that have ended, each repeat for itself."""
        return len(self._ended)

    def count(self, event: RunEvent) -> None:
        """Takes one event into account."""
        attempted = (event.task_id or "", event.repeat or 1)
        match event.kind:
            case EventKind.RUN_STARTED:
                total = event.data.get("total")
                self.total = total if isinstance(total, int) else 0
            case EventKind.TASK_STARTED:
                self.running[attempted] = time.monotonic()
            case EventKind.TASK_RETRIED:
                self.running.pop(attempted, None)
            case EventKind.TASK_FINISHED:
                self.running.pop(attempted, None)
                self._ended.add(attempted)
            case EventKind.RUN_FINISHED:
                self.running.clear()
            case EventKind.RUN_DRAINING:
                pass


# -- words ---------------------------------------------------------------------------------------


def _line(event: RunEvent, tally: Tally) -> str:
    name = _name(event.task_id or "", event.repeat or 1)
    match event.kind:
        case EventKind.RUN_STARTED:
            return f"run {event.run_id}: {tally.total or '?'} tasks"
        case EventKind.TASK_STARTED:
            return f"{name}: started"
        case EventKind.TASK_RETRIED:
            reason = shorten(str(event.data.get("reason", "")), _REASON_CHARACTERS)
            return f"{name}: tried again, for a reason of ours: {reason}"
        case EventKind.TASK_FINISHED:
            return f"[{tally.ended}/{tally.total or '?'}] {name}: {_verdict(event)}"
        case EventKind.RUN_DRAINING:
            return "stopping: what runs may finish; interrupt again to stop it now"
        case EventKind.RUN_FINISHED:
            return f"run {event.run_id}: {_word(event)}"


def _name(task_id: str, repeat: int) -> str:
    return f"{task_id} #{repeat}" if repeat > 1 else task_id


def _verdict(event: RunEvent) -> str:
    words = [_word(event)]
    score, seconds = _number(event, "score"), _number(event, "seconds")
    words += [f"score {score:.1f}"] if score is not None else []
    words += [f"{seconds:.2f} s"] if seconds is not None else []
    return ", ".join(words)


def _ended_line(event: RunEvent, console: Console) -> Text:
    status, seconds = _status(event), _number(event, "seconds")
    return Text.assemble(
        task_cell(status, _reason(event), _number(event, "score"), console)
        if status
        else Text(_word(event)),
        f"  {escape(_name(event.task_id or '', event.repeat or 1))}  ",
        score_cell(_number(event, "score")),
        "" if seconds is None else f"  {seconds:.2f} s",
    )


def _word(event: RunEvent) -> str:
    ending = _reason(event) or _status(event)
    return ending.value if ending else "ended"


def _status(event: RunEvent) -> ExecutionStatus | None:
    given = event.data.get("status")
    return ExecutionStatus(given) if given in tuple(ExecutionStatus) else None


def _reason(event: RunEvent) -> FailureReason | None:
    given = event.data.get("failure_reason")
    return FailureReason(given) if given in tuple(FailureReason) else None


def _number(event: RunEvent, name: str) -> float | None:
    given = event.data.get(name)
    return float(given) if isinstance(given, int | float) else None


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
