"""Model calls from inside a container through the gateway, beside the same calls made directly.

Both go to one provider in this process (`model_server`), from the same code (`caller`), in turns.
The runner is `agenttrace run`, as it is: it records, counts and settles, and is looked at from
outside.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench import caller
from tests.bench.attempts import in_use, peak
from tests.bench.model_server import LARGE_BYTES, Side, model_server

SCRIPTED = "agenttrace/scripted"
SMALL = {"model": "bench/small"}
LOOKED_AT = (0.1, 0.5, 1.0)
ATTEMPT_CALLS = 1000
"""As many as an attempt may make by default."""
BATCH = 50
REQUEST_BYTES = 7_500_000
"""Of a large request: a little less than the gateway takes by default."""

SUITE = 'format = 1\nname = "one"\nversion = "1.0.0"\n'
TASK = (
    '[[task]]\ntask_id = "one"\nname = "one"\nprompt = "Call."\n'
    'limits.time_seconds = 7200\n[[task.criteria]]\nscorer = "exact"\nexpected = "none"\n'
)
SETTINGS = """
[limits]
model_calls = 1000000
[gateway]
models = ["agenttrace/*", "bench/*"]
[gateway.upstreams.bench]
api = "openai"
base_url = "{url}"
"""


@dataclass(frozen=True, kw_only=True)
class Clients:
    """The two sides, and the process of the runner between one of them and the provider."""

    gateway: Side = field(default_factory=Side)
    direct: Side = field(default_factory=Side)
    runner: int


def measure(calls: int, streams: int, rounds: int, remembered: int) -> dict[str, Any]:
    """Milliseconds, ratios, megabytes a second, and resident MiB after some of so many calls."""
    return asyncio.run(_measure(calls, streams, rounds, remembered))


async def _measure(calls: int, streams: int, rounds: int, remembered: int) -> dict[str, Any]:
    async with _clients() as clients:
        for side in (clients.direct, clients.gateway):  # connections are made, modules loaded
            await side.do(**SMALL, times=5)
            await side.do(model="bench/stream", at_once=2)
        await clients.gateway.do(model=SCRIPTED, times=5)
        found = {
            "round_trip": await _round_trips(clients, calls),
            "streams": await _streams(clients, streams, rounds),
            "answer": await _large(clients, rounds, LARGE_BYTES, model="bench/large"),
            "request": await _large(clients, rounds, REQUEST_BYTES, request_bytes=REQUEST_BYTES),
        }
    attempts = max(remembered // ATTEMPT_CALLS, 1)
    async with _clients(attempts) as clients:
        return found | {"memory": await _memory(clients, remembered // attempts, attempts)}


async def _round_trips(clients: Clients, calls: int) -> dict[str, Any]:
    """Batches of the three kinds, alternating, so that noise meets all of them."""
    kinds = {
        "direct": (clients.direct, "bench/small"),
        "gateway": (clients.gateway, "bench/small"),
        "scripted": (clients.gateway, SCRIPTED),
    }
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    cpu, shim = 0.0, 0.0
    batches = max(calls // BATCH, 1)
    for _ in range(batches):
        for name, (side, model) in kinds.items():
            before = _cpu_seconds(clients.runner)
            told = await side.do(model=model, times=BATCH)
            seconds[name] += told["seconds"]
            if name == "gateway":
                cpu += _cpu_seconds(clients.runner) - before
                shim += told["cpu_of_others"]
    made = batches * BATCH
    figures = {name: _milliseconds(each) for name, each in seconds.items()}
    direct = figures["direct"]
    return {
        "calls": made,
        **{f"{name}_ms": each for name, each in figures.items()},
        "added_ms": {name: figures["gateway"][name] - direct[name] for name in direct},
        "scripted_added_ms": {name: figures["scripted"][name] - direct[name] for name in direct},
        "runner_cpu_ms": 1000 * cpu / made,
        "shim_cpu_ms": 1000 * shim / made,
    }


async def _streams(clients: Clients, count: int, rounds: int) -> dict[str, Any]:
    """Seconds until all of so many parallel streams have come."""
    job = {"model": "bench/stream", "at_once": count}
    told = await _in_turns(clients, rounds, job)
    direct, gateway = (_median(told[side]) for side in ("direct", "gateway"))
    return {
        "streams": count,
        "failed": sum(one["failed"] for one in [*told["gateway"], *told["direct"]]),
        "direct_seconds": direct,
        "gateway_seconds": gateway,
        "ratio": gateway / direct,
    }


async def _large(
    clients: Clients, rounds: int, size: int, model: str = "bench/small", **more: int
) -> dict[str, Any]:
    told = await _in_turns(clients, rounds, {"model": model, **more})
    direct, gateway = (size / 1e6 / _median(told[side]) for side in ("direct", "gateway"))
    return {
        "bytes": size,
        "direct_mb_per_second": direct,
        "gateway_mb_per_second": gateway,
        "ratio": gateway / direct,
    }


async def _in_turns(
    clients: Clients, rounds: int, job: Mapping[str, Any]
) -> dict[str, list[dict[str, Any]]]:
    told: dict[str, list[dict[str, Any]]] = {"direct": [], "gateway": []}
    for _ in range(rounds):
        told["direct"].append(await clients.direct.do(**job))
        told["gateway"].append(await clients.gateway.do(**job))
    return told


async def _memory(clients: Clients, calls: int, attempts: int) -> dict[str, Any]:
    """Of a runner whose attempts each make so many small calls and nothing else."""
    rss_mib = {}
    for number in range(1, attempts + 1):
        await clients.gateway.do(**SMALL, times=calls)
        if number in {max(int(share * attempts), 1) for share in LOOKED_AT}:
            rss_mib[number * calls] = in_use(clients.runner) / 2**20
        if number < attempts:
            clients.gateway.end()
    return {"attempts": attempts, "rss_mib": rss_mib, "peak_rss_mib": peak(clients.runner)}


# -- the processes --------------------------------------------------------------------------------


@asynccontextmanager
async def _clients(attempts: int = 1) -> AsyncIterator[Clients]:
    """Both at work, until they are told to end; the gateway's in so many attempts."""
    sides = {"gateway": Side(), "direct": Side()}
    with tempfile.TemporaryDirectory(prefix="agenttrace-bench-") as directory:
        async with model_server(sides) as url:
            _write(Path(directory), url)
            runner = await _process(Path(directory), _run_command(attempts), {})
            given = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "none"}
            direct = await _process(Path(directory), ["agent.py", "direct"], given)
            try:
                async with asyncio.TaskGroup() as group:
                    watching = [group.create_task(_watch(one)) for one in (runner, direct)]
                    yield Clients(**sides, runner=runner.pid)
                    for task in watching:
                        task.cancel()
                for side in sides.values():
                    side.end()
            except BaseException:
                for process in (runner, direct):
                    if process.returncode is None:
                        process.terminate()
                raise
            finally:
                await asyncio.gather(runner.wait(), direct.wait())


def _write(directory: Path, url: str) -> None:
    suite = directory / "suite"
    suite.mkdir()
    (suite / "suite.toml").write_text(SUITE)
    (suite / "reasoning.toml").write_text(TASK)
    (directory / "agent.py").write_text(Path(caller.__file__).read_text())
    (directory / "agenttrace.toml").write_text(SETTINGS.format(url=url))


def _run_command(attempts: int) -> list[str]:
    command = ["-m", "runner", "run", "agent.py:answer", "--suite", "suite", "--quiet"]
    return [*command, "--repeats", str(attempts)]


async def _process(
    directory: Path, command: Sequence[str], given: Mapping[str, str]
) -> asyncio.subprocess.Process:
    places = {
        "AGENTTRACE_STORAGE__RUNS_DIR": str(directory / "runs"),
        "AGENTTRACE_STORAGE__STATE_DIR": str(directory / "state"),
        "AGENTTRACE_RUN__MIN_FREE_DISK_BYTES": "0",
        "XDG_CONFIG_HOME": str(directory),
    }
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        cwd=directory,
        env={**os.environ, **places, **given},
        stdout=asyncio.subprocess.DEVNULL,
    )


async def _watch(process: asyncio.subprocess.Process) -> None:
    """Ends the benchmark when it ends before it was told to."""
    raise SystemExit(f"a process of the benchmark ended with {await process.wait()}")


def _cpu_seconds(process: int) -> float:
    """Of all its threads so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _median(told: Sequence[Mapping[str, Any]]) -> float:
    return statistics.median(one["seconds"][0] for one in told)


def _milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "median": 1000 * statistics.median(ordered),
        "p99": 1000 * ordered[int(0.99 * (len(ordered) - 1))],
    }
