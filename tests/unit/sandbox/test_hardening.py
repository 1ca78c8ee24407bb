"""Every setting of a container: as asked for, and as read back from what an engine answers."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.domain import Image, Limits, StdioInterface
from runner.domain.shim import SHIM_ARGV
from runner.errors import LimitNotApplied
from runner.sandbox.hardening import (
    SandboxPolicy,
    Share,
    create_arguments,
    digest_of_json,
    has_swap,
    read_back,
)

SHARE = Share()
RECORDED = Path(__file__).parent / "recordings/v1/inspect.json"
SECCOMP = '{"defaultAction": "SCMP_ACT_ALLOW"}'
POLICY = SandboxPolicy(shim_volume="agenttrace-shim-2e0aef13b371", seccomp=SECCOMP)
IMAGE = Image(
    image_id="sha256:1",
    reference="x",
    interface=StdioInterface(command=("true",)),
    environment=("LD_PRELOAD=/x.so", "PATH=/bin", "NAME"),
    volumes=("/data",),
)
MIB = 1024 * 1024


def inspected() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RECORDED.read_text())
    return found


def wanted(
    limits: Limits | None = None, policy: SandboxPolicy = POLICY, share: Share = SHARE
) -> Any:
    made = create_arguments(IMAGE, limits or Limits(), policy, "agenttrace-1", share)
    return made["host_config"]


# -- as asked for -------------------------------------------------------------------------------


def test_the_container() -> None:
    arguments = create_arguments(IMAGE, Limits(), POLICY, "agenttrace-1", SHARE)
    del arguments["host_config"]
    assert arguments == {
        "name": "agenttrace-1",
        "image": "sha256:1",
        "entrypoint": [SHIM_ARGV[0]],
        "command": list(SHIM_ARGV[1:]),
        "user": "0:0",
        "working_dir": "/",
        "hostname": "agent",
        "stdin_open": True,
        "tty": False,
        "detach": False,
        "network_disabled": True,
        "stop_signal": "SIGKILL",
        "healthcheck": {"test": ["NONE"]},
        "environment": [
            *("LC_ALL=C", "PATH=", "TZ=UTC0", "TZDIR=/opt/agenttrace"),
            *("LD_PRELOAD", "NAME"),
        ],
        "labels": {"org.agenttrace.container": "agenttrace-1"},
    }


def test_the_hardening() -> None:
    agents = "uid=10001,gid=10001"
    options = "nr_inodes=65536,nosuid,nodev"
    ulimits = [("nofile", 1024), ("core", 0), ("fsize", 256 * MIB)]
    assert wanted() == {
        "CapDrop": ["ALL"],
        "CapAdd": ["KILL", "SETGID", "SETUID"],
        "SecurityOpt": ["no-new-privileges:true", f"seccomp={SECCOMP}"],
        "ReadonlyRootfs": True,
        "Memory": 512 * MIB,
        "MemorySwap": 512 * MIB,
        "PidsLimit": 256,
        "CpuPeriod": 100_000,
        "CpuQuota": 100_000,
        "ShmSize": 64 * MIB,
        "Tmpfs": {
            "/output": f"size={64 * MIB},{options},noexec,mode=0700,{agents}",
            "/data": f"size={64 * MIB},{options},exec,mode=0700,{agents}",
            "/tmp": f"size={128 * MIB},{options},exec,mode=1777",
        },
        "Mounts": [
            {
                "Target": "/opt/agenttrace",
                "Source": "agenttrace-shim-2e0aef13b371",
                "Type": "volume",
                "ReadOnly": True,
                "VolumeOptions": {"NoCopy": True},
            }
        ],
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "Ulimits": [{"Name": name, "Soft": value, "Hard": value} for name, value in ulimits],
        "LogConfig": {"Type": "none", "Config": {}},
        "RestartPolicy": {"Name": "no"},
        "NetworkMode": "default",  # docker-py adds it; `network_disabled` is what counts
    }


def test_what_a_policy_adds() -> None:
    policy = SandboxPolicy(
        shim_volume="v",
        seccomp=SECCOMP,
        runtime="runsc",
        apparmor="ours",
        cpu_mode="cpuset",
        tmpfs_exec=False,
        agent_gid=8,
        extra_labels={"run": "r"},
    )
    host = wanted(policy=policy, share=Share(uid=7, cpuset="1,3"))
    assert host["Runtime"] == "runsc"
    assert "apparmor=ours" in host["SecurityOpt"]
    assert host["CpusetCpus"] == "1,3"
    assert "CpuQuota" not in host
    assert all("noexec" in options.split(",") for options in host["Tmpfs"].values())
    assert host["Tmpfs"]["/output"].endswith("uid=7,gid=8")
    labels = create_arguments(IMAGE, Limits(), policy, "n", SHARE)["labels"]
    assert labels == {"org.agenttrace.container": "n", "run": "r"}


@pytest.mark.parametrize(
    ("cpus", "quota"), [(0.01, 1000), (0.29, 29_000), (1.1, 110_000), (8, 800_000)]
)
def test_the_cpu_quota_is_the_nearest_microsecond(cpus: float, quota: int) -> None:
    assert wanted(Limits(cpus=cpus))["CpuQuota"] == quota


def test_no_writable_space_beyond_the_disk_limit() -> None:
    sizes = [options.split(",")[0].partition("=")[2] for options in wanted()["Tmpfs"].values()]
    assert sum(map(int, sizes)) == Limits().disk_bytes


# -- as read back -------------------------------------------------------------------------------


def test_the_recorded_container_has_what_was_asked_for() -> None:
    applied = read_back(inspected(), wanted())
    assert applied["memory_bytes"] == applied["memory_and_swap_bytes"] == 512 * MIB
    assert (applied["pids"], applied["cpus"], applied["network"]) == (256, 1.0, "disabled")
    assert applied["capabilities_added"] == "KILL,SETGID,SETUID"
    assert applied["seccomp_sha256"] == digest_of_json(SECCOMP)


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "memory_bytes": lambda h: h.update(Memory=0),
    "memory_and_swap_bytes": lambda h: h.update(MemorySwap=h["Memory"] * 2),
    "memory_and_swap_bytes ": lambda h: h.update(MemorySwap=-1),
    "pids": lambda h: h.update(PidsLimit=None),
    "pids ": lambda h: h.update(PidsLimit=-1),
    "cpus": lambda h: h.update(CpuQuota=0),
    "cpus ": lambda h: h.update(CpuPeriod=50_000),
    "cpuset": lambda h: h.update(CpusetCpus="0"),
    "shm_bytes": lambda h: h.update(ShmSize=MIB),
    "read_only_root": lambda h: h.update(ReadonlyRootfs=False),
    "privileged": lambda h: h.update(Privileged=True),
    "capabilities_dropped": lambda h: h.update(CapDrop=None),
    "capabilities_added": lambda h: h["CapAdd"].append("CAP_SYS_ADMIN"),
    "security_options": lambda h: h["SecurityOpt"].remove("no-new-privileges:true"),
    "security_options ": lambda h: h["SecurityOpt"].append("apparmor=unconfined"),
    "seccomp_sha256": lambda h: h.update(SecurityOpt=["no-new-privileges:true"]),
    "seccomp_sha256 ": lambda h: h.update(
        SecurityOpt=["no-new-privileges:true", "seccomp=unconfined"]
    ),
    "ipc": lambda h: h.update(IpcMode="shareable"),
    "cgroup_namespace": lambda h: h.update(CgroupnsMode="host"),
    "cgroup_namespace ": lambda h: h.update(CgroupnsMode=""),
    "pid_namespace": lambda h: h.update(PidMode="host"),
    "auto_remove": lambda h: h.update(AutoRemove=True),
    "tmpfs": lambda h: h["Tmpfs"].update({"/tmp": "size=1g"}),
    "tmpfs ": lambda h: h["Tmpfs"].pop("/data"),
    "ulimits": lambda h: h.update(Ulimits=None),
    "ulimits ": lambda h: h["Ulimits"][0].update(Hard=10**6),
    "log_driver": lambda h: h.update(LogConfig={"Type": "json-file"}),
    "restart": lambda h: h.update(RestartPolicy={"Name": "always"}),
}


@pytest.mark.parametrize("setting", CHANGES)
def test_a_setting_that_did_not_take_is_named(setting: str) -> None:
    changed = inspected()
    CHANGES[setting](changed["HostConfig"])
    assert changed != inspected()
    with pytest.raises(LimitNotApplied, match=rf"did not apply: {setting.strip()} \("):
        read_back(changed, wanted())


def test_every_setting_that_is_read_back_was_changed_once() -> None:
    read = set(read_back(inspected(), wanted())) - {"network"}
    assert {setting.strip() for setting in CHANGES} == read


@pytest.mark.parametrize("config", [{"NetworkDisabled": False}, {}, None])
def test_a_network_is_noticed(config: Any) -> None:
    with pytest.raises(LimitNotApplied, match="network"):
        read_back(inspected() | {"Config": config}, wanted())


def test_an_answer_without_any_settings() -> None:
    with pytest.raises(LimitNotApplied, match="memory_bytes"):
        read_back({}, wanted())


# -- how other engines say the same -------------------------------------------------------------

SAME: dict[str, Callable[[dict[str, Any]], object]] = {
    "capabilities with their prefix": lambda h: h.update(
        CapAdd=["CAP_SETUID", "CAP_KILL", "CAP_SETGID"]
    ),
    "capabilities without it": lambda h: h.update(CapAdd=["KILL", "SETUID", "SETGID"]),
    "ulimits in another order": lambda h: h["Ulimits"].reverse(),
    "no-new-privileges, short": lambda h: h.update(
        SecurityOpt=["no-new-privileges", f"seccomp={SECCOMP}"]
    ),
    "no-new-privileges, by equals sign": lambda h: h.update(
        SecurityOpt=["no-new-privileges=true", f"seccomp={SECCOMP}"]
    ),
    "the profile with other white space": lambda h: h.update(
        SecurityOpt=["no-new-privileges:true", 'seccomp={"defaultAction":"SCMP_ACT_ALLOW"}']
    ),
    "no restart policy at all": lambda h: h.update(RestartPolicy={"Name": ""}),
    "no cpuset at all": lambda h: h.pop("CpusetCpus"),
    "settings that we do not know": lambda h: h.update(Annotations={}, Later=True),
}


@pytest.mark.parametrize("spelling", SAME)
def test_the_same_said_otherwise(spelling: str) -> None:
    changed = inspected()
    before = copy.deepcopy(changed)
    SAME[spelling](changed["HostConfig"])
    assert read_back(changed, wanted()) == read_back(before, wanted())


def test_unlimited_swap_where_there_is_none_to_be_had() -> None:
    changed = inspected()
    changed["HostConfig"]["MemorySwap"] = -1
    applied = read_back(changed, wanted(), swap_possible=False)
    assert applied["memory_and_swap_bytes"] == -1
    changed["HostConfig"]["MemorySwap"] = 0
    with pytest.raises(LimitNotApplied):
        read_back(changed, wanted(), swap_possible=False)


def test_whether_the_host_has_swap(tmp_path: Path) -> None:
    swaps = tmp_path / "swaps"
    assert has_swap(swaps), "unknown counts as yes"
    swaps.write_text("Filename\tType\tSize\tUsed\tPriority\n")
    assert not has_swap(swaps)
    swaps.write_text("Filename\tType\n/dev/vda2\tpartition\t1\t0\t-2\n")
    assert has_swap(swaps)
