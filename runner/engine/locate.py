"""Which engine: DOCKER_HOST, else the current docker context, else the default sockets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from docker.context import ContextAPI
from docker.errors import DockerException

from runner.errors import EngineUnavailable

DEFAULT_SOCKET = Path("/var/run/docker.sock")


@dataclass(frozen=True, kw_only=True)
class EngineAddress:
    """Where an engine listens, and who said so."""

    url: str
    """`unix:///path`, `tcp://host:port`, `ssh://...`"""
    origin: str
    """What named it: `DOCKER_HOST`, `context NAME`, `default socket`, `setting engine.host`."""
    tls_directory: Path | None = None
    """Holds ca.pem, cert.pem, key.pem."""

    @property
    def socket_path(self) -> Path | None:
        """The path of a unix socket, else None."""
        parts = urlsplit(self.url)
        return Path(parts.path) if parts.scheme in ("unix", "http+unix") else None


def locate_engine(configured: str = "", environ: Mapping[str, str] = os.environ) -> EngineAddress:
    """The engine that docker's own client would talk to; `configured` takes precedence.

    Raises EngineUnavailable when nothing names one and no default socket exists.
    """
    tls = _tls_directory(environ)
    if configured:
        return EngineAddress(url=configured, origin="setting engine.host", tls_directory=tls)
    if host := environ.get("DOCKER_HOST"):
        return EngineAddress(url=host, origin="DOCKER_HOST", tls_directory=tls)
    return _from_context(environ) or _from_default_sockets(environ)


def _tls_directory(environ: Mapping[str, str]) -> Path | None:
    if not environ.get("DOCKER_TLS_VERIFY"):
        return None
    return Path(environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker")


def _from_context(environ: Mapping[str, str]) -> EngineAddress | None:
    name = environ.get("DOCKER_CONTEXT")
    try:
        context = ContextAPI.get_context(name) if name else ContextAPI.get_current_context()
    except DockerException as error:
        raise EngineUnavailable(
            f"docker context {name or '(current)'} cannot be read: {error}",
            remedy="see `docker context ls`, or set DOCKER_HOST",
        ) from error
    if context is None:
        raise EngineUnavailable(
            f"there is no docker context {name!r}", remedy="see `docker context ls`"
        )
    if context.name == "default" or not context.Host:
        return None
    return EngineAddress(url=context.Host, origin=f"context {context.name}")


def _from_default_sockets(environ: Mapping[str, str]) -> EngineAddress:
    rootless = Path(environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}") / "docker.sock"
    desktop = Path.home() / ".docker/run/docker.sock"
    for path in (DEFAULT_SOCKET, rootless, desktop):
        if path.exists():
            return EngineAddress(url=f"unix://{path}", origin="default socket")
    raise EngineUnavailable(
        f"no Docker engine found: {DEFAULT_SOCKET} does not exist and DOCKER_HOST is not set",
        remedy="run `agenttrace setup`, or start your engine, or set DOCKER_HOST",
    )
