"""Notes of use: crash-safe, and between processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, cast

import pytest

from runner.domain import BenchmarkSubmission, FunctionInterface, Image
from runner.domain.submission import AgentEndpoint
from runner.engine import EngineClient
from runner.errors import EngineFailed, StorageFailed
from runner.images.use import MOST_PREPARATIONS, ImageUse, NotedImages

ONE, TWO = (f"sha256:{digit * 64}" for digit in "12")
HOLD = """
import sys
from pathlib import Path
from runner.images.use import ImageUse
with ImageUse(Path(sys.argv[1])).held(sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def use(tmp_path: Path) -> ImageUse:
    return ImageUse(tmp_path / "state/images-used")


def is_free(use: ImageUse, image_id: str) -> bool:
    with use.claimed(image_id) as free:
        return free


def test_the_last_use_is_noted(use: ImageUse) -> None:
    before = time.time() - 1
    use.note(ONE)
    assert before < use.last(ONE, made_at=3.0) <= time.time() + 1
    assert use.last(TWO, made_at=3.0) == 3.0
    assert use.last(TWO, made_at=4.0) == 3.0
    use.note(TWO)
    assert use.last(TWO, made_at=3.0) > before


def test_the_end_of_a_run_is_its_last_use(use: ImageUse) -> None:
    with use.held(ONE):
        os.utime(use._path(ONE), (1, 1))
    assert use.last(ONE, made_at=0.0) > 1


def test_any_number_may_hold_an_image(use: ImageUse) -> None:
    assert not use.any_held()
    with use.held(ONE):
        with use.held(ONE):
            assert not is_free(use, ONE)
        assert not is_free(use, ONE)
        assert use.any_held()
    assert is_free(use, ONE)
    assert not use.any_held()


def test_another_image_is_not_held(use: ImageUse) -> None:
    use.note(TWO)
    with use.held(ONE):
        assert is_free(use, TWO)


def test_an_image_that_nobody_noted_cannot_be_claimed(use: ImageUse) -> None:
    assert not is_free(use, ONE)


@pytest.mark.parametrize("wrong", ["", "../../etc/passwd", "sha256:../x", "sha256:12", "latest"])
def test_nothing_but_an_image_id_becomes_a_path(use: ImageUse, wrong: str) -> None:
    with pytest.raises(StorageFailed):
        use.note(wrong)


def test_a_link_is_not_followed(use: ImageUse, tmp_path: Path) -> None:
    use.note(TWO)
    use._path(ONE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageFailed):
        use.note(ONE)
    assert not (tmp_path / "elsewhere").exists()


def test_a_hold_ends_with_its_process(use: ImageUse) -> None:
    command = [sys.executable, "-c", HOLD, str(use._directory), ONE]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        assert not is_free(use, ONE)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert is_free(use, ONE)


def test_who_waits_for_a_removal_holds_the_image_that_comes_after_it(use: ImageUse) -> None:
    """A lock on the note that was dropped meanwhile would say nothing to the next clean-up."""
    use.note(ONE)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with use.held(ONE):
            held.set()
            done.wait(30)

    waiting = threading.Thread(target=hold)
    with use.claimed(ONE) as free:
        assert free
        waiting.start()
        assert not held.wait(0.2)
        use.forget(ONE)
    assert held.wait(30)
    assert not is_free(use, ONE)
    done.set()
    waiting.join()


def test_a_full_disk_is_ours(use: ImageUse, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "utime", full)
    with pytest.raises(StorageFailed, match="No space left"):
        use.note(ONE)


# -- preparing -------------------------------------------------------------------------------------

SUBMISSION = BenchmarkSubmission(
    agent_name="a",
    agent_version="1",
    agent_endpoint=AgentEndpoint(endpoint_type="local", module_path="m", function_name="f"),
)


class Images:
    """Prepares images with other ids in turn."""

    def __init__(self, *ids: str) -> None:
        self.ids = list(ids)

    async def prepare(self, _submission: object, _say: object) -> Image:
        interface = FunctionInterface(module="m", function="f")
        return Image(image_id=self.ids.pop(0), reference="m:f", interface=interface)


class Engine:
    def __init__(self, *there: str) -> None:
        self.there = there

    async def call(self, _what: str, work: Any) -> Any:
        return work(self)


@pytest.fixture(autouse=True)
def _inspect(monkeypatch: pytest.MonkeyPatch) -> None:
    async def inspect(engine: Engine, reference: str) -> dict[str, Any] | None:
        return {"Id": reference} if reference in engine.there else None

    monkeypatch.setattr("runner.images.use.inspect", inspect)


def noted(images: Images, engine: Engine, use: ImageUse) -> NotedImages:
    return NotedImages(images, cast("EngineClient", engine), use)


async def test_preparing_notes_the_use(use: ImageUse) -> None:
    image = await noted(Images(ONE), Engine(ONE), use).prepare(SUBMISSION, print)
    assert image.image_id == ONE
    assert use.last(ONE, made_at=0.0) > 0


async def test_an_image_that_was_removed_meanwhile_is_prepared_again(use: ImageUse) -> None:
    image = await noted(Images(ONE, TWO), Engine(TWO), use).prepare(SUBMISSION, print)
    assert image.image_id == TWO


async def test_an_image_that_is_removed_again_and_again(use: ImageUse) -> None:
    images = Images(*[ONE] * MOST_PREPARATIONS)
    with pytest.raises(EngineFailed, match="was removed"):
        await noted(images, Engine(), use).prepare(SUBMISSION, print)
    assert images.ids == []
