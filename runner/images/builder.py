"""A submission becomes a runnable image: built, pulled or loaded under limits, then inspected."""

from __future__ import annotations

import asyncio
import hashlib
import posixpath
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from runner.domain import BenchmarkSubmission, Image
from runner.domain.submission import AgentEndpoint
from runner.domain.text import one_line
from runner.engine import EngineClient
from runner.errors import BuildFailed, EngineFailed, InvalidSubmission, StorageFailed
from runner.images import local
from runner.images.archive import CleanArchive, clean_archive
from runner.images.bases_policy import check_added, resolve_bases
from runner.images.buildlog import BuildLog
from runner.images.classic import BuildRequest, ClassicBuild, check_enforcement
from runner.images.context import Context
from runner.images.dockerfile import BASE_ARGUMENT, MAX_DOCKERFILE_BYTES, parse_dockerfile
from runner.images.ignore import IgnoreRules, read_ignore_lines
from runner.images.inspection import Provenance, runnable_image
from runner.images.limits import BuildLimits
from runner.images.raw import post
from runner.images.reference import Details, check_reference, inspect, pull
from runner.images.requirements import render_requirements
from runner.images.streaming import Send, StreamStopped, stream
from runner.images.wheels import PythonPlatform, WheelCache, probe_python
from runner.ports import Say

if TYPE_CHECKING:
    from docker.api.client import APIClient
    from requests import Response

REPOSITORY = "agenttrace/submission"
OUR_DOCKERFILE = ".agenttrace.Dockerfile"
DIGEST_DIGITS = 16


class SubmissionImages:
    """Makes submissions runnable; a `ports.ImageProvider`.

    `base_image` is the id of what Python submissions are built on, and the value of BASE_IMAGE for
    Dockerfiles. Build output goes to `log_directory`; resolved wheels are kept in `wheel_directory`
    (by default `wheels` within it). Builds of one provider run one after the other.
    """

    def __init__(
        self,
        engine: EngineClient,
        base_image: str,
        limits: BuildLimits,
        log_directory: Path,
        wheel_directory: Path | None = None,
    ) -> None:
        self._engine = engine
        self._base_image = base_image
        self._limits = limits
        self._logs = log_directory
        self._wheels = WheelCache(wheel_directory or log_directory / "wheels", limits)
        self._python: PythonPlatform | None = None
        self._enforcement_checked = False
        self._building = asyncio.Lock()

    async def prepare(self, submission: BenchmarkSubmission, say: Say) -> Image:
        """The image of this submission, built if its content was not built before.

        Raises BuildFailed (the submission's fault), InvalidSubmission (of a kind that cannot be
        built) and InfrastructureError (ours). Leaves nothing but the finished image behind.
        """
        endpoint = submission.agent_endpoint
        async with self._building:
            if endpoint.endpoint_type == "local":
                return await self._local(endpoint, say)
            if endpoint.dockerfile:
                return await self._dockerfile(endpoint, endpoint.dockerfile, say)
            if endpoint.archive:
                return await self._archive(endpoint, endpoint.archive, say)
            if endpoint.image:
                return await self._reference(endpoint, endpoint.image, say)
        raise InvalidSubmission(
            f"agent_endpoint.endpoint_type = {endpoint.endpoint_type!r} cannot be run yet",
            remedy="submit the agent as local or container",
        )

    # -- the four kinds ------------------------------------------------------------------------

    async def _local(self, endpoint: AgentEndpoint, say: Say) -> Image:
        lines = local.read_requirements(endpoint)
        with Context(self._limits) as context:
            await asyncio.to_thread(local.add_code, context, endpoint)
            wanted = render_requirements(lines).decode()
            digest = _digest(local.RECIPE, self._base_image, wanted, context.digest)
            provenance = _provenance(endpoint, digest)
            if known := await self._known(digest):
                return self._image(known, endpoint, provenance)
            installer = None
            if lines:
                say(f"Resolving {len(lines)} requirement(s) to wheels")
                platform = await self._python_platform()
                installer = await self._wheels.installer(platform)
                wheels = await self._wheels.wheels(lines, platform)
                await asyncio.to_thread(local.add_wheels, context, lines, wheels, installer)
            context.add_bytes(OUR_DOCKERFILE, local.dockerfile(installer))
            say("Building the agent's image")
            # Nothing that we install needs a network, whatever a Dockerfile may be allowed.
            return await self._build(context, endpoint, digest, network="none", has_base=True)

    async def _dockerfile(self, endpoint: AgentEndpoint, name: str, say: Say) -> Image:
        source = local.source_directory(endpoint)
        parsed = parse_dockerfile(
            _read_dockerfile(source, name),
            one_line(str(source / name)),
            base_image=self._base_image,
            platform=self._engine.info.platform,
        )
        ids = await resolve_bases(self._engine, parsed, self._base_image, self._limits, say)
        with Context(self._limits) as context:
            rules = IgnoreRules([*read_ignore_lines(source), f"!{posixpath.normpath(name)}"])
            await asyncio.to_thread(context.add_tree, source, rules)
            context.add_bytes(OUR_DOCKERFILE, parsed.render(ids))
            digest = _digest("dockerfile-1", self._base_image, self._limits.network, context.digest)
            if known := await self._known(digest):
                return self._image(known, endpoint, _provenance(endpoint, digest))
            await asyncio.to_thread(check_added, context.finished(), parsed)
            say(f"Building {one_line(name)}")
            return await self._build(
                context,
                endpoint,
                digest,
                network=self._limits.network,
                has_base=parsed.declares_base_argument,
            )

    async def _archive(self, endpoint: AgentEndpoint, name: str, say: Say) -> Image:
        path = local.source_directory(endpoint) / name
        if not path.is_file():
            raise BuildFailed(
                f"archive {one_line(str(path))} does not exist", remedy="correct the path"
            )
        say(f"Reading {one_line(name)}")
        rewriting = clean_archive(path, self._limits)
        clean = await asyncio.to_thread(rewriting.__enter__)
        try:
            digest = _digest("archive-1", clean.digest)
            provenance = _provenance(endpoint, digest)
            if known := await self._known(digest):
                return self._image(known, endpoint, provenance)
            say(f"Loading {one_line(name)}")
            return await self._load(clean, endpoint, digest)
        finally:
            rewriting.__exit__(None, None, None)

    async def _reference(self, endpoint: AgentEndpoint, reference: str, say: Say) -> Image:
        check_reference(reference, "agent_endpoint.image")
        details = await inspect(self._engine, reference)
        if details is not None:
            return self._image(details, endpoint, _provenance(endpoint, ""))
        say(f"Pulling {one_line(reference)}")
        before = await self._image_ids()
        details = await pull(self._engine, reference, self._limits.pull_seconds)
        try:
            return self._image(details, endpoint, _provenance(endpoint, ""))
        except BuildFailed:
            if details["Id"] not in before:
                await self._remove(reference)
            raise

    # -- making --------------------------------------------------------------------------------

    async def _build(
        self,
        context: Context,
        endpoint: AgentEndpoint,
        digest: str,
        *,
        network: str,
        has_base: bool,
    ) -> Image:
        await self._check_enforcement()
        log = BuildLog(self._logs / f"build-{digest[:DIGEST_DIGITS]}.log")
        request = BuildRequest(
            context=context.finished(),
            dockerfile=OUR_DOCKERFILE,
            digest=digest,
            arguments={BASE_ARGUMENT: self._base_image} if has_base else {},
            network=network,
        )
        build = ClassicBuild(self._engine, self._limits, request, log)
        started = time.monotonic()
        try:
            built = await build.run()
            seconds = time.monotonic() - started
            try:
                details = await inspect(self._engine, built)
                provenance = _provenance(endpoint, digest, seconds)
                image = self._image(details or {}, endpoint, provenance)
                await self._tag(built, digest)
            except BaseException:
                await asyncio.shield(build.discard())
                raise
        finally:
            _write(log)
        return image

    async def _load(self, clean: CleanArchive, endpoint: AgentEndpoint, digest: str) -> Image:
        before = await self._image_ids()
        log = BuildLog(self._logs / f"load-{digest[:DIGEST_DIGITS]}.log")

        def send(client: APIClient) -> Response:
            seconds = self._limits.seconds
            return post(
                client, "/images/load", parameters={"quiet": "1"}, seconds=seconds, tar=clean.file
            )

        try:
            await self._stream_load(send, log, endpoint)
            details = await self._loaded(clean.image_id)
            image = self._image(details, endpoint, _provenance(endpoint, digest))
            await self._tag(clean.image_id, digest)
        except BaseException:
            if clean.image_id not in before:
                await asyncio.shield(self._remove(clean.image_id))
            raise
        finally:
            _write(log)
        return image

    async def _loaded(self, image_id: str) -> Details:
        details = await inspect(self._engine, image_id)
        if details is None:
            raise EngineFailed("the engine loaded another image than the archive holds")
        return details

    async def _stream_load(self, send: Send, log: BuildLog, endpoint: AgentEndpoint) -> None:
        shown = one_line(endpoint.archive or "")
        remedy = "make it with `docker save -o FILE IMAGE`"
        try:
            await stream(
                self._engine, "load image", send, log.receive, seconds=self._limits.seconds
            )
        except StreamStopped as ended:
            raise BuildFailed(f"archive {shown} was not loaded: {ended}", remedy=remedy) from None
        except EngineFailed as error:
            if error.status:
                raise BuildFailed(
                    f"archive {shown} was not loaded: {one_line(error.message)}", remedy=remedy
                ) from error
            raise
        if log.error:
            raise BuildFailed(
                f"archive {shown} was not loaded: {log.reason}", remedy=remedy, log=log.kept
            )

    async def _python_platform(self) -> PythonPlatform:
        if self._python is None:
            self._python = await probe_python(self._engine, self._base_image)
        return self._python

    async def _check_enforcement(self) -> None:
        if not self._enforcement_checked:
            await check_enforcement(self._engine)
            self._enforcement_checked = True

    # -- images of the engine ------------------------------------------------------------------

    def _image(self, details: Details, endpoint: AgentEndpoint, provenance: Provenance) -> Image:
        return runnable_image(
            details,
            endpoint,
            provenance,
            platform=self._engine.info.platform,
            image_bytes=self._limits.image_bytes,
        )

    async def _known(self, digest: str) -> Details | None:
        """The image that was made of this content before, if it is still there."""
        return await inspect(self._engine, f"{REPOSITORY}:{digest[:DIGEST_DIGITS]}")

    async def _tag(self, image: str, digest: str) -> None:
        tag = digest[:DIGEST_DIGITS]
        await self._engine.call("tag image", lambda client: client.tag(image, REPOSITORY, tag))

    async def _image_ids(self) -> frozenset[str]:
        ids = await self._engine.call("list images", lambda c: c.images(all=True, quiet=True))
        return frozenset(ids)

    async def _remove(self, image: str) -> None:
        with suppress(EngineFailed):
            await self._engine.call("remove image", lambda client: client.remove_image(image))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _provenance(endpoint: AgentEndpoint, digest: str, build_seconds: float = 0.0) -> Provenance:
    named = endpoint.image or endpoint.archive or endpoint.dockerfile
    return Provenance(
        reference=named or f"{endpoint.module_path}:{endpoint.function_name}",
        content_digest=f"sha256:{digest}" if digest else "",
        build_seconds=build_seconds,
    )


def _read_dockerfile(source: Path, name: str) -> bytes:
    path = source / name
    shown = one_line(str(path))
    if not path.is_file() or not path.resolve().is_relative_to(source.resolve()):
        raise BuildFailed(
            f"{shown} is not a file of the submission", remedy="correct agent_endpoint.dockerfile"
        )
    with path.open("rb") as file:
        return file.read(MAX_DOCKERFILE_BYTES + 1)


def _write(log: BuildLog) -> None:
    try:
        log.write()
    except OSError as error:
        raise StorageFailed(
            f"the build's log {one_line(str(log.path))} could not be written: {error.strerror}",
            remedy="check its directory, and the disk's free space",
        ) from error
