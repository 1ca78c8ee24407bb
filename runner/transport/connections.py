"""A connection to a remote agent: looked up once, checked, and made to the address checked."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpcore

from runner.domain.text import one_line
from runner.errors import InvalidConfiguration
from runner.transport.addresses import Address, Rule, literal
from runner.transport.endpoints import Target

MAX_ADDRESSES = 8
"""Of one name; further ones are not tried."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a name; raises OSError."""


class NotReached(Exception):
    """Nothing was sent; trying again may help. Its text is inert."""


class NotTrusted(NotReached):
    """TLS was refused, by us or by them: trying again at once will not help."""


class Forbidden(Exception):
    """Every address of the endpoint is one that may not be connected to. Its text is inert."""


async def resolve(host: str, port: int) -> Sequence[str]:
    """Implements Resolve by the system's resolver.

    A thread for each: one that hangs with a hostile name server, and cannot be stopped, must
    neither occupy the pool that everything else uses, nor keep the process from ending.
    """
    found: Future[Sequence[str]] = Future()
    threading.Thread(target=_look_up, args=(found, host, port), daemon=True).start()
    return await asyncio.wrap_future(found)


def _look_up(found: Future[Sequence[str]], host: str, port: int) -> None:
    if not found.set_running_or_notify_cancel():
        return
    try:
        entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        found.set_exception(error if isinstance(error, OSError) else OSError(str(error)))
    else:
        found.set_result([str(entry[4][0]) for entry in entries])


@dataclass(frozen=True, kw_only=True)
class Outside:
    """The world's part in it, which tests play."""

    resolve: Resolve = resolve
    backend: httpcore.AsyncNetworkBackend = field(default_factory=httpcore.AnyIOBackend)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(frozen=True, kw_only=True)
class Route:
    """How one endpoint is connected to."""

    target: Target
    rules: tuple[Rule, ...]
    """Every one has to be content with an address."""
    tls: ssl.SSLContext | None
    """None: plain http."""
    outside: Outside


@asynccontextmanager
async def connected(route: Route, seconds: float) -> AsyncIterator[httpcore.AsyncNetworkStream]:
    """A connection of its own, ready for a request within `seconds`; closed on exit.

    Raises NotReached, NotTrusted, Forbidden.
    """
    stream = await _connect(route, seconds)
    try:
        yield stream
    finally:
        await stream.aclose()


async def _connect(route: Route, seconds: float) -> httpcore.AsyncNetworkStream:
    try:
        async with asyncio.timeout(seconds):
            addresses = await _checked_addresses(route)
            stream = await _first_to_answer(route, addresses, seconds)
            return await _secured(route, stream)
    except TimeoutError:
        raise NotReached(f"no connection to {route.target.place} within {seconds:g} s") from None


async def _checked_addresses(route: Route) -> list[Address]:
    """The addresses that may be connected to; raises Forbidden when there is none."""
    found = await _addresses(route)
    if not found:
        raise NotReached(f"{route.target.host} has no address")
    objections = [_objection(route.rules, address) for address in found]
    permitted = [a for a, objection in zip(found, objections, strict=True) if not objection]
    if not permitted:
        raise Forbidden(f"{route.target.host} {objections[0]}")
    return permitted[:MAX_ADDRESSES]


def _objection(rules: Sequence[Rule], address: Address) -> str:
    return next(filter(None, (rule(address) for rule in rules)), "")


async def _addresses(route: Route) -> list[Address]:
    host = route.target.host
    if (address := literal(host)) is not None:
        return [address]
    try:
        texts = await route.outside.resolve(host, route.target.port)
    except OSError as error:
        reason = one_line(error.strerror or "no reason given")
        raise NotReached(f"{host} cannot be looked up: {reason}") from error
    return [a for a in map(literal, dict.fromkeys(texts)) if a is not None]


async def _first_to_answer(
    route: Route, addresses: Sequence[Address], seconds: float
) -> httpcore.AsyncNetworkStream:
    """One after the other, each with an equal share of the time."""
    share, failures = seconds / len(addresses), []
    for address in addresses:
        try:
            return await route.outside.backend.connect_tcp(
                str(address), route.target.port, timeout=share
            )
        except (httpcore.NetworkError, httpcore.TimeoutException) as error:
            failures.append(error)
    raise NotReached(
        f"no connection to {route.target.place}: {_reason(failures[-1])}"
    ) from failures[-1]


async def _secured(
    route: Route, stream: httpcore.AsyncNetworkStream
) -> httpcore.AsyncNetworkStream:
    """The same connection under TLS, whose certificate is for the endpoint's own name."""
    if route.tls is None:
        return stream
    try:
        return await stream.start_tls(route.tls, server_hostname=route.target.host)
    except (httpcore.NetworkError, httpcore.TimeoutException) as error:
        await stream.aclose()
        if isinstance(error.__cause__, ssl.SSLError):
            raise NotTrusted(
                f"no TLS with {route.target.place}: {_tls_reason(error.__cause__)}"
            ) from error
        raise NotReached(f"no TLS with {route.target.place}: {_reason(error)}") from error
    except BaseException:
        await stream.aclose()
        raise


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return one_line(f"its certificate is not valid: {error.verify_message}")
    return one_line(error.reason or "the handshake failed")


def _reason(error: BaseException) -> str:
    """What the system says, below the wrappings of two libraries."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, OSError) and error.errno and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno)
    return "no answer in time" if "imeout" in type(error).__name__ else "it was closed"


def tls_context(ca_file: str) -> ssl.SSLContext:
    """Verifies against `ca_file`, or the public authorities; raises InvalidConfiguration."""
    try:
        made = ssl.create_default_context(cafile=ca_file) if ca_file else _public_authorities()
    except OSError as error:  # ssl.SSLError, for a file without a certificate, is one
        raise InvalidConfiguration(
            f"remote.ca_file: {ca_file} cannot be read: {error.strerror or error}",
            remedy="name a PEM file with the certificates of authorities",
        ) from error
    made.set_alpn_protocols(["http/1.1"])
    return made


def _public_authorities() -> ssl.SSLContext:
    return httpcore.default_ssl_context()
