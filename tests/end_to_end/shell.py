"""A user's shell: commands in a directory of its own, and what they leave in the engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from runner.engine import EngineClient
from runner.errors import EngineFailed
from runner.images.builder import REPOSITORY
from runner.sandbox.journal import open_names

AGENTTRACE = str(Path(sys.executable).with_name("agenttrace"))
STATE = "state"
SUITE = "suite"
PATIENCE_SECONDS = 60.0
"""How long an event may take before the test is given up; when all is well, none takes that."""

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """What a shell sees of a command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its stdout, which has to be one JSON document."""
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The line that says what is wrong."""
        return self._line("error: ")

    @property
    def next(self) -> str:
        """The line that says what to do."""
        return self._line("next: ")

    def _line(self, start: str) -> str:
        found = [line for line in self.err.splitlines() if line.startswith(start)]
        assert len(found) == 1, self.err
        return found[0].removeprefix(start)


class Running:
    """A command in a process group of its own, whose stderr is read as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._out: list[str] = []
        self._came = threading.Condition()
        self._readers = [
            threading.Thread(target=self._read_stderr, daemon=True),
            threading.Thread(target=self._read_stdout, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_stderr(self) -> None:
        assert self.process.stderr
        with self.process.stderr as stream:
            for line in stream:
                with self._came:
                    self.lines.append(line)
                    self._came.notify_all()
        with self._came:
            self._came.notify_all()

    def _read_stdout(self) -> None:
        assert self.process.stdout
        with self.process.stdout as stream:
            self._out.append(stream.read())

    def wait_for(self, text: str) -> str:
        """The first line of stderr with `text` in it, as soon as it is written."""
        with self._came:
            self._came.wait_for(
                lambda: self._line_with(text) or self.process.poll() is not None, PATIENCE_SECONDS
            )
            line = self._line_with(text)
        assert line, f"no {text!r} in {self.lines}"
        return line

    def _line_with(self, text: str) -> str:
        return next((line for line in self.lines if text in line), "")

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> None:
        """As a terminal does on Ctrl-C: the whole process group gets it."""
        os.killpg(self.process.pid, number)

    def end(self, seconds: float = PATIENCE_SECONDS) -> Outcome:
        """Waits for its end; what it said."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.interrupt(signal.SIGKILL)
            raise
        for reader in self._readers:
            reader.join(PATIENCE_SECONDS)
        return Outcome(code, "".join(self._out), "".join(self.lines))


@dataclass
class Shell:
    """Runs `agenttrace` in `directory`, with settings and state of its own."""

    directory: Path
    client: EngineClient
    command: tuple[str, ...] = (AGENTTRACE,)
    environment: dict[str, str] = field(default_factory=dict)
    started: list[Running] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.temporary.mkdir(exist_ok=True)
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AGENTTRACE_", "PYTHON"))
            and name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM")
        }
        self.environment = {
            **kept,
            "XDG_STATE_HOME": str(self.directory / STATE),
            "XDG_CONFIG_HOME": str(self.directory / "config"),
            "TMPDIR": str(self.temporary),
            "TERM": "xterm-256color",
            **self.environment,
        }

    @property
    def temporary(self) -> Path:
        """Where its commands put what they need for a moment."""
        return self.directory / "temporary"

    def write(self, name: str, data: str | bytes) -> Path:
        """A file in the shell's directory."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def start(self, *arguments: str, **variables: str) -> Running:
        """Begins a command and leaves it running."""
        process = subprocess.Popen(
            [*self.command, *arguments],
            cwd=self.directory,
            env={**self.environment, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            start_new_session=True,
        )
        self.started.append(Running(process))
        return self.started[-1]

    def __call__(self, *arguments: str, **variables: str) -> Outcome:
        """Runs a command to its end; a traceback is always a failure."""
        outcome = self.start(*arguments, **variables).end()
        assert "Traceback" not in outcome.err, outcome.err
        return outcome

    def all(self, *commands: Sequence[str]) -> list[Outcome]:
        """The outcomes of commands that have nothing to do with one another, run at once."""
        running = [self.start(*command) for command in commands]
        return [one.end() for one in running]

    def run(self, *arguments: str, **variables: str) -> Outcome:
        """`agenttrace run` on the shell's own small suite."""
        return self("run", *arguments, "--suite", SUITE, **variables)

    def start_run(self, *arguments: str, **variables: str) -> Running:
        """The same, left running."""
        return self.start("run", *arguments, "--suite", SUITE, **variables)

    # -- what there is ---------------------------------------------------------------------------

    @property
    def runs(self) -> list[Path]:
        """Run directories, oldest first."""
        root = self.directory / "runs"
        return sorted(root.iterdir()) if root.is_dir() else []

    @property
    def journals(self) -> list[Path]:
        """Of runners that live, or were killed."""
        return sorted((self.directory / STATE / "agenttrace/runners").rglob("*.containers"))

    def names(self) -> list[str]:
        """Of the containers that this shell's runners have, or may have."""
        return [n for path in self.journals for n in open_names(path.read_text(), path.stem)]

    def running(self) -> list[str]:
        """Those of them that run."""
        return [name for name in self.names() if state_of(self.client, name).get("Running")]

    def wait_until_running(self, count: int = 1) -> list[str]:
        """The names, as soon as so many containers run with an agent in them."""
        return wait_until(lambda: self._asking(count))

    def _asking(self, count: int) -> list[str]:
        """So many at least, or none; fails when nothing runs that could begin one."""
        asking = self.asking()
        said = ["".join(one.lines) for one in self.started if one.process.poll() is not None]
        assert len(said) < max(1, len(self.started)), said
        return asking if len(asking) >= count else []

    def asking(self) -> list[str]:
        """Containers whose agent has begun to work."""
        return [name for name in self.running() if has_begun(self.client, name)]

    def tags(self) -> list[str]:
        """Of the images that this shell's builds made: each leaves a log of that name."""
        logs = (self.directory / STATE / "agenttrace/builds").glob("*.log")
        return [f"{REPOSITORY}:{log.stem.partition('-')[2]}" for log in logs]

    def temporary_files(self) -> list[str]:
        """Staged attempts and half-written files, but for those of a killed runner."""
        finished = [path.parent for path in self.directory.rglob("execution.json")]
        staged = [path for run in finished for path in run.glob(".*")]
        return [str(path) for path in (*staged, *self.temporary.iterdir())]

    def kill(self) -> None:
        """Ends what a failed test left running."""
        for running in self.started:
            if running.process.poll() is None:
                running.interrupt(signal.SIGKILL)
                running.process.wait()
        for name in self.names():
            remove(self.client, name)


def state_of(client: EngineClient, name: str) -> Mapping[str, Any]:
    """Of a container; nothing when there is none."""
    found = client.call_blocking(
        "list", lambda api: api.containers(all=True, filters={"name": f"^/{name}$"})
    )
    return {"Running": found[0]["State"] == "running", "Id": found[0]["Id"]} if found else {}


def has_begun(client: EngineClient, name: str) -> bool:
    """Whether any process but the shim runs in the container."""
    try:
        processes = client.call_blocking("top", lambda api: api.top(name))["Processes"]
    except EngineFailed:  # it has ended, or has not yet begun
        return False
    return len(processes or ()) > 1


def release(client: EngineClient, name: str) -> None:
    """Tells a patient agent to go on."""

    def touch(api: Any) -> None:
        made = api.exec_create(name, ["/bin/sh", "-c", ": > /tmp/go"])
        api.exec_start(made["Id"], detach=True)

    client.call_blocking("exec", touch)


def remove(client: EngineClient, name: str) -> None:
    """A container, if it is there."""
    if state_of(client, name):
        client.call_blocking("remove", lambda api: api.remove_container(name, force=True, v=True))


def wait_until(condition: Callable[[], T]) -> T:
    """The condition's value, as soon as it is true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{condition} never came true"
        time.sleep(0.02)
    return value
