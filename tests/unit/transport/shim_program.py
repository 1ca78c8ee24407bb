"""The shim's file as a module, without its `main`: its numbers and its parts, on this host.

Its parts that end processes (`Shim.stop`, `kill_everything`) are for PID 1 of a container alone.
"""

from __future__ import annotations

import importlib.util
from types import ModuleType

from runner.assets import asset


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("shim", asset("sandbox_images/shim/shim.py"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
