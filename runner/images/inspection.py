"""An image's own description, hostile as it is, becomes a domain `Image` or a reason why not."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from runner.domain import FunctionInterface, HttpInterface, Image, Interface, StdioInterface
from runner.domain.submission import AgentEndpoint
from runner.domain.text import one_line
from runner.errors import BuildFailed
from runner.images.limits import MIB

MAX_VOLUMES = 8
MAX_ENVIRONMENT_BYTES = 128 * 1024
MAX_ENVIRONMENT = 1000
MAX_PATH = 255
RESERVED = ("/proc", "/sys", "/dev", "/opt/agenttrace")
"""Where a volume would cover what the sandbox itself mounts."""

_ID = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What we know of an image that the engine does not."""

    reference: str
    """What the submission called it."""
    content_digest: str = ""
    build_seconds: float = 0.0


def runnable_image(
    details: dict[str, Any],
    endpoint: AgentEndpoint,
    provenance: Provenance,
    *,
    platform: str,
    image_bytes: int,
) -> Image:
    """The image that `details` (the engine's inspection) describes; raises BuildFailed."""
    shown = one_line(provenance.reference, 120)
    config = details.get("Config") or {}
    _check_platform(details, shown, platform)
    size = int(details.get("Size") or 0)
    if size > image_bytes:
        raise BuildFailed(
            f"image {shown} is {size // MIB} MiB large, {image_bytes // MIB} MiB are allowed",
            remedy="make it smaller, or raise build.image_bytes",
        )
    if not _ID.fullmatch(str(details.get("Id"))):
        raise BuildFailed(f"image {shown} has no content digest", remedy="build it again")
    return Image(
        image_id=str(details["Id"]),
        reference=provenance.reference,
        interface=_interface(endpoint, config, shown),
        environment=_environment(config.get("Env") or (), shown),
        working_directory=_working_directory(config.get("WorkingDir") or "/", shown),
        volumes=_volumes(config.get("Volumes") or {}, shown),
        architecture=str(details.get("Architecture") or ""),
        size_bytes=size,
        content_digest=provenance.content_digest,
        build_seconds=provenance.build_seconds,
    )


def _check_platform(details: dict[str, Any], shown: str, platform: str) -> None:
    found = f"{details.get('Os') or 'linux'}/{details.get('Architecture') or 'unknown'}"
    if found != platform:
        raise BuildFailed(
            f"image {shown} is for {one_line(found, 60)}, this engine runs {platform}",
            remedy=f"build it with --platform {platform}",
        )


def _interface(endpoint: AgentEndpoint, config: dict[str, Any], shown: str) -> Interface:
    if endpoint.endpoint_type == "local":
        return FunctionInterface(
            module=endpoint.module_path or "", function=endpoint.function_name or ""
        )
    kind: Literal["stdio", "http"] = endpoint.interface or "stdio"
    own = [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]
    command = endpoint.command or tuple(str(word) for word in own)
    if not command or not command[0]:
        raise BuildFailed(
            f"image {shown} has neither ENTRYPOINT nor CMD, and no command was given",
            remedy='set command = ["PROGRAM", "ARGUMENT"] under [agent_endpoint]',
        )
    if kind == "http":
        return HttpInterface(command=command, port=endpoint.port)
    return StdioInterface(command=command)


def _environment(pairs: Sequence[str], shown: str) -> tuple[str, ...]:
    if len(pairs) > MAX_ENVIRONMENT or sum(map(len, pairs)) > MAX_ENVIRONMENT_BYTES:
        raise BuildFailed(
            f"image {shown} sets more than {MAX_ENVIRONMENT} variables or"
            f" {MAX_ENVIRONMENT_BYTES // 1024} KiB of them",
            remedy="remove some ENV",
        )
    return tuple(str(pair) for pair in pairs if "=" in pair)


def _working_directory(path: str, shown: str) -> str:
    if not path.startswith("/") or len(path) > 4096:
        raise BuildFailed(
            f"image {shown} has the working directory {one_line(path, 80)!r}",
            remedy="write an absolute WORKDIR",
        )
    return posixpath.normpath("/" + path.lstrip("/"))


def _volumes(declared: dict[str, Any], shown: str) -> tuple[str, ...]:
    if len(declared) > MAX_VOLUMES:
        raise BuildFailed(
            f"image {shown} declares {len(declared)} volumes, at most {MAX_VOLUMES} are allowed",
            remedy="remove some VOLUME",
        )
    paths = {_volume(path, shown) for path in declared}
    return tuple(sorted(paths))


def _volume(path: str, shown: str) -> str:
    normal = posixpath.normpath("/" + path.lstrip("/"))
    is_plain = path.startswith("/") and path.isprintable() and ":" not in path
    in_the_way = normal == "/" or any(_overlap(normal, reserved) for reserved in RESERVED)
    if not is_plain or ".." in path.split("/") or len(path) > MAX_PATH or in_the_way:
        raise BuildFailed(
            f"image {shown} declares the volume {one_line(path, 80)!r}, which cannot be mounted",
            remedy=f"declare an absolute path apart from {', '.join(RESERVED)}",
        )
    return normal


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(other + "/") or other.startswith(one + "/")
