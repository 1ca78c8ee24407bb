"""Which worker processes of this host live: each holds a lock of a file, which ends with it."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from runner.domain import WorkerIdentity
from runner.sandbox.locks import storing_in

HOST = "host"
SUFFIX = ".worker"


@dataclass(frozen=True, kw_only=True)
class Present:
    """A worker process of this host that lives."""

    worker: str
    pid: int


class Presence:
    """Workers that share `directory` see one another; a context manager for a worker itself.

    Nothing rests on clocks or process ids: the lock ends with the process, also by SIGKILL.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._descriptor = -1
        self.worker = f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(4)}"

    @cached_property
    def identity(self) -> WorkerIdentity:
        """Of this process; `host` is the same for all that share the directory.

        Raises StorageFailed where it has to be made and cannot be.
        """
        return WorkerIdentity(worker=self.worker, host=self._host())

    def __enter__(self) -> Presence:
        with storing_in(self._directory):
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._descriptor = _locked_file(self._path(self.worker))
        return self

    def __exit__(self, *_: object) -> None:
        self._path(self.worker).unlink(missing_ok=True)
        os.close(self._descriptor)

    def gone(self, worker: str) -> bool:
        """Whether a worker of this host has ended. Says nothing of workers of other hosts."""
        if worker == self.worker:
            return False
        try:
            descriptor = os.open(self._path(worker), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        except OSError:  # too many open files, say: that tells nothing of the other process
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            self._path(worker).unlink(missing_ok=True)
            return True
        finally:
            os.close(descriptor)

    def living(self) -> list[Present]:
        """All workers of this host but this one."""
        names = [path.name.removesuffix(SUFFIX) for path in self._directory.glob(f"*{SUFFIX}")]
        found = [_present(name, self._path(name)) for name in sorted(names) if not self.gone(name)]
        return [present for present in found if present and present.worker != self.worker]

    def _path(self, worker: str) -> Path:
        return self._directory / f"{Path(worker).name}{SUFFIX}"

    def _host(self) -> str:
        """An id that was made with the directory."""
        path = self._directory / HOST
        with suppress(OSError):
            return path.read_text(encoding="ascii")
        with storing_in(self._directory):
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            aside = path.with_name(f".{secrets.token_hex(4)}")
            aside.write_text(secrets.token_hex(8), encoding="ascii")
            with suppress(FileExistsError):
                os.link(aside, path)  # whoever is first
            aside.unlink()
            return path.read_text(encoding="ascii")


def _locked_file(path: Path) -> int:
    """It is locked before it has the name that others look for."""
    unnamed = path.with_suffix(".new")
    descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.write(descriptor, json.dumps({"pid": os.getpid()}).encode())
    unnamed.rename(path)
    return descriptor


def _present(worker: str, path: Path) -> Present | None:
    try:
        return Present(worker=worker, pid=int(json.loads(path.read_bytes())["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # it is just beginning, or has just ended
