"""`make bench`: what an attempt costs, beside `docker run --rm` with the same limits in this run.

Every figure is measured here and now; only the ratios mean something on another machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
from pathlib import Path

from tests.bench import attempts, startup
from tests.bench.report import print_report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("bench.json"))
    parser.add_argument("--rounds", type=int, default=30, help="single attempts of each kind")
    parser.add_argument("--attempts", type=int, default=200, help="of the memory benchmark")
    options = parser.parse_args()
    results = {
        "machine": platform.platform(),
        **asyncio.run(attempts.measure(options.rounds)),
        "memory": startup.memory(options.attempts),
        "help": startup.help_time(),
    }
    options.output.write_text(json.dumps(results, indent=2) + "\n")
    print_report(results)
    print(f"\nwritten to {options.output}")


if __name__ == "__main__":
    main()
