"""A host that asks an agent behind a URL on this machine: all of a run but the engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from runner.bootstrap.storing import DATABASE_NAME
from runner.config import Settings, load_settings
from runner.store import sqlite_url

UNLIMITED = 10**6
MANIFEST = """
agent_name = "bench"
agent_version = "1.0.0"
contact_email = "dev@example.com"
submitted_by = "bench"
terms_accepted = true
[agent_endpoint]
endpoint_type = "http"
url = "{url}"
"""


@dataclass(frozen=True)
class Place:
    """A directory with a submission, run directories and a database."""

    directory: Path

    @property
    def runs(self) -> Path:
        return self.directory / "runs"

    @property
    def database(self) -> str:
        """Its URL."""
        return sqlite_url(self.directory / "state" / DATABASE_NAME)

    @property
    def environ(self) -> dict[str, str]:
        """Of commands that work in it."""
        given = {
            "STORAGE__RUNS_DIR": self.runs,
            "STORAGE__STATE_DIR": self.directory / "state",
            "RUN__MIN_FREE_DISK_BYTES": 0,
            "REMOTE__ALLOW_ADDRESSES": "127.0.0.1/32",
            "REMOTE__ALLOW_PLAIN_HTTP": "true",
            "SUBMISSIONS__QUOTA_PER_DAY": UNLIMITED,
            "SUBMISSIONS__QUOTA_PER_WEEK": UNLIMITED,
        }
        ours = {f"AGENTTRACE_{name}": str(value) for name, value in given.items()}
        return dict(os.environ) | ours | {"XDG_CONFIG_HOME": str(self.directory)}

    @cached_property
    def settings(self) -> Settings:
        """Those of `environ`."""
        return load_settings({}, cwd=self.directory, environ=self.environ).settings


@contextmanager
def place(url: str) -> Iterator[Place]:
    """Whose submission is the agent at `url`."""
    with tempfile.TemporaryDirectory(prefix="agenttrace-bench-") as directory:
        made = Place(Path(directory))
        (made.directory / "submission.toml").write_text(MANIFEST.format(url=url))
        yield made


@contextmanager
def agent() -> Iterator[str]:
    """The URL of an agent that answers at once."""
    command = [sys.executable, "-m", "tests.bench.loopback"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


class _Agent(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"output": "none"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
        pass


class _Server(ThreadingHTTPServer):
    request_queue_size = 128


if __name__ == "__main__":
    with _Server(("127.0.0.1", 0), _Agent) as server:
        print(f"http://127.0.0.1:{server.server_port}/invoke", flush=True)
        server.serve_forever()
