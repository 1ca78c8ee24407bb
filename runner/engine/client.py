"""Calls to the engine: from threads, one client each, every call under a deadline of ours."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import docker
import docker.errors
import docker.tls
import requests.exceptions

from runner.engine.info import EngineInfo, parse_info
from runner.engine.locate import EngineAddress
from runner.errors import EngineFailed, EngineUnavailable

if TYPE_CHECKING:
    from docker.api.client import APIClient

T = TypeVar("T")

CALL_SECONDS = 60
"""How long an ordinary call may take; starting a container on a loaded host can take 10 s."""
CONNECT_SECONDS = 5
MAX_THREADS = 32


class EngineClient:
    """One engine, shared by all rooms that talk to it.

    Shared docker-py clients hang now and then (docker-py issues 3229, 3409), so each thread of a
    pool has its own. Close it, or use it as a context manager.
    """

    def __init__(self, address: EngineAddress, call_seconds: float = CALL_SECONDS) -> None:
        self.address = address
        self._call_seconds = call_seconds
        self._threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="engine")
        self._local = threading.local()
        self._clients: list[APIClient] = []

    def __enter__(self) -> EngineClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the threads and closes their connections; running calls finish first."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        for client in self._clients:
            client.close()

    async def call(
        self, what: str, function: Callable[[APIClient], T], seconds: float | None = None
    ) -> T:
        """The value of `function(client)`, run in a thread.

        `what` names the call in errors ("create container"). Raises EngineUnavailable when the
        engine cannot be reached, EngineFailed when it refuses or takes longer than `seconds`.
        A call that was cancelled or timed out may still take effect: names are deterministic so
        that the caller can find out.
        """
        seconds = seconds or self._call_seconds
        running = asyncio.get_running_loop().run_in_executor(
            self._threads, self.call_blocking, what, function, seconds
        )
        try:
            return await asyncio.wait_for(running, seconds + CONNECT_SECONDS)
        except TimeoutError as error:
            raise EngineFailed(
                f"the engine did not finish `{what}` within {seconds:g} s",
                remedy="check the engine's load and log",
            ) from error

    async def in_thread(self, work: Callable[[], T]) -> T:
        """The value of `work`, which calls `call_blocking` several times, each with a deadline."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def call_blocking(
        self, what: str, function: Callable[[APIClient], T], seconds: float | None = None
    ) -> T:
        """As `call`, in the caller's own thread."""
        seconds = seconds or self._call_seconds
        try:
            client = self._client_of_this_thread()
            client.timeout = math.ceil(seconds)
            return function(client)
        except docker.errors.APIError as error:
            raise _refusal(what, error) from error
        except docker.errors.DockerException as error:
            raise _unreachable(self.address, error) from error
        except (requests.exceptions.Timeout, TimeoutError) as error:
            raise EngineFailed(
                f"the engine did not answer `{what}` within {seconds:g} s",
                remedy="check the engine's load and log",
            ) from error
        except (requests.exceptions.RequestException, OSError) as error:
            raise _unreachable(self.address, error) from error

    @cached_property
    def info(self) -> EngineInfo:
        """What this engine is and can do; asked once, blocking (a few ms)."""
        return self.call_blocking(
            "info", lambda client: parse_info(client.info(), client.version())
        )

    def _client_of_this_thread(self) -> APIClient:
        client: APIClient | None = getattr(self._local, "client", None)
        if client is None:
            client = self._connect()
            self._local.client = client
            self._clients.append(client)
        return client

    def _connect(self) -> APIClient:
        return docker.APIClient(
            base_url=self.address.url,
            version=self._api_version,
            tls=self._tls() or False,
            timeout=CALL_SECONDS,
        )

    @cached_property
    def _api_version(self) -> str:
        """The newest API that both sides know, negotiated once and not once per thread."""
        with docker.APIClient(
            base_url=self.address.url,
            version="auto",
            tls=self._tls() or False,
            timeout=CONNECT_SECONDS,
        ) as client:
            return str(client.api_version)

    def _tls(self) -> docker.tls.TLSConfig | None:
        directory = self.address.tls_directory
        if directory is None:
            return None
        return docker.tls.TLSConfig(
            client_cert=(str(directory / "cert.pem"), str(directory / "key.pem")),
            ca_cert=str(directory / "ca.pem"),
            verify=True,
        )


def _refusal(what: str, error: docker.errors.APIError) -> EngineFailed:
    status = error.response.status_code if error.response is not None else 0
    reason = " ".join(str(error.explanation or error).split())
    return EngineFailed(f"the engine refused `{what}`: {reason}", status=status)


def _unreachable(address: EngineAddress, error: Exception) -> EngineUnavailable:
    where = f"{address.url} (from {address.origin})"
    if _caused_by(error, PermissionError):
        return EngineUnavailable(
            f"no permission to use the engine at {where}",
            remedy="`sudo usermod -aG docker $USER` and log in again, or use sudo",
        )
    return EngineUnavailable(
        f"no engine answers at {where}",
        remedy="start it, or run `agenttrace setup`; DOCKER_HOST selects another",
    )


def _caused_by(error: BaseException, kind: type[BaseException]) -> bool:
    """Whether `kind` is anywhere in the chain of causes, urllib3's nested arguments included."""
    seen: set[int] = set()
    pending: list[object] = [error]
    while pending:
        current = pending.pop()
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        if isinstance(current, kind):
            return True
        seen.add(id(current))
        pending += [current.__cause__, current.__context__, getattr(current, "reason", None)]
        pending += current.args
    return False
