"""A hostile agent's folder: what is run, and what must come out."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from runner.domain import (
    MIB,
    Attempt,
    HttpInterface,
    Interface,
    Limits,
    StdioInterface,
)

HERE = Path(__file__).parent
PRELUDE = HERE / "gateway_prelude.py"
HTTP_PORT = 8000
SMALL = {
    "time_seconds": 10.0,
    "memory_bytes": 96 * MIB,
    "pids": 64,
    "disk_bytes": 16 * MIB,
    "shm_bytes": 8 * MIB,
}
"""What an attempt may use unless the folder says otherwise: enough for Python, quick to exhaust."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Measured figures that must hold; None: not asked for."""

    max_wall_seconds: float | None = None
    min_wall_seconds: float | None = None
    oom_kills_min: int | None = None
    oom_kills_max: int | None = None
    cpu_seconds_max: float | None = None
    throttled_seconds_min: float | None = None
    pids_limit_hits_min: int | None = None
    pids_peak_max: int | None = None
    memory_peak_min_bytes: int | None = None
    stdout_bytes_min: int | None = None
    stderr_bytes_min: int | None = None
    output_bytes_min: int | None = None
    truncated: bool | None = None

    def broken(self, attempt: Attempt) -> list[str]:
        """One line for each that does not hold."""
        reply, measured = attempt.reply, attempt.measurement
        figures: dict[str, float | None] = {
            "wall_seconds": reply.wall_seconds,
            "stdout_bytes": reply.stdout_bytes,
            "stderr_bytes": reply.stderr_bytes,
            "output_bytes": reply.output_bytes,
        }
        if measured:
            figures |= {
                "oom_kills": measured.oom_kills,
                "cpu_seconds": measured.cpu_seconds,
                "throttled_seconds": measured.cpu_throttled_seconds,
                "pids_limit_hits": measured.pids_limit_hits,
                "pids_peak": measured.pids_peak or 0,
                "memory_peak_bytes": measured.memory_peak_bytes,
            }
        lines = []
        for name, bound in vars(self).items():
            if bound is None or name == "truncated":
                continue
            is_minimum = name.startswith("min_") or "_min" in name
            figure = name
            for word in ("min_", "max_"):
                figure = figure.removeprefix(word)
            figure = figure.replace("_min", "").replace("_max", "")
            value = figures.get(figure)
            if value is None or (value < bound if is_minimum else value > bound):
                lines.append(f"{name} = {bound}, measured {value}")
        if self.truncated is not None and reply.output_truncated is not self.truncated:
            lines.append(f"truncated is {reply.output_truncated}")
        return lines


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """One folder."""

    name: str
    proves: str
    """One sentence; docs/threat-model.md has it too."""
    statuses: tuple[str, ...]
    failure_reasons: tuple[str, ...] = ()
    """Any of these; none: the attempt has no failure reason."""
    detail: str = ""
    """A regular expression that the evidence must match."""
    output: tuple[str, ...] = ()
    """Regular expressions, each found in the answer."""
    refused_min: int = 0
    """How many lines `refused: ...` the agent must have written: it did try."""
    artifacts: tuple[str, ...] = ()
    """Paths that must be kept, and no others."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Path of an artifact that must not be kept: a regular expression for the reason."""
    claims: dict[str, float] | None = None
    together: int = 1
    """How many attempts run at the same time, in containers of their own."""
    times: int = 1
    """How many attempts run one after the other."""
    prompt: str = "What is 6 * 7?"
    interface: str = "stdio"
    command: tuple[str, ...] = ()
    build: bool = False
    """Why this does not hold yet; remove it when it does."""
    build_failed: str = ""
    """A regular expression for the message of the BuildFailed that preparing must end in."""
    limits: Limits
    bounds: Bounds
    gateway: dict[str, Any] | None = None
    """The terms on which its agent meets a gateway (see gateway_lab.py); None: there is none."""

    @property
    def directory(self) -> Path:
        """The folder."""
        return HERE / self.name

    @cached_property
    def how(self) -> Interface:
        """The agent's source as an argument: nothing can be mounted, and nothing need be built."""
        command = self.command
        if not command:
            source = (self.directory / "agent.py").read_text()
            if self.gateway is not None:
                source = f"{PRELUDE.read_text()}\n{source}"
            command = ("python3", "-u", "-c", source)
        if self.interface == "http":
            return HttpInterface(command=command, port=HTTP_PORT)
        return StdioInterface(command=command)


def load(directory: Path) -> Expectation:
    """The expectation in `directory`/expected.toml; unknown fields are errors."""
    given = tomllib.loads((directory / "expected.toml").read_text())
    status = given.pop("status")
    prompt = given.pop("prompt", Expectation.prompt)
    repeat = given.pop("prompt_repeat", 1)
    return Expectation(
        name=directory.name,
        statuses=(status,) if isinstance(status, str) else tuple(status),
        prompt=prompt * repeat,
        limits=Limits.model_validate(SMALL | given.pop("limits", {})),
        bounds=Bounds(**given.pop("bounds", {})),
        **{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()},
    )


def load_all() -> list[Expectation]:
    """Every folder beside this file that has an expected.toml."""
    return [load(path.parent) for path in sorted(HERE.glob("*/expected.toml"))]
