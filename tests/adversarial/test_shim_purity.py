"""Nothing of a hostile image is loaded into PID 1, by the host's own view of its memory."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from runner.domain import Limits
from runner.domain.mounts import SHIM_DIRECTORY
from runner.domain.shim import SHIM_ENVIRONMENT
from runner.evaluation.stages import Stopwatch
from tests.adversarial.conftest import Lab
from tests.adversarial.expectation import HERE, SMALL, load
from tests.adversarial.test_hostile import prepare

pytestmark = [pytest.mark.docker, pytest.mark.adversarial]


@pytest.mark.parametrize("name", ["preload_image", "hostile_image"])
def test_the_shim_maps_and_opens_only_its_own(lab: Lab, tmp_path: Path, name: str) -> None:
    image = prepare(load(HERE / name), lab, tmp_path)
    assert image
    assert any(pair.startswith("LD_PRELOAD=") for pair in image.environment)

    async def look() -> None:
        limits = Limits.model_validate(SMALL)
        async with (
            lab.sandbox.session(image, limits, Stopwatch()) as session,
            lab.transport.open(session, image, limits),
        ):
            inspected = lab.client.call_blocking(
                "inspect", lambda api: api.inspect_container(session.facts.container_name)
            )
            check(Path(f"/proc/{inspected['State']['Pid']}"))

    asyncio.run(look())


def check(process: Path) -> None:
    """Of PID 1: no file but the volume's is mapped or open, no variable but ours is set."""
    lines = [line.split(maxsplit=5) for line in (process / "maps").read_text().splitlines()]
    mapped = {fields[5] for fields in lines if len(fields) == 6 and fields[5].startswith("/")}
    assert mapped
    assert all(path.startswith(SHIM_DIRECTORY + "/") for path in mapped), mapped
    opened = {str(path.readlink()) for path in (process / "fd").iterdir()}
    assert all(target.startswith(("pipe:", "anon_inode:")) for target in opened), opened
    given = (process / "environ").read_text().split("\0")
    assert set(given) - {""} - set(SHIM_ENVIRONMENT) <= {"HOSTNAME=agent", "HOME=/root", "HOME=/"}
