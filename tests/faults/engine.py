"""An engine of the tests' own, to be stopped and killed; and a way to an engine that fails.

The engine shares nothing with the host's own but the kernel: root, sockets and containerd are its
own, it has no bridge, and it touches no packet filter.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import socketserver
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from runner.engine import EngineClient
from runner.engine.locate import EngineAddress
from runner.images.setup import SetUp, set_up
from tests.end_to_end.shell import PATIENCE_SECONDS, wait_until

ENDING_SECONDS = 30.0


class PrivateEngine:
    """A context manager; what it kept is gone afterwards."""

    def __init__(self, client: EngineClient, made: SetUp) -> None:
        self._original, self._made = client, made
        # not the tests' own directory: the path of a socket has at most 107 bytes, and layers
        # of images need a real file system
        self.directory = Path(tempfile.mkdtemp(prefix="agenttrace-engine-", dir="/var/tmp"))
        self.url = f"unix://{self.directory}/docker.sock"
        self.address = EngineAddress(url=self.url, origin="test")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PrivateEngine:
        try:
            self.start()
            self._copy_images()
            with EngineClient(self.address) as client:
                asyncio.run(set_up(client, lambda _: None))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Waits until it answers."""
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_until(self._answers)

    def end(self, number: signal.Signals) -> None:
        """Stops it with that signal, and waits until it has ended."""
        if self._process:
            self._process.send_signal(number)
            self._process.wait(ENDING_SECONDS)
            self._process = None
            wait_until(lambda: not self._containerd())
            # where nobody reaps orphans, the next one would take its zombie for alive
            (self.directory / "exec/containerd/containerd.pid").unlink(missing_ok=True)

    def close(self) -> None:
        """Ends it and all that it started, and removes its files."""
        with suppress(Exception):
            self._remove_containers()
        try:
            self.end(signal.SIGTERM)
        except subprocess.TimeoutExpired:
            self.end(signal.SIGKILL)
        wait_until(self._kill_rest)
        for mount in self._mounts():
            subprocess.run(["umount", "-l", mount], check=True)
        shutil.rmtree(self.directory)

    def containers(self) -> list[str]:
        """Names of all, running or not."""
        with EngineClient(self.address) as client:
            found = client.call_blocking("list", lambda api: api.containers(all=True))
        return [name for container in found for name in container["Names"] or ()]

    def volumes(self) -> list[str]:
        """Names of all."""
        with EngineClient(self.address) as client:
            found = client.call_blocking("list", lambda api: api.volumes())
        return [volume["Name"] for volume in found["Volumes"] or ()]

    def _command(self) -> list[str]:
        own = {
            "--config-file": self.directory / "daemon.json",
            "--data-root": self.directory / "data",
            "--exec-root": self.directory / "exec",
            "--pidfile": self.directory / "pid",
            "--host": self.url,
            "--bridge": "none",
        }
        (self.directory / "daemon.json").write_text("{}")
        flags = ["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"]
        return ["dockerd", *(f"{name}={value}" for name, value in own.items()), *flags]

    def _answers(self) -> bool:
        assert self._process
        assert self._process.poll() is None, (self.directory / "log").read_text()[-2000:]
        with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.directory / "docker.sock"))
            connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in connection.recv(1024)
        return False

    def _copy_images(self) -> None:
        """All names that the set-up knows them by, so that the copies count as set up too."""
        ids = (self._made.base_image_id, self._made.shim_image_id)
        found = self._original.call_blocking("list images", lambda api: api.images())
        names = [name for image in found if image["Id"] in ids for name in image["RepoTags"]]
        saving = subprocess.Popen(
            ["docker", "--host", self._original.address.url, "save", *names], stdout=subprocess.PIPE
        )
        with saving:
            load = ["docker", "--host", self.url, "load", "--quiet"]
            subprocess.run(load, stdin=saving.stdout, stdout=subprocess.DEVNULL, check=True)
        assert saving.returncode == 0

    def _remove_containers(self) -> None:
        with EngineClient(self.address) as client:
            for name in self.containers():
                client.call_blocking(
                    "remove", lambda api, name=name: api.remove_container(name, force=True)
                )

    def _kill_rest(self) -> bool:
        """Whether nothing of it lives: its containerd, and the shims that outlive a killed one.

        They have its directory among their arguments, which nothing else has.
        """
        pids = list(self._pids())
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not pids

    def _containerd(self) -> list[int]:
        """Dies with its dockerd; the shims of containers do not."""
        return [pid for pid in self._pids() if _name_of(pid) == "containerd"]

    def _pids(self) -> Iterator[int]:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                arguments = path.read_bytes().split(b"\0")
                if any(arg.startswith(str(self.directory / "exec").encode()) for arg in arguments):
                    yield int(path.parent.name)

    def _mounts(self) -> list[str]:
        points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        return sorted((p for p in points if p.startswith(f"{self.directory}/")), reverse=True)


def _name_of(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


# -- a network that fails ------------------------------------------------------------------------


class How(Enum):
    """What happens to a request."""

    NEVER = "it does not reach the engine"
    REPLY_LOST = "the engine does it, and nobody hears of it"
    LATE = "it reaches the engine when the client has given up, and has removed what it asked for"
    HELD = "it waits for the test"


@dataclass
class Fault:
    """Of the `number`-th request that `request`, a regular expression, is found in."""

    request: str
    number: int
    how: How
    struck: threading.Event = field(default_factory=threading.Event)
    """The request has come."""
    over: threading.Event = field(default_factory=threading.Event)
    """What the client will not hear of has happened, or the test lets the request go on."""


class FaultyNetwork(socketserver.ThreadingUnixStreamServer):
    """A unix socket in front of an engine's; a context manager."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, target: Path, *faults: Fault) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="agenttrace-network-"))
        super().__init__(str(self.directory / "docker.sock"), _Connection)
        self.target = str(target)
        self.faults = faults
        self.removed = threading.Event()
        """The engine has answered a request to remove a container, after the last fault."""
        self._counting = threading.Lock()
        self._serving = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        """For DOCKER_HOST."""
        return f"unix://{self.server_address!s}"

    def __enter__(self) -> FaultyNetwork:
        self._serving.start()
        return self

    def __exit__(self, *_: object) -> None:
        for fault in self.faults:
            fault.over.set()
        self.removed.set()
        self.shutdown()
        self.server_close()
        self._serving.join()
        shutil.rmtree(self.directory)

    def fault_of(self, request: str) -> Fault | None:
        """The one that this request is to suffer."""
        with self._counting:
            fitting = [fault for fault in self.faults if re.search(fault.request, request)]
            for fault in fitting:
                fault.number -= 1
            now = next((fault for fault in fitting if fault.number == 0), None)
            if now:
                self.removed.clear()
                now.struck.set()
        return now

    def handle_error(self, *_: Any) -> None:
        """A connection that broke is what this is for."""


class _Connection(socketserver.BaseRequestHandler):
    """One connection: moved both ways, but for the requests that are to suffer something."""

    server: FaultyNetwork
    deaf = False
    current = ""

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as self.engine:
            self.engine.connect(self.server.target)
            back = threading.Thread(target=self._move_back, daemon=True)
            back.start()
            with suppress(OSError):
                self._move_requests()
            with suppress(OSError):
                self.engine.shutdown(socket.SHUT_WR)
            back.join()

    def _move_requests(self) -> None:
        while data := self.request.recv(65_536):
            if request := _request_in(data):
                self.current = request
                if fault := self.server.fault_of(request):
                    data = self._suffer(fault, data)
            self.engine.sendall(data)

    def _suffer(self, fault: Fault, data: bytes) -> bytes:
        """What is to be sent to the engine now."""
        match fault.how:
            case How.NEVER:
                self._until_given_up()
                return b""
            case How.REPLY_LOST:
                self.deaf = True
            case How.LATE:
                data += self._until_given_up()
                self.deaf = True
                self.server.removed.wait(PATIENCE_SECONDS)
                self.engine.sendall(data)
                while not fault.over.is_set():  # an early hang-up would cancel the request
                    time.sleep(0.01)
                return b""
            case How.HELD:
                fault.over.wait(PATIENCE_SECONDS)
        return data

    def _until_given_up(self) -> bytes:
        """Until the client closes the connection; what it sent before."""
        sent = b""
        while data := self.request.recv(65_536):
            sent += data
        return sent

    def _move_back(self) -> None:
        with suppress(OSError):
            while data := self.engine.recv(65_536):
                if self.deaf:
                    self._heard_by_nobody()
                    continue
                self.request.sendall(data)
                if self.current.startswith("DELETE"):
                    self.server.removed.set()
        with suppress(OSError):
            self.request.shutdown(socket.SHUT_WR)

    def _heard_by_nobody(self) -> None:
        for fault in self.server.faults:
            if fault.struck.is_set():
                fault.over.set()


def _request_in(data: bytes) -> str:
    """Method and path, where a request begins here."""
    found = re.match(rb"(GET|POST|DELETE|PUT|HEAD) (?:/v[\d.]+)?(/\S*) HTTP/1\.1\r\n", data)
    return b" ".join(found.groups()).decode() if found else ""
