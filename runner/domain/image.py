"""A submission made runnable: an image by digest, and how its agent is started."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from runner.domain.base import Noun


class FunctionInterface(Noun):
    """A Python function; a driver in the container imports and calls it."""

    kind: Literal["function"] = "function"
    module: str
    function: str


class StdioInterface(Noun):
    """A process: `{"prompt", "config"}` as JSON on stdin, the answer is its stdout."""

    kind: Literal["stdio"] = "stdio"
    command: tuple[str, ...] = Field(min_length=1)


class HttpInterface(Noun):
    """A server: POST /invoke with `{"prompt", "config"}`, answered by `{"output"}`."""

    kind: Literal["http"] = "http"
    command: tuple[str, ...] = Field(min_length=1)
    port: int


Interface = Annotated[
    FunctionInterface | StdioInterface | HttpInterface, Field(discriminator="kind")
]


class Image(Noun):
    """What a sandbox runs. Everything but `image_id` is the submitter's word about the image."""

    image_id: str
    """The engine's content digest of the image's configuration, `sha256:...`."""
    reference: str
    """What the submission called it."""
    interface: Interface
    environment: tuple[str, ...] = ()
    """The image's ENV, `NAME=value`; given to the agent, never to the shim."""
    working_directory: str = "/"
    volumes: tuple[str, ...] = ()
    """Paths that the image declares as VOLUME; each becomes a sized tmpfs."""
    architecture: str = ""
    size_bytes: int = 0
    content_digest: str = ""
    """Of what it was built from; identical input builds once."""
    build_seconds: float = 0.0
    """0 when nothing had to be built."""
