"""The benchmark's figures as a table for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

AIMS = {"latency": 0.75, "throughput": 1.6, "cpu_ms": 10.0, "rss_mib": 80.0, "help_ms": 150.0}
"""Of performance.md and the issue: ratios, milliseconds, MiB."""


def print_report(results: dict[str, Any]) -> None:
    """Prints all of it to stdout."""
    console = Console()
    console.print(_summary(results))
    console.print(_stages(results["latency"]))


def _summary(results: dict[str, Any]) -> Table:
    table = Table("measured", "ours", "docker run --rm", "ratio", "aim", title="benchmark")
    latency, memory = results["latency"], results["memory"]
    table.add_row(
        "one attempt, median",
        f"{latency['ours_ms']['median']:.0f} ms",
        f"{latency['docker_run_ms']['median']:.0f} ms",
        f"{latency['ratio']:.2f}",
        f"<= {AIMS['latency']}",
    )
    for row in results["throughput"]:
        aim = f">= {AIMS['throughput']}" if row["concurrency"] == 2 else ""
        table.add_row(
            f"attempts per second, {row['concurrency']} at once",
            f"{row['ours_per_second']:.2f}",
            f"{row['docker_run_per_second']:.2f}",
            f"{row['ratio']:.2f}",
            aim,
        )
    cpu = latency["runner_cpu_ms_beyond_engine_calls"]["median"]
    table.add_row("runner's CPU beyond engine calls", f"{cpu:.1f} ms", "", "", "<= 10 ms")
    calls = latency["runner_cpu_ms_in_engine_calls"]["median"]
    table.add_row("runner's CPU in engine calls", f"{calls:.1f} ms")
    for count, mib in memory["rss_mib"].items():
        table.add_row(f"runner's memory after {count} attempts", f"{mib:.1f} MiB")
    table.add_row("runner's peak memory", f"{memory['peak_rss_mib']:.1f} MiB", "", "", "< 80 MiB")
    shown = results["help"]
    table.add_row(
        "agenttrace --help", f"{shown['help_ms']:.0f} ms", "", "", f"< {AIMS['help_ms']:.0f} ms"
    )
    return table


def _stages(latency: dict[str, Any]) -> Table:
    table = Table("stage", "median ms", "share", title="where one attempt's time goes")
    total = latency["ours_ms"]["median"]
    for name, figures in latency["stages_ms"].items():
        table.add_row(name, f"{figures['median']:.1f}", f"{figures['median'] / total:.0%}")
    return table
