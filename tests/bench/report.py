"""The benchmark's figures as a table for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

AIMS = {
    "latency": 0.75,
    "throughput": 1.6,
    "cpu_ms": 10.0,
    "rss_mib": 80.0,
    "help_ms": 150.0,
    "queue_ms": 5.0,
    "resume_seconds": 2.0,
    "gateway_added_ms": 2.0,
}
"""Of performance.md and the issues: ratios, milliseconds, MiB, seconds."""


def print_report(results: dict[str, Any]) -> None:
    """Prints all that was measured to stdout."""
    console = Console()
    if {"latency", "memory", "help"} & set(results):
        console.print(_summary(results))
    if "latency" in results:
        console.print(_stages(results["latency"]))
    if "queue" in results:
        console.print(_queue(results["queue"]))
    if "worker_memory" in results:
        console.print(_worker(results))
    if "resume" in results:
        console.print(_resume(results["resume"]))
    if "gateway" in results:
        console.print(_gateway(results["gateway"]))


def _summary(results: dict[str, Any]) -> Table:
    table = Table("measured", "ours", "docker run --rm", "ratio", "aim", title="benchmark")
    if "latency" in results:
        _add_attempts(table, results)
    if "memory" in results:
        _add_memory(table, results["memory"])
    if "help" in results:
        shown, aim = results["help"]["help_ms"], f"< {AIMS['help_ms']:.0f} ms"
        table.add_row("agenttrace --help", f"{shown:.0f} ms", "", "", aim)
    return table


def _add_attempts(table: Table, results: dict[str, Any]) -> None:
    latency = results["latency"]
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


def _add_memory(table: Table, memory: dict[str, Any]) -> None:
    for count, mib in memory["rss_mib"].items():
        table.add_row(f"runner's memory after {count} attempts", f"{mib:.1f} MiB")
    table.add_row("runner's peak memory", f"{memory['peak_rss_mib']:.1f} MiB", "", "", "< 80 MiB")


def _stages(latency: dict[str, Any]) -> Table:
    table = Table("stage", "median ms", "share", title="where one attempt's time goes")
    total = latency["ours_ms"]["median"]
    for name, figures in latency["stages_ms"].items():
        table.add_row(name, f"{figures['median']:.1f}", f"{figures['median'] / total:.0%}")
    return table


def _queue(queue: dict[str, Any]) -> Table:
    title = f"the queue, {queue['waiting']} waiting: median (p99) in ms; aim: claim, finish < 5 ms"
    heads = ("submit", "claim", "finish", "bare insert", "claim ratio", "our CPU", "ops/s")
    table = Table("database", "processes", *heads, "inserts/s", title=title)
    for kind in ("sqlite", "postgresql"):
        for row in queue[kind]:
            timed = ("submit_ms", "claim_ms", "finish_ms", "insert_ms")
            table.add_row(
                kind,
                str(row["processes"]),
                *(f"{row[name]['median']:.1f} ({row[name]['p99']:.0f})" for name in timed),
                f"{row['claim_ratio']:.1f}",
                f"{row['cpu_ms']['median']:.1f}",
                f"{row['operations_per_second']:.0f}",
                f"{row['inserts_per_second']:.0f}",
            )
    return table


def _worker(results: dict[str, Any]) -> Table:
    table = Table("measured", "worker", "beside", "ratio", title="a worker")
    for kind, name in (("queue", "jobs that end at once"), ("whole", "runs of one task")):
        for count, mib in results["worker_memory"][kind]["rss_mib"].items():
            table.add_row(f"memory after {count} {name}", f"{mib:.1f} MiB")
    start = results["worker_start"]
    table.add_row(
        "submitted to first task",
        f"{start['first_task_ms']:.0f} ms",
        f"poll every {start['poll_ms']:.0f} ms",
        f"{start['first_task_ms'] / start['poll_ms']:.2f}",
    )
    table.add_row("  of it until claimed", f"{start['claimed_ms']:.0f} ms")
    table.add_row("  of it until planned", f"{start['planned_ms']:.0f} ms")
    for kind, row in results["worker_overhead"].items():
        for name, what in (("ms", "an attempt"), ("cpu_ms", "our CPU of an attempt")):
            worker, run = row[f"worker_{name}"], row[f"run_{name}"]
            beside = f"agenttrace run: {run:.1f} ms"
            table.add_row(f"{what}, {kind}", f"{worker:.1f} ms", beside, f"{worker / run:.2f}")
    return table


def _resume(resume: dict[str, Any]) -> Table:
    title = f"going on with a run of {resume['attempts']} attempts; aim: first one < 2 s"
    table = Table("measured", "seconds", "peak memory", title=title)
    judged = resume["judged"]
    table.add_row("what has a verdict, read", f"{judged['seconds']:.2f}", _mib(judged))
    for side in ("alone", "worker"):
        row = resume[side]
        to_first, to_end = row["to_first_attempt_seconds"], row["to_the_end_seconds"]
        table.add_row(f"{side}: to the first new attempt", f"{to_first:.2f}")
        table.add_row(f"{side}: from the last attempt to the end", f"{to_end:.2f}", _mib(row))
    listed = resume["list"]
    table.add_row(f"a list of {listed['runs']} runs with 50 tasks each", f"{listed['seconds']:.2f}")
    return table


def _gateway(gateway: dict[str, Any]) -> Table:
    table = Table("measured", "by the gateway", "directly", "ratio", "aim", title="model calls")
    _add_round_trips(table, gateway["round_trip"])
    streams = gateway["streams"]
    table.add_row(
        f"{streams['streams']} parallel streams, {streams['failed']} failed",
        f"{streams['gateway_seconds']:.2f} s",
        f"{streams['direct_seconds']:.2f} s",
        f"{streams['ratio']:.1f}",
        "none failed",
    )
    for name in ("answer", "request"):
        row = gateway[name]
        ours, direct = row["gateway_mb_per_second"], row["direct_mb_per_second"]
        what = f"a large {name}, {row['bytes'] / 1e6:.0f} MB"
        table.add_row(what, f"{ours:.0f} MB/s", f"{direct:.0f} MB/s", f"{row['ratio']:.2f}")
    memory = gateway["memory"]
    for count, mib in memory["rss_mib"].items():
        table.add_row(f"runner's memory after {count} calls", f"{mib:.1f} MiB")
    table.add_row("runner's peak memory", f"{memory['peak_rss_mib']:.1f} MiB")
    return table


def _add_round_trips(table: Table, trips: dict[str, Any]) -> None:
    direct = trips["direct_ms"]
    for name, what in (("gateway", "a small call"), ("scripted", "agenttrace/scripted")):
        for kind in ("median", "p99"):
            ours = trips[f"{name}_ms"][kind]
            shown = (f"{ours:.2f} ms", f"{direct[kind]:.2f} ms", f"{ours / direct[kind]:.1f}")
            table.add_row(f"{what}, {kind}", *shown)
    added, aim = trips["added_ms"]["median"], f"<= {AIMS['gateway_added_ms']:.0f} ms"
    table.add_row("  added by the gateway, median", f"{added:.2f} ms", "", "", aim)
    table.add_row("  of our CPU: the runner's", f"{trips['runner_cpu_ms']:.2f} ms")
    table.add_row("  of our CPU: the shim's", f"{trips['shim_cpu_ms']:.2f} ms")


def _mib(row: dict[str, Any]) -> str:
    return f"{row['peak_rss_mib']:.0f} MiB"
