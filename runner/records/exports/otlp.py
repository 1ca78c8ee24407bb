"""The traces of a run as they were written: one OTLP-JSON `TracesData` a line."""

from __future__ import annotations

import json

from runner.errors import StorageFailed
from runner.records import layout
from runner.records.exports.chosen import Chosen, ExportedRun


def otlp_lines(run: ExportedRun) -> bytes:
    """Those of all chosen attempts; raises StorageFailed where one is missing or damaged."""
    return b"".join(map(_trace, run.attempts))


def _trace(chosen: Chosen) -> bytes:
    path = chosen.path / layout.TRACE
    try:
        lines = path.read_bytes().splitlines()
        return b"".join(_in_ascii(line) for line in lines if line.strip())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StorageFailed(f"cannot read {path}: {reason}") from error
    except (ValueError, RecursionError) as error:
        raise StorageFailed(f"{path} is damaged: it is not JSON") from error


def _in_ascii(line: bytes) -> bytes:
    """The same JSON without a character that acts on a terminal."""
    return json.dumps(json.loads(line), separators=(",", ":")).encode("ascii") + b"\n"
