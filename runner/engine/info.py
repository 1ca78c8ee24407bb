"""What an engine says of itself, parsed once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """An engine's own description; what its settings really do is for `doctor` to probe."""

    engine_id: str
    """The engine's own name for itself: it stays through restarts and changes of address."""
    version: str
    api_version: str
    kernel: str
    operating_system: str
    architecture: str
    """As the kernel names it: x86_64, aarch64."""
    cpus: int
    memory_bytes: int
    cgroup_version: Literal[1, 2]
    cgroup_driver: str
    storage_driver: str
    root_directory: str
    default_runtime: str
    runtimes: tuple[str, ...]
    security_options: tuple[str, ...]
    """Names: seccomp, apparmor, selinux, userns, rootless, cgroupns."""

    @property
    def tier(self) -> str:
        """The isolation that its default runtime gives."""
        return self.tier_of(self.default_runtime)

    def tier_of(self, runtime: str) -> str:
        """The isolation that `runtime` gives on this engine."""
        for kernel_of_its_own in ("runsc", "kata"):
            if kernel_of_its_own in runtime:
                return kernel_of_its_own
        for option in ("rootless", "userns"):
            if option in self.security_options:
                return option
        return runtime

    @property
    def platform(self) -> str:
        """As images name it: linux/amd64, linux/arm64."""
        names = {"x86_64": "amd64", "aarch64": "arm64"}
        return f"linux/{names.get(self.architecture, self.architecture)}"


def parse_info(info: dict[str, Any], version: dict[str, Any]) -> EngineInfo:
    """From the engine's `/info` and `/version` answers."""
    return EngineInfo(
        engine_id=str(info.get("ID", "")),
        version=str(version.get("Version", "unknown")),
        api_version=str(version.get("ApiVersion", "")),
        kernel=str(info.get("KernelVersion", "")),
        operating_system=str(info.get("OperatingSystem", "")),
        architecture=str(info.get("Architecture", "")),
        cpus=int(info.get("NCPU") or 1),
        memory_bytes=int(info.get("MemTotal") or 0),
        cgroup_version=2 if str(info.get("CgroupVersion", "1")) == "2" else 1,
        cgroup_driver=str(info.get("CgroupDriver", "")),
        storage_driver=str(info.get("Driver", "")),
        root_directory=str(info.get("DockerRootDir", "")),
        default_runtime=str(info.get("DefaultRuntime", "")),
        runtimes=tuple(sorted(info.get("Runtimes") or {})),
        security_options=tuple(
            option.split(",")[0].removeprefix("name=")
            for option in info.get("SecurityOptions") or ()
        ),
    )
