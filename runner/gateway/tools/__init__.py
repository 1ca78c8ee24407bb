"""Tools that tasks may offer: small worlds that answer the same to the same calls, each time."""

from runner.gateway.tools.registry import (
    TOOL_NAMES,
    TOOLS,
    ToolKind,
    check_tools,
    make_tools,
    scope_of,
)
from runner.gateway.tools.setup import ToolSetup

__all__ = [
    "TOOLS",
    "TOOL_NAMES",
    "ToolKind",
    "ToolSetup",
    "check_tools",
    "make_tools",
    "scope_of",
]
