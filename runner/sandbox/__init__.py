"""Isolated containers: made, hardened, read back, measured from outside, and removed."""

from __future__ import annotations

from runner.sandbox.hardening import SandboxPolicy
from runner.sandbox.session import DockerSandbox

__all__ = ["DockerSandbox", "SandboxPolicy"]
