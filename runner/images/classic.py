"""One build on the engine's classic builder, bounded, and gone without a trace if it fails."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from runner.domain.text import one_line
from runner.engine import EngineClient
from runner.errors import BuildFailed, EngineFailed, InsufficientResources, NotSetUp
from runner.images.buildlog import BuildLog
from runner.images.limits import GIB, MIB, BuildLimits
from runner.images.raw import get_json, inspect_image, post
from runner.images.reference import inspect
from runner.images.streaming import StreamStopped, stream

if TYPE_CHECKING:
    from docker.api.client import APIClient
    from requests import Response

CPU_PERIOD_MICROSECONDS = 100_000
SHARED_MEMORY_BYTES = 64 * MIB
SIZE_CHECK_SECONDS = 1.0
GONE_SECONDS = 15.0
FULL_DISK_BYTES = GIB // 2
LABEL = "io.agenttrace.submission"
BUILD_REMEDY = "see the build's log"


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """What is to be built."""

    context: IO[bytes]
    dockerfile: str
    """Name of the Dockerfile within the context."""
    digest: str
    arguments: dict[str, str]
    network: str


async def check_enforcement(engine: EngineClient) -> None:
    """Raises NotSetUp unless this engine's builder can hold a build to its limits."""
    info, version = await engine.call("info", lambda client: (client.info(), client.version()))
    components = [str(c.get("Name", "")) for c in version.get("Components") or ()]
    lacking = [name for name in ("MemoryLimit", "CpuCfsQuota") if not info.get(name)]
    if components and "Engine" not in components:
        lacking.append(f"a Docker engine ({one_line(', '.join(components), 80)} answers)")
    if info.get("OSType", "linux") != "linux":
        lacking.append("Linux containers")
    if lacking:
        raise NotSetUp(
            f"this engine cannot limit a build: it lacks {', '.join(lacking)}",
            remedy="use a Docker engine with the memory and cpu cgroup controllers",
        )


class ClassicBuild:
    """One build; `run` it once."""

    def __init__(
        self, engine: EngineClient, limits: BuildLimits, request: BuildRequest, log: BuildLog
    ) -> None:
        self._engine = engine
        self._limits = limits
        self._request = request
        self._log = log
        self._images_before: frozenset[str] = frozenset()
        self._written: dict[str, int] = {}
        self._next_size_check = 0.0
        self._disk = _local_disk(engine)
        self._free_before = 0

    async def run(self) -> str:
        """The id of the built image. Raises BuildFailed, InfrastructureError.

        Whatever happens, no container is left, and of images only the one that is returned; the
        caller discards that one with `discard` if it is no good.
        """
        self._images_before = await self._image_ids()
        self._free_before = _free(self._disk)
        try:
            await self._build()
        except BaseException:
            await self.discard()
            raise
        await self._remove_images()
        return self._log.image_id

    async def discard(self) -> None:
        """Removes all that the build made, the finished image too if it has no tag."""
        await self._containers_gone()
        await self._remove_unreported()
        await self._remove_images(self._log.image_id)

    # -- building ------------------------------------------------------------------------------

    async def _build(self) -> None:
        limits = self._limits
        try:
            await stream(
                self._engine,
                "build",
                self._send,
                self._log.receive,
                seconds=limits.seconds,
                watch=self._watch,
            )
        except StreamStopped as ended:
            raise self._failed(f"the build was stopped: {ended}") from None
        except EngineFailed as error:
            if 400 <= error.status < 500:
                reason = error.message.partition("`: ")[2] or error.message
                raise self._failed(f"the build failed: {one_line(reason)}") from error
            raise
        if self._log.error:
            raise self._blame()
        if not self._log.image_id:
            raise EngineFailed("the engine ended the build without a result")

    def _send(self, client: APIClient) -> Response:
        """As docker-py's `build`, which has no CPU quota and passes proxies and credentials on."""
        request, limits = self._request, self._limits
        parameters: dict[str, Any] = {
            "dockerfile": request.dockerfile,
            "rm": True,
            "forcerm": True,
            "version": "1",
            "memory": limits.memory_bytes,
            "memswap": limits.memory_bytes,
            "cpuperiod": CPU_PERIOD_MICROSECONDS,
            "cpuquota": int(limits.cpus * CPU_PERIOD_MICROSECONDS),
            "shmsize": SHARED_MEMORY_BYTES,
            "ulimits": json.dumps(_ulimits(limits)),
            "networkmode": request.network,
            "labels": json.dumps({LABEL: request.digest}),
            "buildargs": json.dumps(request.arguments),
        }
        return post(
            client, "/build", parameters=parameters, seconds=limits.seconds, tar=request.context
        )

    def _blame(self) -> Exception:
        """Whose fault the builder's error is: nearly always the submission's."""
        if self._log.error_code is None and self._log.error.endswith("no space left on device"):
            return InsufficientResources(
                "the engine's disk is full: an image could not be built", remedy="free some space"
            )
        return self._failed(f"the build failed: {self._log.reason}")

    def _failed(self, message: str) -> BuildFailed:
        return BuildFailed(
            message, remedy=f"{BUILD_REMEDY}: {one_line(str(self._log.path))}", log=self._log.kept
        )

    # -- watching ------------------------------------------------------------------------------

    async def _watch(self) -> str:
        if self._log.is_flooded:
            return "it printed too much"
        cap = self._limits.image_bytes
        if self._disk is not None:
            free = _free(self._disk)
            if (
                self._free_before - free > 2 * cap + GIB
                or free < FULL_DISK_BYTES < self._free_before
            ):
                return f"it filled the disk (build.image_bytes allows {cap // MIB} MiB)"
        if await self._bytes_written() > cap:
            return f"its steps wrote more than {cap // MIB} MiB (build.image_bytes)"
        return ""

    async def _bytes_written(self) -> int:
        """By all steps together, finished ones as they were when last looked at."""
        now = time.monotonic()
        if now >= self._next_size_check:
            for container in self._log.container_hints[-3:]:
                self._written[container] = max(
                    await self._written_in(container), self._written.get(container, 0)
                )
            took = time.monotonic() - now
            self._next_size_check = now + max(SIZE_CHECK_SECONDS, 5 * took)
        return sum(self._written.values())

    async def _written_in(self, container: str) -> int:
        def size(client: APIClient) -> int:
            details = get_json(client, "/containers/{0}/json", container, size=1)
            return int(details.get("SizeRw") or 0)

        try:
            return await self._engine.call("size of a build step", size)
        except EngineFailed:
            return 0

    # -- cleaning ------------------------------------------------------------------------------

    async def _image_ids(self) -> frozenset[str]:
        images = await self._engine.call("list images", lambda c: c.images(all=True, quiet=True))
        return frozenset(images)

    async def _containers_gone(self) -> None:
        """Waits until the engine, told to by `forcerm`, has removed the step that it was at."""
        deadline = time.monotonic() + GONE_SECONDS
        hints = self._log.container_hints[-3:]
        while time.monotonic() < deadline:
            if not await self._any_exists(hints):
                return
            await asyncio.sleep(0.1)

    async def _any_exists(self, hints: list[str]) -> bool:
        containers = await self._engine.call("list containers", lambda c: c.containers(all=True))
        return any(c["Id"].startswith(tuple(hints)) for c in containers) if hints else False

    async def _remove_images(self, finished: str = "") -> None:
        """Removes the layers that this build made and nobody else uses.

        A hint may be forged, so it counts only for an image without a name that came into being
        during the build; an image on which another rests is kept by the engine itself.
        """
        hints = tuple(dict.fromkeys(reversed(self._log.image_hints)))
        if finished:
            hints = (finished.removeprefix("sha256:")[:12], *hints)
        if not hints:
            return
        kept = "" if finished else self._log.image_id
        new = sorted(await self._image_ids() - self._images_before - {kept})
        ours = [i for h in hints for i in new if i.removeprefix("sha256:").startswith(h)]
        for image in dict.fromkeys(ours):
            await self._remove_if_nameless(image)

    async def _remove_unreported(self) -> None:
        """What the engine finished after we had stopped listening, the youngest first.

        Known by resting on what it did tell us of, or by our label, which the last step gives.
        """
        new = await self._image_ids() - self._images_before
        parents = {image: await self._parent(image) for image in new}
        heard = tuple(self._log.image_hints)
        ours = {i for i in new if heard and i.removeprefix("sha256:").startswith(heard)}
        unheard = await self._labelled() & new
        while more := {i for i, parent in parents.items() if parent in ours} - unheard - ours:
            unheard |= more
            ours |= more
        for image in sorted(unheard, key=lambda one: _depth(one, parents), reverse=True):
            await self._remove_if_nameless(image)

    async def _labelled(self) -> set[str]:
        filters = {"label": f"{LABEL}={self._request.digest}", "dangling": True}
        return set(
            await self._engine.call(
                "list images", lambda client: client.images(quiet=True, filters=filters)
            )
        )

    async def _parent(self, image: str) -> str:
        """The image that a step of a build began with; empty where there is none."""
        details = await inspect(self._engine, image)
        return str((details or {}).get("Parent") or "")

    async def _remove_if_nameless(self, image: str) -> None:
        def remove(client: APIClient) -> None:
            if not inspect_image(client, image).get("RepoTags"):
                client.remove_image(image, noprune=True)

        try:
            await self._engine.call("remove a layer", remove)
        except EngineFailed as error:
            if error.status not in (404, 409):
                raise


def _depth(image: str, parents: dict[str, str]) -> int:
    """On how many of the others it rests."""
    depth = 0
    while (image := parents.get(image, "")) in parents:
        depth += 1
    return depth


def _ulimits(limits: BuildLimits) -> list[dict[str, Any]]:
    # No nofile: a runtime cannot raise it above the engine's own, which differs between hosts.
    values = {"fsize": limits.image_bytes, "core": 0}
    return [{"Name": name, "Soft": value, "Hard": value} for name, value in values.items()]


def _local_disk(engine: EngineClient) -> Path | None:
    """Where a local engine keeps images, if we can see it; None for a remote one."""
    root = Path(engine.info.root_directory or "/nonexistent")
    return root if engine.address.socket_path is not None and root.is_dir() else None


def _free(disk: Path | None) -> int:
    return shutil.disk_usage(disk).free if disk is not None else 0
