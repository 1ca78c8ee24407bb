"""How the agent's process is started: its command, environment, and what it reads first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from runner.domain import (
    FunctionInterface,
    HttpInterface,
    Image,
    Limits,
    Prompt,
    StdioInterface,
)
from runner.domain.mounts import (
    OUTPUT_DIRECTORY,
    SCRATCH_DIRECTORY,
    SHARED_MEMORY,
    SHIM_DIRECTORY,
    writable_mounts,
)
from runner.ports import GatewayAccess

DRIVER = f"{SHIM_DIRECTORY}/drivers/function.py"
GATEWAY_PORT = 4180
OTHER_GATEWAY_PORT = 4181
"""Where the agent's own server has the first."""
SHIM_DESCRIPTORS = 32
"""More than the shim itself ever has open at once; the rest may be connections."""
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, kw_only=True)
class AgentUser:
    """Who the agent is inside its container; never the shim's own uid 0."""

    uid: int = 10_001
    gid: int = 10_001


def start_request(
    image: Image,
    limits: Limits,
    user: AgentUser,
    stdin: str,
    access: GatewayAccess | None = None,
) -> dict[str, object]:
    """The payload of START."""
    request: dict[str, object] = {
        "argv": command(image),
        "env": environment(image, access.environment if access else {}),
        "cwd": image.working_directory or "/",
        "uid": user.uid,
        "gid": user.gid,
        "stdin": stdin,
        "stdout_cap": max(limits.log_bytes, limits.output_bytes),
        "stderr_cap": limits.log_bytes,
        "answer_cap": limits.output_bytes,
        "writable": [*writable_mounts(limits, image.volumes), SHARED_MEMORY],
    }
    if access:
        most = most_connections(access, limits)
        request["relay"] = {"port": gateway_port(image), "connections": most}
    return request


def most_connections(access: GatewayAccess, limits: Limits) -> int:
    """How many at once; the shim has no more open files than the agent's limit lets it."""
    return min(access.max_connections, limits.open_files - SHIM_DESCRIPTORS)


def gateway_port(image: Image) -> int:
    """Where the agent finds the gateway."""
    taken = isinstance(image.interface, HttpInterface) and image.interface.port == GATEWAY_PORT
    return OTHER_GATEWAY_PORT if taken else GATEWAY_PORT


def gateway_url(image: Image) -> str:
    """The same, as the agent is told."""
    return f"http://127.0.0.1:{gateway_port(image)}"


def command(image: Image) -> list[str]:
    """The agent's argv."""
    match image.interface:
        case FunctionInterface(module=module, function=function):
            return ["python3", DRIVER, module, function]
        case StdioInterface(command=given) | HttpInterface(command=given):
            return list(given)
        case _:
            assert_never(image.interface)


def environment(image: Image, gateway: Mapping[str, str]) -> dict[str, str]:
    """The image's own ENV, under the gateway's (where `{url}` is to be filled in), under what the
    sandbox sets: every home and cache is in scratch.
    """
    url = gateway_url(image)
    reached = {name: value.replace("{url}", url) for name, value in gateway.items()}
    given = dict(pair.partition("=")[::2] for pair in image.environment if "=" in pair)
    ours = {
        "HOME": SCRATCH_DIRECTORY,
        "TMPDIR": SCRATCH_DIRECTORY,
        "XDG_CACHE_HOME": f"{SCRATCH_DIRECTORY}/.cache",
        "XDG_CONFIG_HOME": f"{SCRATCH_DIRECTORY}/.config",
        "XDG_DATA_HOME": f"{SCRATCH_DIRECTORY}/.local/share",
        "XDG_STATE_HOME": f"{SCRATCH_DIRECTORY}/.local/state",
        "AGENTTRACE_OUTPUT_DIR": OUTPUT_DIRECTORY,
    }
    if isinstance(image.interface, HttpInterface):
        ours["PORT"] = str(image.interface.port)
    return {"PATH": DEFAULT_PATH} | given | reached | ours


def request_text(prompt: Prompt, config: Mapping[str, object]) -> str:
    """What the agent is asked, as JSON."""
    return json.dumps({"prompt": prompt.text, "config": dict(config)}, ensure_ascii=False)
