"""What one attempt may use."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from runner.domain.base import Noun

MIB = 1024 * 1024
Bytes = Annotated[int, Field(gt=0)]


class Limits(Noun):
    """The limits of one attempt; the defaults are those of `config/default.toml`."""

    time_seconds: float = Field(default=300.0, gt=0)
    """From the start of the agent's process to its answer, on the host's monotonic clock."""
    memory_bytes: Bytes = 512 * MIB
    """Memory of the whole container, page cache and tmpfs included; there is no swap."""
    cpus: float = Field(default=1.0, gt=0)
    """CPU quota, in cores."""
    pids: int = Field(default=256, gt=1)
    """Processes and threads, the shim included."""
    shm_bytes: Bytes = 64 * MIB
    """Size of /dev/shm."""
    disk_bytes: Bytes = 256 * MIB
    """Scratch, output and declared volumes together, each a tmpfs; /dev/shm comes on top."""
    disk_inodes: int = Field(default=65_536, gt=0)
    """Files and directories in each of these mounts."""
    open_files: int = Field(default=1024, ge=64)
    """Open file descriptors of one process."""
    input_bytes: Bytes = 100_000
    """The prompt, as UTF-8."""
    output_bytes: Bytes = 50_000
    """The answer, as UTF-8."""
    log_bytes: Bytes = 1_000_000
    """What is kept of the agent's stdout, and of its stderr."""
    artifact_bytes: Bytes = 64 * MIB
    """What is kept of the agent's output directory, all files together."""
    artifact_files: int = Field(default=1000, gt=0)
    """How many files of the agent's output directory are kept."""
    model_calls: int = Field(default=1000, ge=0)
    """Calls of models; those beyond are refused, and the attempt goes on."""
    tool_calls: int = Field(default=1000, ge=0)
    """Calls of tools; the same."""


class LimitOverrides(Noun):
    """Limits set by a task or a command line in place of the configured ones (None)."""

    time_seconds: float | None = Field(default=None, gt=0)
    memory_bytes: Bytes | None = None
    cpus: float | None = Field(default=None, gt=0)
    pids: int | None = Field(default=None, gt=1)
    disk_bytes: Bytes | None = None

    def given(self) -> dict[str, float | int]:
        """The overrides that are set, by name of the limit."""
        return self.model_dump(exclude_none=True)

    def applied_to(self, limits: Limits) -> Limits:
        """`limits`, with what is set here in place of its own."""
        return Limits.model_validate(limits.model_dump() | self.given())
