"""Exports as files: one for what fits into one, else a file for each attempt."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

from runner.domain.base import Noun
from runner.records.durable import replace_surrogates
from runner.records.exports.atif import trajectory
from runner.records.exports.chosen import Choice, ExportedRun, choose
from runner.records.exports.inspect import inspect_log
from runner.records.exports.otlp import otlp_lines

_SURROGATE = "\\ud"
"""How an escape of one begins, whether alone or of a pair."""


class Format(StrEnum):
    """What a run can be exported to."""

    OTLP = "otlp"
    """OTLP-JSON, a line for each attempt."""
    ATIF = "atif"
    """A trajectory for each attempt."""
    INSPECT = "inspect"
    """One evaluation log (version 2, JSON) for all."""


class ExportedFile(Noun):
    """A file that was not written yet."""

    name: str
    data: bytes


def export_run(run: Path, to: Format, choice: Choice) -> Iterator[ExportedFile]:
    """The chosen attempts of a run; raises UsageError, StorageFailed."""
    chosen = choose(run, choice)
    match to:
        case Format.OTLP:
            yield ExportedFile(name=f"{run.name}.otlp.jsonl", data=otlp_lines(chosen))
        case Format.ATIF:
            yield from _trajectories(chosen)
        case Format.INSPECT:
            yield ExportedFile(name=f"{run.name}.json", data=_json(inspect_log(chosen)))


def _trajectories(run: ExportedRun) -> Iterator[ExportedFile]:
    for each in run.attempts:
        yield ExportedFile(name=f"{each.name}.atif.json", data=_json(trajectory(run, each)))


def _json(value: Any) -> bytes:
    """On one line, in ASCII, so that no character of it acts on a terminal. A lone surrogate, which
    readers refuse, becomes U+FFFD.
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    if _SURROGATE in text:
        whole = replace_surrogates(json.dumps(value, ensure_ascii=False))
        text = json.dumps(json.loads(whole), separators=(",", ":"))
    return text.encode("ascii") + b"\n"
