"""Figures of both cgroup versions, from files and from the engine's stats, into one Measurement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.sandbox.cgroup import Cgroup
from runner.sandbox.meter import (
    NOTHING,
    Reading,
    measurement,
    read_cgroup,
    read_shim_files,
    read_stats,
)
from runner.transport.cgroup_files import CGROUP_FILES
from tests.strategies import hostile_text

RECORDINGS = Path(__file__).parent / "recordings"
V1, V2 = RECORDINGS / "v1", RECORDINGS / "v2"
CONTROLLERS = ("memory", "cpuacct", "cpu", "pids", "freezer")

FROM_V1_FILES = Reading(
    memory_peak_bytes=67_108_864,
    memory_bytes=29_003_776,
    inactive_file_bytes=1_200_128,
    cpu_user_seconds=pytest.approx(0.067992894),
    cpu_system_seconds=pytest.approx(0.395957527),
    cpu_throttled_seconds=pytest.approx(0.397344332),
    oom_kills=1,
    pids_peak=20,
    pids_limit_hits=1,
)
FROM_V2_FILES = Reading(
    memory_peak_bytes=134_217_728,
    memory_bytes=104_857_600,
    inactive_file_bytes=5_242_880,
    cpu_user_seconds=pytest.approx(0.068),
    cpu_system_seconds=pytest.approx(0.382216),
    cpu_throttled_seconds=pytest.approx(0.397344),
    oom_kills=1,
    pids_peak=20,
    pids_limit_hits=1,
)


def files_inside(version: Literal[1, 2]) -> dict[str, str]:
    """The recorded files, by the names that the shim is asked for."""
    directory = V1 if version == 1 else V2
    names = [name for name in CGROUP_FILES if ("/" in name) == (version == 1)]
    paths = {name: directory / name.rpartition("/")[2] for name in names}
    return {name: path.read_text() for name, path in paths.items() if path.exists()}


def stats_of(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "stats.json").read_text())
    return found


@pytest.mark.parametrize(
    ("cgroup", "expected"),
    [
        (Cgroup(1, dict.fromkeys(CONTROLLERS, V1)), FROM_V1_FILES),
        (Cgroup(2, {"": V2}), FROM_V2_FILES),
    ],
    ids=["v1", "v2"],
)
def test_the_files_on_the_host(cgroup: Cgroup, expected: Reading) -> None:
    assert read_cgroup(cgroup.read, cgroup.version) == expected


@pytest.mark.parametrize(("version", "expected"), [(1, FROM_V1_FILES), (2, FROM_V2_FILES)])
def test_the_files_as_the_shim_sees_them(version: Literal[1, 2], expected: Reading) -> None:
    assert read_shim_files(files_inside(version), version) == expected


def test_every_file_that_is_read_is_asked_for() -> None:
    for version in (1, 2):
        asked: set[str] = set()
        read_cgroup(asked.add, version)  # type: ignore[arg-type]
        inside = {name if version == 2 else f"{name.partition('.')[0]}/{name}" for name in asked}
        assert inside <= set(CGROUP_FILES)


def test_the_engines_stats_on_v1() -> None:
    assert read_stats(stats_of(V1)) == Reading(
        memory_peak_bytes=67_108_864,
        memory_bytes=29_143_040,
        inactive_file_bytes=1_306_624,
        cpu_user_seconds=pytest.approx(0.06),
        cpu_system_seconds=pytest.approx(0.38),
        cpu_throttled_seconds=pytest.approx(0.397344332),
        network_bytes=0,
    )


def test_the_engines_stats_on_v2_know_no_peak() -> None:
    reading = read_stats(stats_of(V2))
    assert reading.memory_peak_bytes is None
    assert (reading.memory_bytes, reading.inactive_file_bytes) == (104_857_600, 5_242_880)
    assert reading.cpu_throttled_seconds == pytest.approx(0.397344)


def test_networks_are_added_up() -> None:
    networks = {"a": {"rx_bytes": 1, "tx_bytes": 20}, "b": {"rx_bytes": 300}}
    assert read_stats({"networks": networks}).network_bytes == 321


@pytest.mark.parametrize(
    "stats",
    [
        {},
        {"memory_stats": {}, "cpu_stats": {"cpu_usage": {}, "throttling_data": {}}},
        {"memory_stats": None, "cpu_stats": None, "networks": None},
    ],
)
def test_stats_of_a_container_that_has_ended(stats: dict[str, Any]) -> None:
    reading = read_stats(stats)
    assert reading == Reading(network_bytes=0)
    assert measurement(reading, NOTHING, 1, "engine_stats") is None


@given(st.dictionaries(st.sampled_from(CGROUP_FILES), hostile_text.map(lambda t: t[:500])))
def test_no_text_in_a_file_breaks_the_meter(files: dict[str, str]) -> None:
    for version in (1, 2):
        reading = read_shim_files(files, version)  # type: ignore[arg-type]
        measurement(reading, NOTHING, version, "shim_cgroup")  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "max\n", "-1\n", "9" * 5000, "\u0661", "1 2", "0x10", "1.5"])
def test_what_is_not_a_number_is_unknown(text: str) -> None:
    files = {"memory.peak": text, "memory.events": f"oom_kill {text}\n"}
    reading = read_shim_files(files, 2)
    assert (reading.memory_peak_bytes, reading.oom_kills) == (None, None)


# -- since the baseline, and from where ---------------------------------------------------------

NOW = Reading(
    memory_peak_bytes=300,
    memory_bytes=200,
    inactive_file_bytes=50,
    cpu_user_seconds=3.0,
    cpu_system_seconds=1.5,
    cpu_throttled_seconds=0.75,
    oom_kills=2,
    pids_peak=9,
    pids_limit_hits=4,
    network_bytes=10,
)
BEFORE = Reading(
    memory_peak_bytes=100,
    memory_bytes=80,
    cpu_user_seconds=1.0,
    cpu_system_seconds=1.0,
    cpu_throttled_seconds=0.25,
)


def test_times_are_since_the_baseline_and_the_peak_is_of_the_whole_life() -> None:
    made = measurement(NOW, BEFORE, 2, "host_cgroup")
    assert made
    assert (made.cpu_user_seconds, made.cpu_system_seconds) == (2.0, 0.5)
    assert (made.cpu_seconds, made.cpu_throttled_seconds) == (2.5, 0.5)
    assert (made.memory_peak_bytes, made.memory_baseline_bytes) == (300, 100)
    assert (made.memory_working_set_bytes, made.oom_kills) == (150, 2)
    assert (made.pids_peak, made.pids_limit_hits, made.network_bytes) == (9, 4, 10)
    assert (made.read_from, made.cgroup_version) == ("host_cgroup", 2)


def test_no_figure_goes_below_zero() -> None:
    later = Reading(
        memory_bytes=10, inactive_file_bytes=50, cpu_user_seconds=0.5, cpu_system_seconds=0.0
    )
    made = measurement(later, BEFORE, 2, "host_cgroup")
    assert made
    assert (made.cpu_seconds, made.cpu_throttled_seconds) == (0.0, 0.0)
    assert made.memory_working_set_bytes == 0


@pytest.mark.parametrize(
    ("source", "peak", "expected"),
    [
        ("host_cgroup", 300, "cgroup_peak"),
        ("shim_cgroup", 300, "cgroup_peak"),
        ("engine_stats", 300, "stats_max_usage"),
        ("host_cgroup", None, "sampled"),
        ("engine_stats", None, "sampled"),
    ],
)
def test_the_peaks_source_is_told(source: Any, peak: int | None, expected: str) -> None:
    made = measurement(Reading(memory_peak_bytes=peak, memory_bytes=200), NOTHING, 2, source)
    assert made
    assert made.memory_peak_source == expected
    assert made.memory_peak_bytes == (peak or 200)


@pytest.mark.parametrize(("sampled", "peak"), [(0, 200), (150, 200), (900, 900)])
def test_without_a_kept_peak_the_largest_figure_seen_counts(sampled: int, peak: int) -> None:
    made = measurement(Reading(memory_bytes=200), NOTHING, 2, "host_cgroup", sampled)
    assert made
    assert (made.memory_peak_bytes, made.memory_peak_source) == (peak, "sampled")


def test_what_one_source_does_not_know_another_does() -> None:
    stats, inside = read_stats(stats_of(V2)), read_shim_files(files_inside(2), 2)
    both = stats.or_else(inside)
    assert both.memory_peak_bytes == 134_217_728
    assert both.memory_bytes == stats.memory_bytes
    assert (both.oom_kills, both.pids_peak) == (1, 20)
    assert NOTHING.or_else(inside) == inside
