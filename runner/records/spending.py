"""What each run has spent on models: a line for each call, in `spending.jsonl`."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from runner.domain.cost import SpendingBy, SpendingGroup, SpendingReport, SpendingTotals
from runner.domain.gateway import Spending
from runner.errors import StorageFailed
from runner.records import layout
from runner.records.archive import load_run_submission
from runner.records.attempts import directories
from runner.records.durable import model_bytes, storing

LONGEST_LINE_BYTES = 1 << 16
NOBODY = "(not named)"
"""Who has handed in a submission that does not say so."""


# -- writing -------------------------------------------------------------------------------------


class SpendingJournal:
    """Appends to a run's `spending.jsonl`, which the first call makes; for one thread.

    A line is written by one call of the system: readers and a runner that is killed see it whole or
    not at all, or as a last line without an end, which the next journal ends.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def append(self, spending: Spending) -> None:
        """Notes one call; raises StorageFailed."""
        with storing(self._path):
            line = model_bytes(spending) + b"\n"
            written = os.write(self._opened(), line)
            if written < len(line):  # the disk is full: what comes next begins a line of its own
                self.close()
                raise StorageFailed(
                    f"cannot write {self._path}: the disk is full",
                    remedy="free some space, or choose another place with --output",
                )

    def close(self) -> None:
        """May be repeated; a further `append` opens it again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _opened(self) -> int:
        if self._file is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._file = os.open(self._path, flags, 0o644)
            _end_torn_line(self._file)
        return self._file


def _end_torn_line(file: int) -> None:
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        os.write(file, b"\n")


# -- reading -------------------------------------------------------------------------------------


class SpendingLines(Iterator[Spending]):
    """The lines of one file; a last line without an end is one that is being written."""

    def __init__(self, path: Path) -> None:
        self.damaged = 0
        """How many of those read so far were no spending."""
        self._spendings = self._read(path)

    def __next__(self) -> Spending:
        """The next one that can be read."""
        return next(self._spendings)

    def _read(self, path: Path) -> Iterator[Spending]:
        with suppress(OSError), path.open("rb") as file:
            for line in _whole_lines(file):
                spending = _parsed(line)
                if spending:
                    yield spending
                elif line.strip():
                    self.damaged += 1


def load_spending(path: Path) -> SpendingLines:
    """What a `spending.jsonl` holds, one call at a time; nothing where there is no such file.

    Damaged lines are skipped and counted in `damaged`.
    """
    return SpendingLines(path)


def totals(spendings: Iterable[Spending]) -> SpendingTotals:
    """Their sums. A call that a cache answered cost nothing."""
    sums = _Sums()
    for spending in spendings:
        sums.add(spending)
    return sums.totals()


def _whole_lines(file: BinaryIO) -> Iterator[bytes]:
    """With their ends; of one that is too long, the pieces, none of which is a spending."""
    while line := file.readline(LONGEST_LINE_BYTES):
        if line.endswith(b"\n") or len(line) == LONGEST_LINE_BYTES:
            yield line


def _parsed(line: bytes) -> Spending | None:
    try:
        spending = Spending.model_validate_json(line)
        moment_of(spending)
    except (ValidationError, ValueError, OverflowError):
        return None
    cost = spending.cost_usd
    sound = spending.tokens_input >= 0 and spending.tokens_output >= 0
    return spending if sound and (cost is None or (math.isfinite(cost) and cost >= 0)) else None


def moment_of(spending: Spending) -> datetime:
    """When it was spent; raises ValueError for what is no time."""
    moment = datetime.fromisoformat(spending.at)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


class _Sums:
    """Adds up calls; the money at the end, so that no cent is lost on the way."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(SpendingTotals.model_fields, 0)
        self._costs: list[float] = []

    def add(self, spending: Spending) -> None:
        counts, tokens = self._counts, spending.tokens_input + spending.tokens_output
        counts["calls"] += 1
        counts["tokens_input"] += spending.tokens_input
        counts["tokens_output"] += spending.tokens_output
        if spending.cached:
            counts["cached_calls"] += 1
            counts["tokens_cached"] += tokens
        elif spending.cost_usd is None:
            counts["unknown_cost_calls"] += 1
        else:
            self._costs.append(spending.cost_usd)

    def totals(self) -> SpendingTotals:
        return SpendingTotals(**self._counts | {"cost_usd": math.fsum(self._costs)})


# -- all runs ------------------------------------------------------------------------------------


def spending_report(root: Path, by: SpendingBy, since: date | None = None) -> SpendingReport:
    """What all runs below `root` have spent, those under way and of the queue included."""
    groups = _Groups()
    runs = damaged = 0
    for run in directories(root):
        if not layout.is_safe_name(run.name):
            continue
        lines = load_spending(run / layout.SPENDING)
        spent = [each for each in lines if since is None or moment_of(each).date() >= since]
        damaged += lines.damaged
        runs += bool(spent)
        groups.add(run, by, spent)
    return SpendingReport(
        by=by,
        since=since,
        groups=groups.lines(),
        total=groups.total(),
        runs=runs,
        damaged_lines=damaged,
    )


class _Groups:
    """Sums by name, and which runs are in each."""

    def __init__(self) -> None:
        self._sums: dict[str, _Sums] = {}
        self._runs: dict[str, set[str]] = {}
        self._all = _Sums()

    def add(self, run: Path, by: SpendingBy, spent: list[Spending]) -> None:
        submitter = _submitter_of(run) if spent and by is SpendingBy.SUBMITTER else NOBODY
        for each in spent:
            name = _name_of(each, by, run.name, submitter)
            self._sums.setdefault(name, _Sums()).add(each)
            self._runs.setdefault(name, set()).add(run.name)
            self._all.add(each)

    def lines(self) -> tuple[SpendingGroup, ...]:
        return tuple(
            SpendingGroup(name=name, runs=len(self._runs[name]), totals=sums.totals())
            for name, sums in sorted(self._sums.items())
        )

    def total(self) -> SpendingTotals:
        return self._all.totals()


def _name_of(spending: Spending, by: SpendingBy, run_id: str, submitter: str) -> str:
    match by:
        case SpendingBy.MODEL:
            return f"{spending.upstream}/{spending.model}"
        case SpendingBy.SUBMITTER:
            return submitter
        case SpendingBy.RUN:
            return run_id
        case SpendingBy.DAY:
            return moment_of(spending).date().isoformat()


def _submitter_of(run: Path) -> str:
    try:
        return load_run_submission(run).submitted_by or NOBODY
    except StorageFailed:
        return NOBODY
