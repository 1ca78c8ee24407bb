"""A runner process that makes many attempts and reports its own memory; see `startup.memory`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from runner import bootstrap
from runner.config import load_settings
from runner.domain import EventKind, RunEvent
from tests.bench.attempts import in_use, peak

TASKS = 10
LOOKED_AT = (0.1, 0.25, 0.5, 0.75, 1.0)


def main(attempts: int, directory: Path) -> None:
    _write_submission(directory)
    settings = load_settings(
        {"storage.runs_dir": str(directory / "runs"), "run.min_free_disk_bytes": 0},
        cwd=directory,
        environ=dict(os.environ) | {"XDG_CONFIG_HOME": str(directory)},
    ).settings
    repeats = attempts // TASKS
    wanted = {int(share * repeats * TASKS) for share in LOOKED_AT}
    finished, seen = 0, {}

    def watch(event: RunEvent) -> None:
        nonlocal finished
        if event.kind is EventKind.TASK_FINISHED:
            finished += 1
            if finished in wanted:
                seen[finished] = in_use() / 2**20

    request = bootstrap.RunRequest(
        target=f"{directory}/agent.py:answer", limit=TASKS, repeats=repeats, parallelism=2
    )
    bootstrap.run(settings, request, observers=[watch])
    json.dump({"attempts": finished, "rss_mib": seen, "peak_rss_mib": peak()}, sys.stdout)


def _write_submission(directory: Path) -> None:
    (directory / "agent.py").write_text("def answer(prompt, config):\n    return 'none'\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
