"""Another process that holds something until it is killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def another_process(program: str, directory: Path, said: str) -> Iterator[subprocess.Popen[str]]:
    """It runs `program` with `directory`, and has said the line `said`."""
    with subprocess.Popen(
        [sys.executable, "-c", program, directory],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == f"{said}\n"
        yield holder
        holder.kill()
