"""The one connection to a Docker engine: found, probed, called under deadlines of ours."""

from __future__ import annotations

from runner.engine.client import EngineClient
from runner.engine.locate import EngineAddress, locate_engine

__all__ = ["EngineAddress", "EngineClient", "locate_engine"]
