"""A PostgreSQL server for tests: a private one, or databases of our own on a given one.

With AGENTTRACE_TEST_POSTGRES_URL that server is used, and its user has to be allowed to create
databases. Else one is started, from Debian's package if need be. Where there is none, tests fail.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

GIVEN = "AGENTTRACE_TEST_POSTGRES_URL"
ACCOUNT = "postgres"
"""The server refuses to run as root."""
STARTED_WITHIN_SECONDS = 60
PREFIX = f"agenttrace_test_{secrets.token_hex(4)}_"
"""Of the databases of this process: others may test on a given server, too."""


class PostgresServer(Protocol):
    """What tests do to a server."""

    @property
    def url(self) -> str:
        """Of a database on it that nobody writes to."""
        ...

    def stop(self) -> None:
        """From now on nobody gets an answer, and connections are cut."""
        ...

    def start(self) -> None:
        """It answers again when this returns."""
        ...


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """One that answers, until the block ends."""
    if given := os.environ.get(GIVEN):
        yield GivenServer(given)
        return
    with tempfile.TemporaryDirectory(prefix="agenttrace-pg-", ignore_cleanup_errors=True) as place:
        server = PrivateServer(Path(place))
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def database(server: PostgresServer, template: str = "template1") -> Iterator[str]:
    """The URL of a new, empty database, dropped at the end whoever is still connected."""
    name = f"{PREFIX}{secrets.token_hex(4)}"
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
    _administer(server.url, create.format(sql.Identifier(name), sql.Identifier(template)))
    try:
        url = make_url(server.url).set(database=name)
        yield url.render_as_string(hide_password=False)
    finally:
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        _administer(server.url, drop.format(sql.Identifier(name)))


def _administer(url: str, *statements: sql.Composed) -> None:
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True, connect_timeout=10) as connection:
        for statement in statements:
            connection.execute(statement)


class GivenServer:
    """Somebody else's: it is never stopped, but our databases on it can be closed to everybody."""

    def __init__(self, url: str) -> None:
        self.url = url

    def stop(self) -> None:
        self._allow("false")
        cut = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE starts_with(datname, {})"
        )
        _administer(self.url, sql.SQL(cut).format(PREFIX))

    def start(self) -> None:
        self._allow("true")

    def _allow(self, allowed: str) -> None:
        plain = make_url(self.url).set(drivername="postgresql")
        with psycopg.connect(
            plain.render_as_string(hide_password=False), autocommit=True
        ) as connection:
            query = "SELECT datname FROM pg_database WHERE starts_with(datname, %s)"
            for (name,) in connection.execute(query, [PREFIX]).fetchall():
                change = sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}")
                connection.execute(change.format(sql.Identifier(name), sql.SQL(allowed)))


class PrivateServer:
    """One of our own, with its data in `place`, on loopback and on a socket there."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._data = place / "data"
        self._log = place / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._programs = _programs()
        self._port = _free_port()
        self._initialise()

    @property
    def url(self) -> str:
        return f"postgresql://{ACCOUNT}@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        if self._process is not None:
            return
        options = {
            "port": self._port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self._place,
            "fsync": "off",  # what is committed survives a killed server, though no power cut
            "full_page_writes": "off",
            "max_connections": 200,
        }
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_as_account(), self._programs / "postgres", "-D", self._data, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._place,
            )
        self._wait()

    def stop(self) -> None:
        """A fast shutdown: connections are cut."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
        self._process = None

    def _initialise(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self._place, ACCOUNT)
        self._place.chmod(0o700)
        done = subprocess.run(
            [
                *_as_account(),
                self._programs / "initdb",
                *("-D", self._data, "-U", ACCOUNT, "--auth=trust", "--no-sync"),
                *("--encoding=UTF8", "--locale=C"),
            ],
            capture_output=True,
            text=True,
            cwd=self._place,
            check=False,
        )
        if done.returncode:
            pytest.fail(f"initdb failed: {done.stderr}", pytrace=False)

    def _wait(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + STARTED_WITHIN_SECONDS
        while True:
            try:
                _administer(self.url)
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    pytest.fail(f"PostgreSQL does not start: {self._log.read_text()[-2000:]}")
                time.sleep(0.05)
            else:
                return


def _as_account() -> list[str]:
    """Becomes the account without a process in between, so that the server's pid is ours to end."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _programs() -> Path:
    """The directory of initdb and postgres, installed if need be."""
    found = _find()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        _install()
        found = _find()
    if found is None:
        pytest.fail(
            f"no PostgreSQL server: install Debian's package postgresql, or set {GIVEN}",
            pytrace=False,
        )
    return found


def _find() -> Path | None:
    # The newest first; a link on the PATH is followed, for a server looks for its files beside it.
    packaged = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"),
        key=lambda directory: float(directory.parent.name),
        reverse=True,
    )
    linked = shutil.which("initdb")
    places = [*packaged, *([Path(linked).resolve().parent] if linked else [])]
    return next((p for p in places if (p / "initdb").exists() and (p / "postgres").exists()), None)


def _install() -> None:
    """The package alone: no cluster is made and no service is started."""
    configuration = Path("/etc/postgresql-common/createcluster.conf")
    if not configuration.exists():
        configuration.parent.mkdir(parents=True, exist_ok=True)
        configuration.write_text("create_main_cluster = false\n")
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (
            ["apt-get", "update", "-qq"],
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "postgresql"],
        ):
            subprocess.run(command, env=environment, check=False, capture_output=True)
    finally:
        if ours:
            policy.unlink()
