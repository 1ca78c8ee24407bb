"""Requests that docker-py has no public method for; the only place that uses private ones."""

# ruff: noqa: SLF001 - private methods are what this module is for

from __future__ import annotations

import socket
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from docker.api.client import APIClient
    from requests import Response


def post(
    client: APIClient,
    path: str,
    *,
    parameters: dict[str, Any],
    seconds: float,
    tar: IO[bytes] | None = None,
) -> Response:
    """A POST whose answer is a stream: with no credentials, proxies or defaults added."""
    api = cast("Any", client)
    response: Response = api._post(
        api._url(path),
        data=tar,
        params=parameters,
        headers={"Content-Type": "application/x-tar"} if tar else {},
        stream=True,
        timeout=seconds,
    )
    return response


def get_json(client: APIClient, path: str, *names: str, **parameters: object) -> dict[str, Any]:
    """A GET; `names` are filled into the path, quoted. Raises docker's APIError."""
    api = cast("Any", client)
    answer: dict[str, Any] = api._result(
        api._get(api._url(path, *names), params=parameters), json=True
    )
    return answer


def socket_of(client: APIClient, response: Response) -> socket.socket:
    """The connection of a streamed answer. Raises docker's APIError if the answer is an error."""
    raw = cast("Any", client)._get_raw_response_socket(response)
    connection: socket.socket = getattr(raw, "_sock", raw)
    return connection


def inspect_image(client: APIClient, reference: str) -> dict[str, Any]:
    """The engine's own description of an image. Raises docker's APIError."""
    return cast("dict[str, Any]", cast("Any", client).inspect_image(reference))
