"""From each connection that the agent makes inside its container to the gateway on this host."""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType

from runner.ports import GatewayAccess
from runner.transport.link import Link
from runner.transport.stream import Stream

_log = logging.getLogger(__name__)


class Relay:
    """While it is entered, serves the agent's connections; on exit none is left."""

    def __init__(self, link: Link, access: GatewayAccess, most: int) -> None:
        self._link = link
        self._access = access
        self._most = most
        self._serving: dict[asyncio.Task[None], Stream] = {}

    async def __aenter__(self) -> Relay:
        self._link.accept(self._most, self._begin)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._link.accept(self._most, Stream.abandon)  # until the shim is told to stop
        tasks = list(self._serving)
        for task, stream in self._serving.items():
            stream.abandon()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, stream: Stream) -> None:
        task = asyncio.create_task(self._serve(stream))
        self._serving[task] = stream
        task.add_done_callback(self._serving.pop)

    async def _serve(self, stream: Stream) -> None:
        try:
            await self._access.serve(stream)
        except ConnectionError:
            pass  # the agent went away; told to the log, it could fill that
        except Exception:  # noqa: BLE001 - a fault of ours must not end the others
            _log.exception("a connection of an agent's could not be served to its end")
        finally:
            await stream.close()
