"""The figures at the moment of a container's death: soon after, its cgroup is gone.

The engine removes the cgroup 10 to 25 ms after its first process died, and tells us of it 20 to
40 ms later still (measured: engine 20.10, kernel 6.18).
"""

from __future__ import annotations

import asyncio
import os

from runner.sandbox.cgroup import Cgroup
from runner.sandbox.meter import NOTHING, read_cgroup


class LastLook:
    """Waits for the death without looking again and again; `start` it in the event loop."""

    def __init__(self, cgroup: Cgroup | None, pid: int) -> None:
        self._cgroup = cgroup
        self._pid = pid
        self._descriptor = -1
        self.reading = NOTHING

    def start(self) -> None:
        """From now on; without a cgroup to read there is nothing to wait for."""
        if self._cgroup is None:
            return
        try:
            self._descriptor = os.pidfd_open(self._pid)
        except OSError:  # dead already, or a kernel before 5.3
            return
        asyncio.get_running_loop().add_reader(self._descriptor, self._look, self._cgroup)

    def stop(self) -> None:
        """May be repeated."""
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _look(self, cgroup: Cgroup) -> None:
        self.reading = read_cgroup(cgroup.read, cgroup.version)
        self.stop()
