"""Calls under our deadlines, and what their failures are called."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker.errors
import pytest
import requests
import urllib3

from runner.engine import EngineAddress, EngineClient
from runner.engine import client as client_module
from runner.errors import EngineFailed, EngineUnavailable


class Api:
    """Stands for docker-py's client."""

    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.thread = threading.get_ident()
        self.timeout = 0
        self.closed = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineClient]:
    monkeypatch.setattr(Api, "made", 0)
    monkeypatch.setattr(EngineClient, "_connect", lambda _self: Api())
    with EngineClient(EngineAddress(url="unix:///x", origin="test"), call_seconds=20) as client:
        yield client


def raising(error: BaseException) -> Any:
    def function(_api: object) -> None:
        raise error

    return function


def refused(status: int, explanation: str) -> docker.errors.APIError:
    response = requests.Response()
    response.status_code = status
    return docker.errors.APIError("x", response=response, explanation=explanation)


async def test_each_thread_has_a_client_of_its_own(client: EngineClient) -> None:
    together = threading.Barrier(3)

    def meet(api: Api) -> bool:
        together.wait(20)
        return api.thread == threading.get_ident()

    assert await asyncio.gather(*(client.call("meet", meet) for _ in range(3))) == [True] * 3
    assert Api.made == 3


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (refused(404, "No such\n container"), EngineFailed, "refused `x`: No such container"),
        (refused(409, "conflict"), EngineFailed, "conflict"),
        (requests.exceptions.ReadTimeout(), EngineFailed, "did not answer `x` within 20 s"),
        (TimeoutError(), EngineFailed, "did not answer"),
        (requests.exceptions.ConnectionError(), EngineUnavailable, "no engine answers"),
        (ConnectionResetError(), EngineUnavailable, "no engine answers at unix:///x"),
        (docker.errors.DockerException("odd"), EngineUnavailable, "no engine answers"),
    ],
)
async def test_failures_by_their_names(
    client: EngineClient, error: Exception, kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says):
        await client.call("x", raising(error))


async def test_a_permission_is_found_wherever_it_hides(client: EngineClient) -> None:
    aborted = urllib3.exceptions.ProtocolError("aborted", PermissionError(13, "denied"))
    hidden = requests.exceptions.ConnectionError(aborted)
    with pytest.raises(EngineUnavailable, match="no permission"):
        await client.call("x", raising(hidden))


async def test_not_found_is_told_from_other_refusals(client: EngineClient) -> None:
    for status, not_found in ((404, True), (500, False)):
        with pytest.raises(EngineFailed) as caught:
            await client.call("x", raising(refused(status, "x")))
        assert caught.value.not_found is not_found


async def test_a_call_that_hangs_is_given_up(
    client: EngineClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "CONNECT_SECONDS", 0)
    go_on = threading.Event()
    try:
        with pytest.raises(EngineFailed, match="did not finish `x` within"):
            await client.call("x", lambda _api: go_on.wait(20), seconds=0.01)
    finally:
        go_on.set()


async def test_values_and_errors_of_our_own_come_through(client: EngineClient) -> None:
    assert await client.call("x", lambda _api: 7) == 7
    with pytest.raises(KeyError):
        await client.call("x", raising(KeyError()))


def test_closing_closes_every_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Api] = []

    def connect(_self: EngineClient) -> Api:
        made.append(Api())
        return made[-1]

    monkeypatch.setattr(EngineClient, "_connect", connect)
    with EngineClient(EngineAddress(url="unix:///x", origin="test")) as client:
        client.call_blocking("x", lambda api: api)
    assert [api.closed for api in made] == [True]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_engine_at_all(tmp_path: Path) -> None:
    """docker-py leaves it to the garbage collector to close a socket that did not connect."""
    address = EngineAddress(url=f"unix://{tmp_path}/none.sock", origin="test")
    with EngineClient(address) as client, pytest.raises(EngineUnavailable, match=r"none\.sock"):
        client.call_blocking("ping", lambda api: api.ping())
    gc.collect()
