"""The runner's own memory over many attempts, and how fast the command line answers."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

HELP_ROUNDS = 15


def memory(attempts: int) -> dict[str, Any]:
    """Resident MiB of a fresh runner process after some of its attempts; also the peak."""
    with tempfile.TemporaryDirectory(prefix="agenttrace-bench-") as directory:
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.many", str(attempts), directory],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def help_time() -> dict[str, float]:
    """Milliseconds of `agenttrace --help`, beside those of a Python that does nothing."""
    nothing, ours = [], []
    for _ in range(HELP_ROUNDS):
        nothing.append(_run([sys.executable, "-c", "pass"]))
        ours.append(_run([sys.executable, "-m", "runner", "--help"]))
    bare, helped = statistics.median(nothing), statistics.median(ours)
    return {"help_ms": helped, "bare_python_ms": bare, "ratio": helped / bare}


def _run(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return 1000 * (time.perf_counter() - started)
