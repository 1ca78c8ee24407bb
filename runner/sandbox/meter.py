"""Figures from the kernel and the engine, of cgroup versions 1 and 2, into one Measurement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from runner.domain import Measurement
from runner.ports import ShimFiles

ReadFile = Callable[[str], str | None]
"""The text of a cgroup file by its name, such as `memory.peak`; None where there is none."""

Source = Literal["host_cgroup", "engine_stats", "shim_cgroup"]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One look at the figures; None is what this source does not know."""

    memory_peak_bytes: int | None = None
    memory_bytes: int | None = None
    inactive_file_bytes: int | None = None
    cpu_user_seconds: float | None = None
    cpu_system_seconds: float | None = None
    cpu_throttled_seconds: float | None = None
    oom_kills: int | None = None
    pids_peak: int | None = None
    pids_limit_hits: int | None = None
    network_bytes: int | None = None

    def or_else(self, other: Reading) -> Reading:
        """This reading, with `other`'s figures where it has none."""
        missing = [f.name for f in fields(self) if getattr(self, f.name) is None]
        return replace(self, **{name: getattr(other, name) for name in missing})


NOTHING = Reading()

_MOST_DIGITS = 20
"""Of a 64-bit number; a longer one is nothing that a kernel writes."""


def read_cgroup(read: ReadFile, version: Literal[1, 2]) -> Reading:
    """From the files of one cgroup."""
    return _read_v2(read) if version == 2 else _read_v1(read)


def _read_v2(read: ReadFile) -> Reading:
    cpu, events = _table(read("cpu.stat")), _table(read("memory.events"))
    return Reading(
        memory_peak_bytes=_number(read("memory.peak")),
        memory_bytes=_number(read("memory.current")),
        inactive_file_bytes=_table(read("memory.stat")).get("inactive_file"),
        cpu_user_seconds=_scaled(cpu.get("user_usec"), 1e-6),
        cpu_system_seconds=_scaled(cpu.get("system_usec"), 1e-6),
        cpu_throttled_seconds=_scaled(cpu.get("throttled_usec"), 1e-6),
        oom_kills=events.get("oom_kill"),
        pids_peak=_number(read("pids.peak")),
        pids_limit_hits=_table(read("pids.events")).get("max"),
    )


def _read_v1(read: ReadFile) -> Reading:
    return Reading(
        memory_peak_bytes=_number(read("memory.max_usage_in_bytes")),
        memory_bytes=_number(read("memory.usage_in_bytes")),
        inactive_file_bytes=_table(read("memory.stat")).get("total_inactive_file"),
        cpu_user_seconds=_scaled(_number(read("cpuacct.usage_user")), 1e-9),
        cpu_system_seconds=_scaled(_number(read("cpuacct.usage_sys")), 1e-9),
        cpu_throttled_seconds=_scaled(_table(read("cpu.stat")).get("throttled_time"), 1e-9),
        oom_kills=_table(read("memory.oom_control")).get("oom_kill"),
        pids_peak=_number(read("pids.peak")),
        pids_limit_hits=_table(read("pids.events")).get("max"),
    )


def read_shim_files(files: ShimFiles, version: Literal[1, 2]) -> Reading:
    """From the cgroup files as the shim sees them inside the container."""

    def read(name: str) -> str | None:
        controller = name.partition(".")[0]
        return files.get(name if version == 2 else f"{controller}/{name}")

    return read_cgroup(read, version)


def read_stats(stats: Mapping[str, Any]) -> Reading:
    """From the engine's stats API; version 2 has no `max_usage` there."""
    memory, cpu = stats.get("memory_stats") or {}, stats.get("cpu_stats") or {}
    detail, usage = memory.get("stats") or {}, cpu.get("cpu_usage") or {}
    networks = (stats.get("networks") or {}).values()
    return Reading(
        memory_peak_bytes=memory.get("max_usage"),
        memory_bytes=memory.get("usage"),
        inactive_file_bytes=detail.get("total_inactive_file", detail.get("inactive_file")),
        cpu_user_seconds=_scaled(usage.get("usage_in_usermode"), 1e-9),
        cpu_system_seconds=_scaled(usage.get("usage_in_kernelmode"), 1e-9),
        cpu_throttled_seconds=_scaled(
            (cpu.get("throttling_data") or {}).get("throttled_time"), 1e-9
        ),
        network_bytes=sum(n.get("rx_bytes", 0) + n.get("tx_bytes", 0) for n in networks),
    )


def measurement(
    now: Reading,
    baseline: Reading,
    version: Literal[1, 2],
    source: Source,
    sampled_peak_bytes: int = 0,
) -> Measurement | None:
    """What was used since `baseline`; None when `now` has not even the memory's size.

    The peak is of the whole container's life, as no kernel lets it be reset from here.
    """
    if now.memory_bytes is None and now.memory_peak_bytes is None:
        return None
    return Measurement(
        memory_peak_bytes=now.memory_peak_bytes or max(sampled_peak_bytes, now.memory_bytes or 0),
        memory_peak_source=_peak_source(now, source),
        memory_working_set_bytes=max(0, (now.memory_bytes or 0) - (now.inactive_file_bytes or 0)),
        memory_baseline_bytes=baseline.memory_peak_bytes or baseline.memory_bytes or 0,
        cpu_user_seconds=_since(now.cpu_user_seconds, baseline.cpu_user_seconds),
        cpu_system_seconds=_since(now.cpu_system_seconds, baseline.cpu_system_seconds),
        cpu_throttled_seconds=_since(now.cpu_throttled_seconds, baseline.cpu_throttled_seconds),
        oom_kills=now.oom_kills or 0,
        pids_peak=now.pids_peak,
        pids_limit_hits=now.pids_limit_hits or 0,
        network_bytes=now.network_bytes or 0,
        read_from=source,
        cgroup_version=version,
    )


def _peak_source(
    now: Reading, source: Source
) -> Literal["cgroup_peak", "stats_max_usage", "sampled"]:
    if now.memory_peak_bytes is None:
        return "sampled"
    return "stats_max_usage" if source == "engine_stats" else "cgroup_peak"


def _since(now: float | None, before: float | None) -> float:
    return max(0.0, (now or 0.0) - (before or 0.0))


def _scaled(value: int | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _number(text: str | None) -> int | None:
    text = (text or "").strip()
    whole = text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS
    return int(text) if whole else None


def _table(text: str | None) -> dict[str, int]:
    """Lines `name number`."""
    pairs = (line.split() for line in (text or "").splitlines())
    numbers = {pair[0]: _number(pair[1]) for pair in pairs if len(pair) == 2}
    return {name: number for name, number in numbers.items() if number is not None}
