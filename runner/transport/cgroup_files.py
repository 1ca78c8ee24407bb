"""The cgroup files that the shim is asked for where the host cannot read them itself."""

from __future__ import annotations

CGROUP_FILES = (
    # version 2: one directory
    "memory.peak",
    "memory.current",
    "memory.stat",
    "memory.events",
    "memory.max",
    "cpu.stat",
    "pids.peak",
    "pids.events",
    "pids.max",
    # version 1: a directory for each controller
    "memory/memory.max_usage_in_bytes",
    "memory/memory.usage_in_bytes",
    "memory/memory.stat",
    "memory/memory.oom_control",
    "memory/memory.limit_in_bytes",
    "cpuacct/cpuacct.usage_user",
    "cpuacct/cpuacct.usage_sys",
    "cpu/cpu.stat",
    "pids/pids.events",
    "pids/pids.peak",
    "pids/pids.max",
)
"""Paths relative to /sys/fs/cgroup in the container."""
