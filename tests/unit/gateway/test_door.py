from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from runner.gateway.cycle import Application, Message, Receive, Send
from runner.gateway.door import Door


class Behind:
    """An application with a life of its own, and what became of it."""

    def __init__(self) -> None:
        self.life: list[str] = []
        self.tasks: list[asyncio.Task[Any] | None] = []
        self.heard: list[Message] = []
        self.error: Exception | None = None

    async def opening(self) -> AbstractAsyncContextManager[Application]:
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Application]:
        self.life.append("opened")
        self.tasks.append(asyncio.current_task())
        yield self._serve
        self.life.append("closed")
        self.tasks.append(asyncio.current_task())

    async def _serve(self, scope: Any, receive: Receive, send: Send) -> None:
        self.heard += [await receive(), await receive()]


async def request(door: Door, *messages: Message) -> None:
    waiting = list(messages)

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(_: Message) -> None:
        raise AssertionError("nothing is sent")

    await door({"type": "http"}, receive, send)


PIECES: tuple[Message, ...] = (
    {"type": "http.request", "body": b"one ", "more_body": True},
    {"type": "http.request", "body": b"message", "more_body": False},
    {"type": "http.disconnect"},
)


async def test_it_opens_once_and_closes_in_the_task_that_opened() -> None:
    behind = Behind()
    door = Door(behind.opening)
    await asyncio.gather(*(request(door, *PIECES) for _ in range(5)))
    await door.aclose()
    assert behind.life == ["opened", "closed"]
    assert behind.tasks[0] is behind.tasks[1]


async def test_bodies_come_whole_and_then_whatever_else_there_is() -> None:
    behind = Behind()
    door = Door(behind.opening)
    await request(door, *PIECES)
    await door.aclose()
    whole = {"type": "http.request", "body": b"one message", "more_body": False}
    assert behind.heard == [whole, {"type": "http.disconnect"}]


async def test_what_nobody_asked_for_is_not_opened() -> None:
    behind = Behind()
    await Door(behind.opening).aclose()
    assert behind.life == []


async def test_a_request_that_is_given_up_does_not_stop_the_opening() -> None:
    behind = Behind()
    door = Door(behind.opening)
    given_up = asyncio.create_task(request(door, *PIECES))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.gather(given_up, return_exceptions=True)
    await request(door, *PIECES)
    await door.aclose()
    assert behind.life == ["opened", "closed"]


async def test_what_cannot_be_opened_is_told_to_each_who_asks() -> None:
    behind = Behind()
    behind.error = RuntimeError("no such thing")
    door = Door(behind.opening)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no such thing"):
            await request(door, *PIECES)
    await door.aclose()
