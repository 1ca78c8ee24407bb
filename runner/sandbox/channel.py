"""The byte stream to the shim: the container's attached stdin and stdout."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from runner.sandbox.pump import pumped

if TYPE_CHECKING:
    from docker.api.client import APIClient

STREAM_HEADER = struct.Struct("!BxxxI")
"""The engine's own multiplexing: stream number, three zeros, length (its API, "Attach")."""
STDOUT, STDERR = 1, 2
MAX_CHUNK = 16 * 1024 * 1024
DIAGNOSTIC_BYTES = 10_000
"""What is kept of the shim's own stderr, and of what the runtime says when it cannot start it."""


class AttachedChannel:
    """Implements ports.ByteChannel; close it."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, keep_alive: Any
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._keep_alive = keep_alive
        self._diagnostics = bytearray()

    async def read(self) -> bytes:
        """See ports.ByteChannel; stderr is kept aside."""
        while True:
            try:
                header = await self._reader.readexactly(STREAM_HEADER.size)
                stream, length = STREAM_HEADER.unpack(header)
                if length > MAX_CHUNK:
                    return b""
                data = await self._reader.readexactly(length)
            except (asyncio.IncompleteReadError, ConnectionError, OSError):
                return b""
            if stream == STDOUT and data:
                return data
            self._diagnostics += data[: DIAGNOSTIC_BYTES - len(self._diagnostics)]

    async def write(self, data: bytes) -> None:
        """See ports.ByteChannel."""
        self._writer.write(data)
        await self._writer.drain()

    @property
    def diagnostics(self) -> str:
        """What the shim or the runtime wrote to stderr."""
        return self._diagnostics.decode("utf-8", "replace")

    async def close(self) -> None:
        """Closes the connection; the shim ends itself when it notices."""
        self._writer.close()
        try:
            with suppress(OSError):
                await self._writer.wait_closed()
        finally:
            self._keep_alive.close()


def attach(client: APIClient, container: str) -> tuple[socket.socket, Any]:
    """A socket to the container's stdin, stdout and stderr, and what must be closed with it.

    Attach before start, so that nothing is missed.
    """
    wrapper = _attached(client, container)
    raw = getattr(wrapper, "_sock", wrapper)
    if type(raw) is socket.socket:
        return raw, wrapper
    ours = pumped(raw)
    return ours, ours


def _attached(client: Any, container: str) -> Any:
    """As docker-py's `attach_socket`, which waits for ever for an engine that does not answer."""
    response = client._post(  # noqa: SLF001 - has the client's deadline
        client._url("/containers/{0}/attach", container),  # noqa: SLF001
        params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1},
        headers={"Connection": "Upgrade", "Upgrade": "tcp"},
        stream=True,
    )
    return client._get_raw_response_socket(response)  # noqa: SLF001


async def open_channel(raw: socket.socket, keep_alive: Any) -> AttachedChannel:
    """The channel over an attached socket."""
    try:
        raw.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=raw)
    except BaseException:
        raw.close()
        keep_alive.close()
        raise
    return AttachedChannel(reader, writer, keep_alive)
