"""One attempt as a value: how it ended, with the evidence, measured from outside."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from runner.domain.base import Noun
from runner.domain.limits import Limits


class EndingKind(StrEnum):
    """The closed set of ways in which an attempt ends, as the transport saw it."""

    ANSWERED = "answered"
    """The agent gave an answer by its interface's rules."""
    CRASHED = "crashed"
    """The agent's process ended without an answer, or with an error status."""
    TIMED_OUT = "timed_out"
    """The host's deadline passed first."""
    INVALID_OUTPUT = "invalid_output"
    """An answer arrived, but not in the form that the interface asks for."""
    OUTPUT_EXCEEDED = "output_exceeded"
    """The answer was too long to be read to its end."""
    PROTOCOL_BROKEN = "protocol_broken"
    """Bytes came over the channel that no honest shim sends."""
    SANDBOX_ENDED = "sandbox_ended"
    """The container ended under the agent: the kernel killed its PID 1, or someone removed it."""
    BUDGET_SPENT = "budget_spent"
    """The gateway refused a call over budget, and the agent did not end by itself after it."""
    UNREACHABLE = "unreachable"
    """A remote agent was never reached, or its provider refused for now: nothing to judge."""


class Ending(Noun):
    """How the conversation with the agent ended, before measurement explains why."""

    kind: EndingKind
    detail: str = ""
    """One line for a person, in our words; hostile bytes in it are escaped."""
    exit_code: int | None = None
    signal: int | None = None


class Reply(Noun):
    """What came back from the agent over the channel."""

    ending: Ending
    output: str = ""
    """The answer, at most `Limits.output_bytes` long."""
    output_bytes: int = Field(default=0, ge=0)
    """How long the answer really was, before it was cut."""
    output_truncated: bool = False
    stdout: bytes = b""
    stderr: bytes = b""
    stdout_bytes: int = Field(default=0, ge=0)
    """How much the agent wrote in all, kept or not."""
    stderr_bytes: int = Field(default=0, ge=0)
    wall_seconds: float = Field(default=0.0, ge=0)
    """From the start of the agent's process to the ending, on the host's monotonic clock."""
    provider_wait_seconds: float = Field(default=0.0, ge=0)
    """Not part of `wall_seconds`. Of a remote agent: time in which no request of ours was with it,
    at its provider's wish or because it could not be reached. Of a sandboxed one: time that the
    gateway excused, since a model's provider was in trouble."""
    full_mounts: tuple[str, ...] = ()
    """Writable mounts that had no space or no inodes left when the agent ended."""
    claims: dict[str, int | float | str] = Field(default_factory=dict)
    """What the agent says of itself (tokens, cost); kept, never counted."""


class Measurement(Noun):
    """What the attempt used, read from outside before the container ended."""

    memory_peak_bytes: int = Field(ge=0)
    memory_peak_source: Literal["cgroup_peak", "stats_max_usage", "sampled"]
    memory_working_set_bytes: int = Field(default=0, ge=0)
    """Usage less inactive file pages, at the moment of measurement."""
    memory_baseline_bytes: int = Field(default=0, ge=0)
    """The peak before the agent was started: the shim's and the runtime's own share."""
    cpu_user_seconds: float = Field(default=0.0, ge=0)
    cpu_system_seconds: float = Field(default=0.0, ge=0)
    cpu_throttled_seconds: float = Field(default=0.0, ge=0)
    oom_kills: int = Field(default=0, ge=0)
    """From the kernel's own counter."""
    pids_peak: int | None = None
    """None where neither kernel nor engine keeps it."""
    pids_limit_hits: int = Field(default=0, ge=0)
    """How often a fork was refused at the limit."""
    network_bytes: int = Field(default=0, ge=0)
    read_from: Literal["host_cgroup", "engine_stats", "shim_cgroup"]
    cgroup_version: Literal[1, 2]

    @property
    def cpu_seconds(self) -> float:
        """User and system time together."""
        return self.cpu_user_seconds + self.cpu_system_seconds


class ContainerEnd(Noun):
    """Why a container ended by itself, as far as the engine knows."""

    exit_code: int | None = None
    said_oom: bool = False
    """The engine's flag; it errs both ways, so the kernel's counter goes before it."""
    diagnostics: str = ""
    """What the shim wrote to its stderr, escaped; usually empty."""


class Artifact(Noun):
    """A file that the agent left in its output directory, or the reason why it was not kept."""

    path: str
    """Relative to the output directory, with unsafe bytes escaped."""
    size_bytes: int = Field(default=0, ge=0)
    sha256: str = ""
    skipped: str = ""
    """Why it was not kept; empty when it was."""


class SandboxFacts(Noun):
    """What isolated this attempt, read back from the live container before the agent started."""

    container_name: str
    container_id: str
    image_id: str
    engine_version: str
    runtime: str
    tier: str
    """The isolation that the host gives: runc, userns, rootless, runsc, kata."""
    cgroup_version: Literal[1, 2]
    agent_uid: int = 10_001
    """Of this attempt alone while it runs: what the kernel counts by user is not shared."""
    agent_gid: int = 10_001
    applied: dict[str, str | int | float | bool]
    """Each hardening setting by name, as the live container has it."""


class Stage(Noun):
    """How long one step of an attempt took; for the trace and the benchmark."""

    name: str
    start_unix_nanos: int
    """Wall-clock start, for the trace alone; durations are monotonic."""
    seconds: float = Field(ge=0)


class Attempt(Noun):
    """One container's whole life, without judgement."""

    task_id: str
    limits: Limits
    reply: Reply
    measurement: Measurement | None = None
    """None when the container was gone before it could be read."""
    sandbox: SandboxFacts | None = None
    artifacts: tuple[Artifact, ...] = ()
    container_end: ContainerEnd | None = None
    """Set when the container ended under the agent."""
    agent_confirmed_dead: bool = True
    """After the kill no process but the shim was left."""
    stages: tuple[Stage, ...] = ()
