"""One attempt and many at once: ours against `docker run --rm` with the same settings."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.assets import asset
from runner.domain import Image, Limits, Prompt, StdioInterface
from runner.domain.mounts import writable_mounts
from runner.engine import EngineClient, locate_engine
from runner.evaluation.attempt import attempt
from runner.evaluation.verdict import judge
from runner.images.setup import SetUp, find_set_up
from runner.sandbox import DockerSandbox, SandboxPolicy
from runner.sandbox.journal import Journal
from runner.transport import ShimTransport

PROGRAM = "import json,sys; print(json.load(sys.stdin)['prompt'])"
"""The trivial agent: it answers with the prompt."""
PROMPT = "bench"
LIMITS = Limits(time_seconds=60)
CONCURRENCIES = (1, 2, 4)


@dataclass(frozen=True)
class Bench:
    """What both sides run with."""

    client: EngineClient
    made: SetUp
    sandbox: DockerSandbox
    seccomp: Path
    scratch: Path


async def measure(rounds: int) -> dict[str, Any]:
    """Latency with its stages, and throughput; interleaved, so that noise meets both sides."""
    async with _bench() as bench:
        for warm_up in (_ours, _docker_run):
            await warm_up(bench)
        latency = await _latency(bench, rounds)
        throughput = [await _throughput(bench, n, rounds) for n in CONCURRENCIES]
    return {"latency": latency, "throughput": throughput}


@asynccontextmanager
async def _bench() -> AsyncIterator[Bench]:
    seccomp = asset("config/seccomp.json")
    scratch = Path(tempfile.mkdtemp(prefix="agenttrace-bench-"))
    try:
        with EngineClient(locate_engine()) as client, Journal(scratch) as journal:
            made = await find_set_up(client)
            policy = SandboxPolicy(shim_volume=made.shim_volume, seccomp=seccomp.read_text())
            sandbox = DockerSandbox(client, policy, journal)
            yield Bench(client, made, sandbox, seccomp, scratch)
    finally:
        shutil.rmtree(scratch)


# -- the two sides ------------------------------------------------------------------------------


async def _ours(bench: Bench) -> dict[str, float]:
    """Seconds of each stage of one attempt."""
    image = Image(
        image_id=bench.made.base_image_id,
        reference="bench",
        interface=StdioInterface(command=("python3", "-c", PROGRAM)),
    )
    staging = Path(tempfile.mkdtemp(dir=bench.scratch))
    made = await attempt(
        Prompt(task_id="bench", text=PROMPT),
        {},
        image,
        LIMITS,
        bench.sandbox,
        ShimTransport(),
        staging,
    )
    verdict = judge(made)
    if made.reply.output != PROMPT + "\n":
        raise SystemExit(f"the benchmark's own agent failed: {verdict}")
    return {stage.name: stage.seconds for stage in made.stages}


async def _docker_run(bench: Bench) -> dict[str, float]:
    """The same agent under the same limits by docker's own client."""
    process = await asyncio.create_subprocess_exec(
        *_docker_command(bench),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate(json.dumps({"prompt": PROMPT, "config": {}}).encode())
    if output.decode() != PROMPT + "\n":
        raise SystemExit(f"docker run failed: {output!r}")
    return {}


def _docker_command(bench: Bench) -> list[str]:
    mounts = writable_mounts(LIMITS, ()).items()
    tmpfs = [f"--tmpfs={path}:size={size},nr_inodes={LIMITS.disk_inodes}" for path, size in mounts]
    return [
        *("docker", "run", "--rm", "--interactive", "--network=none", "--read-only"),
        *("--cap-drop=ALL", "--security-opt=no-new-privileges"),
        f"--security-opt=seccomp={bench.seccomp}",
        *(f"--memory={LIMITS.memory_bytes}", f"--memory-swap={LIMITS.memory_bytes}"),
        *(f"--pids-limit={LIMITS.pids}", f"--cpus={LIMITS.cpus}", f"--shm-size={LIMITS.shm_bytes}"),
        *tmpfs,
        *("--log-driver=none", "--ipc=private", "--user=10001:10001"),
        f"--ulimit=nofile={LIMITS.open_files}",
        bench.made.base_image_id,
        *("python3", "-c", PROGRAM),
    ]


# -- latency ------------------------------------------------------------------------------------


async def _latency(bench: Bench, rounds: int) -> dict[str, Any]:
    ours, theirs, cpu, calls = [], [], [], []
    stages: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        with _engine_cpu(bench.client) as spent:
            before = time.process_time()
            seconds, parts = await _timed(_ours, bench)
            total = time.process_time() - before
        ours.append(seconds)
        cpu.append(total - sum(spent))
        calls.append(sum(spent))
        for name, value in parts.items():
            stages[name].append(value)
        theirs.append((await _timed(_docker_run, bench))[0])
    return {
        "rounds": rounds,
        "ours_ms": _milliseconds(ours),
        "docker_run_ms": _milliseconds(theirs),
        "ratio": statistics.median(ours) / statistics.median(theirs),
        "stages_ms": {name: _milliseconds(values) for name, values in stages.items()},
        "runner_cpu_ms_beyond_engine_calls": _milliseconds(cpu),
        "runner_cpu_ms_in_engine_calls": _milliseconds(calls),
    }


async def _timed(
    work: Callable[[Bench], Awaitable[dict[str, float]]], bench: Bench
) -> tuple[float, dict[str, float]]:
    started = time.perf_counter()
    parts = await work(bench)
    return time.perf_counter() - started, parts


class _engine_cpu:  # noqa: N801 - used like a function
    """Within it, the CPU seconds of each engine call are appended to its value."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client
        self._original = client.call_blocking

    def __enter__(self) -> list[float]:
        spent: list[float] = []

        def counted(*arguments: Any, **options: Any) -> Any:
            before = time.thread_time()
            try:
                return self._original(*arguments, **options)
            finally:
                spent.append(time.thread_time() - before)

        self._client.call_blocking = counted  # type: ignore[method-assign]
        return spent

    def __exit__(self, *_: object) -> None:
        del self._client.call_blocking


# -- throughput ---------------------------------------------------------------------------------


async def _throughput(bench: Bench, concurrency: int, rounds: int) -> dict[str, float]:
    """Attempts per second of both sides, each the median of alternating batches."""
    ours, theirs = [], []
    for _ in range(3):
        ours.append(await _batch(_ours, bench, concurrency, rounds))
        theirs.append(await _batch(_docker_run, bench, concurrency, rounds))
    ours_rate, their_rate = statistics.median(ours), statistics.median(theirs)
    return {
        "concurrency": concurrency,
        "ours_per_second": ours_rate,
        "docker_run_per_second": their_rate,
        "ratio": ours_rate / their_rate,
    }


async def _batch(
    work: Callable[[Bench], Awaitable[object]], bench: Bench, concurrency: int, count: int
) -> float:
    waiting = iter(range(count))

    async def worker() -> None:
        for _ in waiting:
            await work(bench)

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return count / (time.perf_counter() - started)


def _milliseconds(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "median": 1000 * statistics.median(ordered),
        "p90": 1000 * ordered[int(0.9 * (len(ordered) - 1))],
    }


def in_use(process: int | str = "self") -> int:
    """Resident memory of this process or another, in bytes."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak(process: int | str = "self") -> float:
    """The most resident memory of this process or another so far, in MiB; getrusage counts in
    what the process that started it had.
    """
    status = Path(f"/proc/{process}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
