"""`make bench`: what an attempt costs, beside `docker run --rm` with the same limits in this run.

And what the queue, a worker, going on with a run and the model gateway cost, beside something
measured in this run, too. Every figure is measured here and now; only the ratios mean something on
another machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import attempts, gateway, queue, resume, startup, worker
from tests.bench.report import print_report

PARTS = ("attempts", "memory", "help", "queue", "worker", "resume", "gateway")


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured."""

    rounds: int = 30
    attempts: int = 200
    waiting: int = 10_000
    operations: int = 240
    processes: tuple[int, ...] = queue.PROCESSES
    jobs: int = 10_000
    runs: int = 300
    starts: int = 7
    worker_attempts: int = 20
    remote_attempts: int = 300
    worker_rounds: int = 3
    made: int = 10_000
    calls: int = 1000
    streams: int = 200
    gateway_rounds: int = 5
    remembered: int = 10_000


QUICK = Size(
    rounds=4,
    attempts=20,
    waiting=1000,
    operations=36,
    processes=(1, 4),
    jobs=300,
    runs=20,
    starts=2,
    worker_attempts=6,
    remote_attempts=50,
    worker_rounds=1,
    made=1000,
    calls=100,
    streams=20,
    gateway_rounds=2,
    remembered=500,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("bench.json"))
    parser.add_argument("--rounds", type=int, help="single attempts of each kind  [30]")
    parser.add_argument("--attempts", type=int, help="of the memory benchmark  [200]")
    parser.add_argument("--quick", action="store_true", help="less of everything: a first look")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; repeatable")
    options = parser.parse_args()
    size = QUICK if options.quick else Size()
    given = {name: getattr(options, name) for name in ("rounds", "attempts")}
    size = Size(**vars(size) | {name: value for name, value in given.items() if value})
    results = {"machine": platform.platform(), "quick": options.quick}
    for part in options.only or PARTS:
        print(f"measuring {part}", flush=True)
        results |= _measured(part, size)
    options.output.write_text(json.dumps(results, indent=2) + "\n")
    print_report(results)
    print(f"\nwritten to {options.output}")


def _measured(part: str, size: Size) -> dict[str, Any]:
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "attempts": lambda: asyncio.run(attempts.measure(size.rounds)),
        "memory": lambda: {"memory": startup.memory(size.attempts)},
        "help": lambda: {"help": startup.help_time()},
        "queue": lambda: {"queue": queue.measure(size.waiting, size.operations, size.processes)},
        "worker": lambda: {
            "worker_memory": worker.memory(size.jobs, size.runs),
            "worker_start": worker.start(size.starts),
            "worker_overhead": worker.overhead(
                size.worker_attempts, size.remote_attempts, size.worker_rounds
            ),
        },
        "resume": lambda: {"resume": resume.measure(size.made)},
        "gateway": lambda: {
            "gateway": gateway.measure(
                size.calls, size.streams, size.gateway_rounds, size.remembered
            )
        },
    }
    return parts[part]()


if __name__ == "__main__":
    main()
