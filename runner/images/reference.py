"""Images by name: found on the engine, else pulled, without the operator's credentials."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from docker.utils import parse_repository_tag

from runner.domain.text import one_line
from runner.engine import EngineClient
from runner.errors import BuildFailed, EngineFailed
from runner.images.raw import inspect_image, post
from runner.images.streaming import Message, StreamStopped, stream

if TYPE_CHECKING:
    from docker.api.client import APIClient
    from requests import Response

OWN_NAMESPACE = "agenttrace/"
"""Images of ours, other submissions' among them: no Dockerfile starts from one by name."""

_REFERENCE = re.compile(
    r"(?:(?=localhost[:/]|[^/]*[.:])[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]{1,5})?/)?"
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
_IDENTITY = re.compile(r"sha256:[0-9a-f]{64}|[0-9a-f]{12,64}")

Details = dict[str, Any]


def is_identity(reference: str) -> bool:
    """Whether it is the id of an image, or could be the start of one."""
    return _IDENTITY.fullmatch(reference) is not None


def check_reference(reference: str, shown: str) -> None:
    """Raises BuildFailed unless `reference` can name an image."""
    if len(reference) > 512 or not (_REFERENCE.fullmatch(reference) or is_identity(reference)):
        raise BuildFailed(
            f"{shown}: {one_line(reference, 120)!r} is not an image reference",
            remedy="write name:tag, name@sha256:..., or an image id; names are in lower case",
        )


async def inspect(engine: EngineClient, reference: str) -> Details | None:
    """The engine's own description of an image that it has; None when it has not."""

    try:
        return await engine.call("inspect image", lambda client: inspect_image(client, reference))
    except EngineFailed as error:
        if error.not_found:
            return None
        raise


async def pull(engine: EngineClient, reference: str, seconds: float) -> Details:
    """Pulls an image within `seconds`; raises BuildFailed that names it and what to do."""
    errors: list[str] = []

    def receive(message: Message) -> None:
        if "error" in message:
            errors.append(str(message["error"]))

    def send(client: APIClient) -> Response:
        repository, tag = parse_repository_tag(reference)
        parameters = {"fromImage": repository, "tag": tag or "latest"}
        return post(client, "/images/create", parameters=parameters, seconds=seconds)

    try:
        await stream(engine, "pull image", send, receive, seconds=seconds)
    except StreamStopped as ended:
        errors.append(str(ended))
    except EngineFailed as error:
        errors.append(error.message.partition(": ")[2] or error.message)
    details = None if errors else await inspect(engine, reference)
    if details is None:
        raise _missing(reference, errors)
    return details


def _missing(reference: str, errors: list[str]) -> BuildFailed:
    reason = f": {one_line(errors[-1], 160)}" if errors else ""
    return BuildFailed(
        f"image {one_line(reference, 120)} is not on this engine and could not be pulled{reason}",
        remedy="check the name; or `docker pull`/`docker load` it first; or submit an archive",
    )
