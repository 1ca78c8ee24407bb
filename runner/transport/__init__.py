"""The only room that talks to an agent: frames to the shim, and each interface on top."""

from __future__ import annotations

from runner.transport.conversation import ShimTransport

__all__ = ["ShimTransport"]
