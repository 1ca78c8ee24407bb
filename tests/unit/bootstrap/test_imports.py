"""An agent that calls no model costs a run no memory for models: their libraries stay out of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ["httpx", "starlette", "uvicorn", "mcp", "genai_prices", "bpe_openai", "jsonschema"]
RUN = """
import asyncio, json, sys
from pathlib import Path
import runner.cli
from runner import bootstrap
from runner.bootstrap import running
from runner.config import load_settings
from tests.unit.records.nouns import plan

class Connection:
    async def read(self): return b""
    async def write(self, data): pass
    async def close(self): pass

async def attempt(directory, connects):
    settings = load_settings({}, cwd=directory, environ={}).settings
    breakers, made = running.local_breakers(settings), plan()
    async with running.opened_gateway(settings, made, directory, breakers) as gateway:
        task = made.tasks[0]
        async with gateway.open(task, 1, made.limits, directory / "exchanges") as session:
            if connects:
                await session.serve(Connection())
            session.use()

asyncio.run(attempt(Path(sys.argv[1]), sys.argv[2] == "connects"))
json.dump([name for name in sys.argv[3:] if name in sys.modules], sys.stdout)
"""


@pytest.mark.parametrize(
    ("agent", "expected"),
    [("connects not", []), ("connects", ["httpx", "starlette", "jsonschema"])],
)
def test_libraries_of_models_come_with_the_first_connection(
    tmp_path: Path, agent: str, expected: list[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path), agent, *HEAVY],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert json.loads(done.stdout) == expected
