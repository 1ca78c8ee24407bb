"""Images of submissions on a real engine: which go, which are spared, and what that frees.

Under a repository and a label of this test's own: others use this engine too.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from runner import bootstrap
from runner.bootstrap.image_use import image_use_of
from runner.bootstrap.storing import store_of
from runner.config import load_settings
from runner.domain import SubmissionQuota
from runner.domain.removal import Cleaned
from runner.engine import EngineClient
from runner.images import cleanup
from runner.images.cleanup import ImageCleanup, Marks
from runner.images.raw import inspect_image
from runner.images.use import ImageUse
from tests.unit.store.nouns import new_job

from .conftest import archive

pytestmark = pytest.mark.docker

MIB = 1024 * 1024


@dataclass
class Yard:
    """Tiny images, all of which rest on one layer of 2 MiB, and their use."""

    client: EngineClient
    use: ImageUse
    marks: Marks
    shared: bytes = field(default_factory=lambda: secrets.token_bytes(2 * MIB))
    made: list[str] = field(default_factory=list)

    def build(self, tag: str = "", *, hours_ago: float = 1, label: str = "") -> str:
        """An image with 1 MiB of its own, last used then."""
        lines = ["FROM scratch", "COPY shared /shared", "COPY own /own"]
        lines += [f"LABEL {label}"] if label else []
        files = {"shared": self.shared, "own": secrets.token_bytes(MIB)}
        context = archive({"Dockerfile": "\n".join(lines).encode(), **files})
        events = self.client.call_blocking(
            "build",
            lambda api: list(
                api.build(
                    fileobj=context,
                    custom_context=True,
                    rm=True,
                    decode=True,
                    tag=f"{self.marks.repository}:{tag}" if tag else None,
                )
            ),
        )
        [built] = [event["aux"]["ID"] for event in events if "aux" in event]
        self.made.append(built)
        self.used(built, hours_ago)
        return str(built)

    def used(self, image: str, hours_ago: float) -> None:
        self.use.note(image)
        then = time.time() - hours_ago * 3600
        os.utime(self.use._path(image), (then, then))

    def has(self, image: str) -> bool:
        found = self.client.call_blocking("inspect", lambda api: api.images(all=True, quiet=True))
        return image in found

    async def shrink(self, limit: int, *, dry_run: bool = False) -> Cleaned:
        cleaning = await ImageCleanup.of(self.client, self.use, dry_run=dry_run, marks=self.marks)
        return await cleaning.least_used(limit)

    def name(self, tag: str) -> str:
        return f"image {self.marks.repository}:{tag}"

    def discard(self) -> None:
        for image in self.made:
            if self.has(image):
                self.client.call_blocking(
                    "rmi", lambda api, image=image: api.remove_image(image, force=True)
                )


@pytest.fixture
def yard(engine: EngineClient, tmp_path: Path) -> Iterator[Yard]:
    name = f"agenttrace-test-{secrets.token_hex(4)}"
    marks = Marks(repository=f"{name}/submission", label=f"{name}.submission")
    yard = Yard(engine, ImageUse(tmp_path / "images-used"), marks)
    yield yard
    yard.discard()


async def test_the_least_recently_used_go_and_a_dry_run_says_so_before(yard: Yard) -> None:
    newest, oldest = yard.build("newest", hours_ago=1), yard.build("oldest", hours_ago=3)
    middle = yard.build("middle", hours_ago=2)
    # 2 MiB that they share, and 1 MiB each.
    assert await yard.shrink(5 * MIB) == Cleaned()
    said = await yard.shrink(3 * MIB, dry_run=True)
    assert all(map(yard.has, (newest, oldest, middle)))
    assert await yard.shrink(3 * MIB) == said
    assert [removal.name for removal in said.removed] == [yard.name("oldest"), yard.name("middle")]
    assert [removal.bytes_freed for removal in said.removed] == [MIB, MIB]
    assert [yard.has(image) for image in (newest, middle, oldest)] == [True, False, False]
    [last] = (await yard.shrink(1)).removed
    assert last.bytes_freed == 3 * MIB
    assert not yard.has(newest)


async def test_what_a_container_runs_is_spared(yard: Yard) -> None:
    used, unused = yard.build("used", hours_ago=9), yard.build("unused", hours_ago=1)
    container = yard.client.call_blocking(
        "create", lambda api: api.create_container(used, command=["never-started"])
    )
    try:
        said = await yard.shrink(1, dry_run=True)
        cleaned = await yard.shrink(1)
        assert cleaned == said
        assert [removal.name for removal in cleaned.removed] == [yard.name("unused")]
        assert cleaned.kept[0].name == yard.name("used")
        assert "uses it" in cleaned.kept[0].why
        assert yard.has(used)
        assert not yard.has(unused)
    finally:
        yard.client.call_blocking("rm", lambda api: api.remove_container(container["Id"]))
    assert [removal.bytes_freed for removal in (await yard.shrink(1)).removed] == [3 * MIB]


async def test_what_a_run_holds_is_spared(yard: Yard) -> None:
    held = yard.build("held", hours_ago=9)
    with yard.use.held(held):
        yard.used(held, hours_ago=9)
        said = await yard.shrink(1, dry_run=True)
        assert await yard.shrink(1) == said
        assert said.kept[0].why == cleanup.RUN_IN_PROGRESS
        assert yard.has(held)
    yard.used(held, hours_ago=9)
    await yard.shrink(1)
    assert not yard.has(held)


async def test_an_image_with_somebody_elses_name_is_theirs(yard: Yard) -> None:
    image = yard.build("theirs", hours_ago=9)
    other = f"{yard.marks.repository}-of-theirs"
    yard.client.call_blocking("tag", lambda api: api.tag(image, other, "1"))
    assert await yard.shrink(1) == Cleaned()
    found = yard.client.call_blocking("inspect", lambda api: inspect_image(api, image))
    assert len(found["RepoTags"]) == 2


async def test_what_an_interrupted_build_left(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    left = yard.build(label=f"{yard.marks.label}={'d' * 64}")
    named = yard.build("named", label=f"{yard.marks.label}={'d' * 64}")
    unlabelled = yard.build()

    async def clean() -> Cleaned:
        cleaning = await ImageCleanup.of(yard.client, yard.use, dry_run=False, marks=yard.marks)
        return await cleaning.interrupted_builds()

    assert await clean() == Cleaned()  # its build may not have ended yet
    monkeypatch.setattr(cleanup, "INTERRUPTED_SECONDS", -3600)
    [removal] = (await clean()).removed
    assert removal.name == f"image {left}"
    assert [yard.has(image) for image in (left, named, unlabelled)] == [False, True, True]


def test_the_command_sees_runs_and_this_engine(
    engine: EngineClient, tmp_path: Path, no_agenttrace_environment: None
) -> None:
    """Dry: what others need of this engine is theirs."""
    settings = load_settings(
        {
            "storage.runs_dir": str(tmp_path / "runs"),
            "storage.state_dir": str(tmp_path / "state"),
            "retention.runs_days": 1,
        },
        cwd=tmp_path,
        environ={},
    ).settings
    for place in ("runs/old", "state/submissions/old", "state/submissions/queued"):
        (tmp_path / place / "tasks").mkdir(parents=True)
        (tmp_path / place / "events.jsonl").touch()
        for part in ("tasks", "events.jsonl", "."):
            os.utime(tmp_path / place / part, (1, 1))

    def removed() -> set[str]:
        report = bootstrap.cleanup(settings, dry_run=True, everything=False)
        return {name for name in report.removed if name.startswith(str(tmp_path))}

    def queue(run_id: str) -> None:
        with store_of(settings) as store:
            store.queue.submit(new_job(run_id), SubmissionQuota())

    run, bundle = str(tmp_path / "runs/old"), str(tmp_path / "state/submissions/old")
    assert removed() == {run}, "nothing was ever queued: no bundle is known to be unwanted"
    queue("queued")
    assert removed() == {run, bundle}
    queue("old")
    assert removed() == set()
    everything = bootstrap.cleanup(settings, dry_run=True, everything=True)
    assert everything.bytes_freed > 0
    notes = image_use_of(settings, engine)
    assert any(notes._names())
