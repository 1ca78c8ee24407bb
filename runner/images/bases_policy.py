"""What a Dockerfile may start from and unpack: looked up before the engine sees it."""

from __future__ import annotations

import posixpath
import tarfile
from fnmatch import fnmatchcase
from typing import IO

from runner.domain.text import one_line
from runner.engine import EngineClient
from runner.errors import BuildFailed
from runner.images.dockerfile import Dockerfile
from runner.images.limits import BuildLimits
from runner.images.reference import (
    OWN_NAMESPACE,
    Details,
    check_reference,
    inspect,
    is_identity,
    pull,
)
from runner.ports import Say

ARCHIVE_STARTS = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"\x5d\x00\x00")
USTAR = slice(257, 262)


async def resolve_bases(
    engine: EngineClient, parsed: Dockerfile, base_image: str, limits: BuildLimits, say: Say
) -> dict[str, str]:
    """The id of each image that the Dockerfile starts from, pulled if need be."""
    ids: dict[str, str] = {}
    for image in parsed.bases:
        if image != base_image:
            _check_allowed(image, parsed.shown, limits)
        details = await inspect(engine, image)
        if details is None:
            say(f"Pulling {one_line(image)}")
            details = await pull(engine, image, limits.pull_seconds)
        _check_triggers(image, details, parsed.shown)
        ids[image] = details["Id"]
    return ids


def _check_allowed(image: str, shown: str, limits: BuildLimits) -> None:
    check_reference(image, f"{shown}: FROM")
    if is_identity(image) or image.startswith((OWN_NAMESPACE, f"docker.io/{OWN_NAMESPACE}")):
        raise BuildFailed(
            f"{shown}: FROM {one_line(image, 80)}: an image of the runner's own, or an id",
            remedy="use ARG BASE_IMAGE and FROM ${BASE_IMAGE}, or a public image by name",
        )
    allowed = limits.allowed_bases
    if allowed and not any(fnmatchcase(image, pattern) for pattern in allowed):
        raise BuildFailed(
            f"{shown}: FROM {one_line(image, 120)} is not allowed here",
            remedy=f"use ${{BASE_IMAGE}} or one of: {', '.join(allowed)}",
        )


def _check_triggers(image: str, details: Details, shown: str) -> None:
    if (details.get("Config") or {}).get("OnBuild"):
        raise BuildFailed(
            f"{shown}: FROM {one_line(image, 120)} has ONBUILD instructions",
            remedy="start from an image without them",
        )


def check_added(context: IO[bytes], parsed: Dockerfile) -> None:
    """Raises BuildFailed if an ADD names an archive, which the engine unpacks unlimited."""
    sources = [
        (line, source, posixpath.normpath("/" + source).lstrip("/"))
        for line, names in parsed.added()
        for source in names
    ]
    if not sources:
        return
    with tarfile.open(fileobj=context, mode="r:") as archive:
        for line, source, path in sources:
            if _is_archive(archive, path):
                raise BuildFailed(
                    f"{parsed.shown}, line {line}: ADD would unpack {one_line(source, 80)}",
                    remedy="use COPY, and unpack it in a RUN step",
                )
    context.seek(0)


def _is_archive(archive: tarfile.TarFile, path: str) -> bool:
    try:
        member = archive.getmember(path)
        if not (member.isfile() or member.issym()):
            return False
        file = archive.extractfile(member)
    except KeyError:
        # Missing, or reached through a link to a directory: whoever needs that can use COPY.
        return path != ""
    start = file.read(512) if file else b""
    return start.startswith(ARCHIVE_STARTS) or start[USTAR] == b"ustar"
