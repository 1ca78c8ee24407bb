"""Which images go, in which order, and which are spared: against an engine that is a dict."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import docker.errors
import pytest

from runner.domain.removal import Cleaned, RemovalKind
from runner.engine import EngineClient
from runner.errors import EngineFailed
from runner.images import cleanup
from runner.images.cleanup import ImageCleanup
from runner.images.layers import LayerLedger, take_inventory
from runner.images.setup import SetUp
from runner.images.use import ImageUse

MIB = 1024 * 1024
OURS = "agenttrace/submission"
LABEL = "io.agenttrace.submission"
DIGEST = "d" * 64
LONG_AGO = "2020-01-01T00:00:00.123456789Z"


def image_id(letter: str) -> str:
    return f"sha256:{letter * 64}"


@dataclass
class FakeEngine:
    """As much of the engine, and of docker-py, as cleaning up needs."""

    images_there: dict[str, dict[str, Any]] = field(default_factory=dict)
    containers_there: list[dict[str, Any]] = field(default_factory=list)
    volumes_there: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    removed: list[str] = field(default_factory=list)
    before_removal: Callable[[], None] = lambda: None

    def add(
        self,
        letter: str,
        layers: str,
        mib: float,
        *tags: str,
        created: str = LONG_AGO,
        parent: str = "",
        digests: tuple[str, ...] = (),
        labels: dict[str, str] | None = None,
    ) -> str:
        one = image_id(letter)
        self.images_there[one] = {
            "Id": one,
            "RepoTags": list(tags),
            "RepoDigests": list(digests),
            "Config": {"Labels": labels},
            "Parent": image_id(parent) if parent else "",
            "RootFS": {"Layers": list(layers)} if layers else {"Type": "layers"},
            "Size": int(mib * MIB),
            "Created": created,
        }
        return one

    def run(self, letter: str, name: str, *volumes: str) -> None:
        mounts = [{"Name": volume} for volume in volumes]
        container = {"Id": name, "Names": [f"/{name}"], "ImageID": image_id(letter)}
        self.containers_there.append(container | {"Mounts": mounts})

    # -- docker-py -----------------------------------------------------------------------------

    def images(self, **_: object) -> list[str]:
        return list(self.images_there)

    def inspect_image(self, one: str) -> dict[str, Any]:
        return self.images_there[one]

    def containers(self, **_: object) -> list[dict[str, Any]]:
        return self.containers_there

    def volumes(self, **_: object) -> dict[str, Any]:
        return {"Volumes": [{"Name": name} for name in self.volumes_there] or None}

    def remove_image(self, name: str) -> None:
        self._remove(name)

    def remove_volume(self, name: str) -> None:
        self._remove(name)

    def _remove(self, name: str) -> None:
        self.before_removal()
        if name in self.refused:
            raise EngineFailed("the engine refused it: conflict", status=409)
        self.removed.append(name)

    # -- EngineClient --------------------------------------------------------------------------

    async def call(self, _what: str, work: Callable[[Any], Any], _seconds: float = 0) -> Any:
        return work(self)


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def use(tmp_path: Path) -> ImageUse:
    return ImageUse(tmp_path / "images-used")


def used(use: ImageUse, letter: str, hours_ago: float) -> None:
    use.note(image_id(letter))
    then = time.time() - hours_ago * 3600
    os.utime(use._path(image_id(letter)), (then, then))


async def clean(
    engine: FakeEngine, use: ImageUse, *, dry_run: bool = False, reaped: tuple[str, ...] = ()
) -> ImageCleanup:
    client = cast("EngineClient", engine)
    return await ImageCleanup.of(client, use, dry_run=dry_run, reaped=reaped)


def names(cleaned: Cleaned) -> list[str]:
    return [removal.name for removal in cleaned.removed]


def reasons(cleaned: Cleaned) -> dict[str, str]:
    return {kept.name: kept.why for kept in cleaned.kept}


# -- what they take --------------------------------------------------------------------------------


def ledger(engine: FakeEngine) -> LayerLedger:
    return LayerLedger(take_inventory(cast("Any", engine)))


def test_shared_layers_count_once(engine: FakeEngine) -> None:
    engine.add("b", "b", 80, "base:1")
    one = engine.add("1", "b1", 90, f"{OURS}:1")
    two = engine.add("2", "b2", 100, f"{OURS}:2")
    assert ledger(engine).bytes_of([one]) == 10 * MIB
    assert ledger(engine).bytes_of([one, two]) == 30 * MIB  # the base is another's


def test_layers_of_ours_alone_count_once_and_go_with_the_last(engine: FakeEngine) -> None:
    engine.add("b", "b", 80, parent="")  # a nameless step of both builds
    one = engine.add("1", "b1", 90, f"{OURS}:1", parent="b")
    two = engine.add("2", "b2", 100, f"{OURS}:2", parent="b")
    books = ledger(engine)
    assert books.bytes_of([one, two]) == 110 * MIB
    assert books.remove(one) == 10 * MIB
    assert books.remove(two) == 100 * MIB


def test_images_with_the_same_layers_free_nothing_until_the_last(engine: FakeEngine) -> None:
    one, two = (engine.add(n, "x", 50, f"{OURS}:{n}") for n in "12")
    books = ledger(engine)
    assert books.bytes_of([one, two]) == 50 * MIB
    assert (books.remove(one), books.remove(two)) == (0, 50 * MIB)


def test_an_image_that_rests_on_another(engine: FakeEngine) -> None:
    below, above = engine.add("1", "x", 50, "a:1"), engine.add("2", "xy", 70, "b:1")
    assert ledger(engine).bytes_of([below]) == 0
    assert ledger(engine).bytes_of([above]) == 20 * MIB
    assert ledger(engine).bytes_of([below, above]) == 70 * MIB


def test_an_image_without_layers(engine: FakeEngine) -> None:
    empty = engine.add("1", "", 0, "scratch:1")
    assert ledger(engine).bytes_of([empty]) == 0


# -- by least recent use ---------------------------------------------------------------------------


async def test_the_least_recently_used_go_first(engine: FakeEngine, use: ImageUse) -> None:
    for letter, hours in (("1", 5), ("2", 9), ("3", 1), ("4", 7)):
        engine.add(letter, letter, 10, f"{OURS}:{letter}")
        used(use, letter, hours)
    cleaned = await (await clean(engine, use)).least_used(25 * MIB)
    assert engine.removed == [f"{OURS}:2", f"{OURS}:4"]
    assert names(cleaned) == [f"image {tag}" for tag in engine.removed]
    assert [removal.bytes_freed for removal in cleaned.removed] == [10 * MIB, 10 * MIB]
    assert {removal.kind for removal in cleaned.removed} == {RemovalKind.IMAGE}
    assert cleaned.kept == ()


async def test_an_image_that_was_never_noted_was_used_when_it_was_made(
    engine: FakeEngine, use: ImageUse
) -> None:
    engine.add("1", "1", 10, f"{OURS}:old", created="0001-01-01T00:00:00Z")
    engine.add("2", "2", 10, f"{OURS}:odd", created="yesterday")
    engine.add("3", "3", 10, f"{OURS}:new", created="9999-01-01T00:00:00Z")
    cleaned = await (await clean(engine, use)).least_used(5 * MIB)
    assert set(engine.removed) == {f"{OURS}:old", f"{OURS}:odd"}
    assert "less than 2 minutes ago" in reasons(cleaned)[f"image {OURS}:new"]


async def test_what_is_within_the_limit_stays(engine: FakeEngine, use: ImageUse) -> None:
    engine.add("1", "1", 10, f"{OURS}:1")
    assert await (await clean(engine, use)).least_used(10 * MIB) == Cleaned()
    assert engine.removed == []


async def test_others_images_are_never_touched_nor_counted(
    engine: FakeEngine, use: ImageUse
) -> None:
    engine.add("1", "1", 99, "somebody:else")
    engine.add("2", "2", 99, "agenttrace/submission-of-mine:1")
    engine.add("3", "3", 99, f"{OURS}:1", "their:name")
    engine.add("4", "4", 99, f"{OURS}:2", digests=("their@sha256:00",))
    engine.add("5", "5", 99)
    assert await (await clean(engine, use)).least_used(1) == Cleaned()
    assert engine.removed == []


async def test_what_a_container_runs_is_kept(engine: FakeEngine, use: ImageUse) -> None:
    engine.add("1", "1", 10, f"{OURS}:1")
    engine.add("2", "2", 10, f"{OURS}:2")
    engine.run("1", "somebodys")
    engine.run("1", "another")
    cleaned = await (await clean(engine, use)).least_used(1)
    assert engine.removed == [f"{OURS}:2"]
    kept = reasons(cleaned)
    assert kept[f"image {OURS}:1"] == "container somebodys and 1 more uses it"
    assert kept["images of submissions"] == "they still take 10.0 MiB; 1 B are allowed"


async def test_a_container_that_is_to_be_reaped_keeps_nothing(
    engine: FakeEngine, use: ImageUse
) -> None:
    engine.add("1", "1", 10, f"{OURS}:1")
    engine.run("1", "killed")
    cleaning = await clean(engine, use, dry_run=True, reaped=("killed",))
    assert names(await cleaning.least_used(1)) == [f"image {OURS}:1"]


async def test_what_a_run_holds_is_kept(engine: FakeEngine, use: ImageUse) -> None:
    one = engine.add("1", "1", 10, f"{OURS}:1")
    with use.held(one):
        then = time.time() - 3600
        os.utime(use._path(one), (then, then))
        for dry_run in (True, False):
            cleaned = await (await clean(engine, use, dry_run=dry_run)).least_used(1)
            assert reasons(cleaned)[f"image {OURS}:1"] == cleanup.RUN_IN_PROGRESS
    assert engine.removed == []
    used(use, "1", 1)
    await (await clean(engine, use)).least_used(1)
    assert engine.removed == [f"{OURS}:1"]


async def test_no_run_takes_hold_of_an_image_that_is_being_removed(
    engine: FakeEngine, use: ImageUse
) -> None:
    one = engine.add("1", "1", 10, f"{OURS}:1")
    seen: list[bool] = []

    def look() -> None:
        with use.claimed(one) as free:
            seen.append(free)

    engine.before_removal = look
    await (await clean(engine, use)).least_used(1)
    assert seen == [False]
    assert not use._path(one).exists()


async def test_what_is_used_between_looking_and_removing_is_kept(
    engine: FakeEngine, use: ImageUse, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = engine.add("1", "1", 10, f"{OURS}:1")
    claim = use.claimed

    @contextmanager
    def used_just_before(image_id: str) -> Iterator[bool]:
        use.note(image_id)
        with claim(image_id) as free:
            yield free

    monkeypatch.setattr(use, "claimed", used_just_before)
    cleaned = await (await clean(engine, use)).least_used(1)
    assert reasons(cleaned)[f"image {OURS}:1"] == "it was used meanwhile"
    assert engine.removed == []
    assert use._path(one).exists()


async def test_what_the_engine_refuses_is_kept_and_counted(
    engine: FakeEngine, use: ImageUse
) -> None:
    for letter, hours in (("1", 9), ("2", 5)):
        engine.add(letter, letter, 10, f"{OURS}:{letter}")
        used(use, letter, hours)
    engine.refused = {f"{OURS}:1"}
    cleaned = await (await clean(engine, use)).least_used(10 * MIB)
    assert engine.removed == [f"{OURS}:2"]
    assert "conflict" in reasons(cleaned)[f"image {OURS}:1"]
    assert use._path(image_id("1")).exists()


async def test_a_dry_run_says_what_a_real_one_then_removes(
    engine: FakeEngine, use: ImageUse
) -> None:
    engine.add("0", "0", 40)
    for letter, hours in (("1", 5), ("2", 9), ("3", 1)):
        engine.add(letter, f"0{letter}", 50, f"{OURS}:{letter}", parent="0")
        used(use, letter, hours)
    engine.run("2", "busy")
    said = await (await clean(engine, use, dry_run=True)).least_used(5 * MIB)
    assert engine.removed == []
    assert await (await clean(engine, use)).least_used(5 * MIB) == said
    assert engine.removed == [f"{OURS}:1", f"{OURS}:3"]


# -- interrupted builds ----------------------------------------------------------------------------


async def test_a_finished_image_that_never_got_its_name_goes(
    engine: FakeEngine, use: ImageUse
) -> None:
    left = engine.add("1", "1", 10, labels={LABEL: DIGEST})
    now = time.strftime("%Y-%m-%dT%H:%M:%S.000000000Z", time.gmtime(time.time() - 3500))
    engine.add("2", "2", 10, labels={LABEL: DIGEST}, created=now)  # a build may be at it
    engine.add("3", "3", 10, labels={LABEL: "not a digest"})
    engine.add("4", "4", 10, labels={"other": DIGEST})
    engine.add("5", "5", 10, f"{OURS}:5", labels={LABEL: DIGEST})
    engine.add("6", "6", 10, labels={LABEL: DIGEST})
    engine.add("7", "67", 10, "theirs:1", parent="6")
    engine.add("8", "8", 10, labels={LABEL: DIGEST})
    with use.held(image_id("8")):
        cleaned = await (await clean(engine, use)).interrupted_builds()
    assert engine.removed == [left]
    assert cleaned.removed[0].why == cleanup.INTERRUPTED


# -- what the set-up made --------------------------------------------------------------------------


def current(version: str) -> SetUp:
    return SetUp(
        base_image_id="",
        base_tag="",
        python_version="3.11",
        shim_image_id="",
        shim_volume=f"agenttrace-shim-{version}",
    )


async def test_shims_of_other_versions_go(engine: FakeEngine, use: ImageUse) -> None:
    engine.add("1", "1", 10, "agenttrace/shim:old", "agenttrace/shim:old-whole-1")
    engine.add("2", "2", 10, "agenttrace/shim:new", "agenttrace/shim:new-whole-1")
    engine.add("3", "3", 10, "agenttrace/shim:used")
    engine.volumes_there = ["agenttrace-shim-new", "agenttrace-shim-old", "agenttrace-shim-used"]
    engine.run("3", "older-runner", "agenttrace-shim-used")
    cleaned = await (await clean(engine, use)).superseded(current("new"))
    assert engine.removed == [
        "agenttrace/shim:old",
        "agenttrace/shim:old-whole-1",
        "agenttrace-shim-old",
    ]
    assert [removal.bytes_freed for removal in cleaned.removed] == [0, 10 * MIB, None]
    assert list(reasons(cleaned)) == ["image agenttrace/shim:used", "volume agenttrace-shim-used"]


async def test_everything(engine: FakeEngine, use: ImageUse) -> None:
    engine.add("b", "b", 80, "agenttrace/python:3.11-x")
    engine.add("s", "bs", 81, "agenttrace/shim:v")
    engine.add("1", "b1", 90, f"{OURS}:1")
    use.note(image_id("1"))  # just now: who asks for all means all
    engine.add("x", "x", 5, "theirs:1")
    engine.volumes_there = ["agenttrace-shim-v"]
    cleaned = await (await clean(engine, use)).everything()
    assert engine.removed == [
        *(f"{OURS}:1", "agenttrace/shim:v", "agenttrace/python:3.11-x", "agenttrace-shim-v")
    ]
    assert sum(removal.bytes_freed or 0 for removal in cleaned.removed) == 91 * MIB


@pytest.mark.parametrize("by", ["held", "container", "remote"])
async def test_everything_but_what_a_run_needs(engine: FakeEngine, use: ImageUse, by: str) -> None:
    engine.add("b", "b", 80, "agenttrace/python:3.11-x")
    engine.add("1", "b1", 90, f"{OURS}:1")
    engine.add("2", "b2", 90, f"{OURS}:2")
    held = image_id("9" if by == "remote" else "1")  # of a run by reference: not ours
    if by == "container":
        engine.run("1", "busy")
        cleaned = await (await clean(engine, use)).everything()
    else:
        with use.held(held):
            cleaned = await (await clean(engine, use)).everything()
    assert f"{OURS}:2" in engine.removed
    assert "agenttrace/python:3.11-x" not in engine.removed
    assert "what `setup` made" in reasons(cleaned)


# -- notes -----------------------------------------------------------------------------------------


async def test_notes_of_images_that_are_gone_are_dropped(engine: FakeEngine, use: ImageUse) -> None:
    engine.add("1", "1", 10, f"{OURS}:1")
    for letter, hours in (("1", 99), ("2", 99), ("3", 1), ("4", 99)):
        used(use, letter, hours)
    with use.held(image_id("4")):
        (await clean(engine, use, dry_run=True)).forget_gone()
        assert use._names() == {letter * 64 for letter in "1234"}
        os.utime(use._path(image_id("4")), (1, 1))
        (await clean(engine, use)).forget_gone()
    assert use._names() == {letter * 64 for letter in "134"}


async def test_an_image_that_goes_while_it_is_looked_at(
    engine: FakeEngine, use: ImageUse, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.add("1", "1", 10, f"{OURS}:1")

    def gone(_one: str) -> dict[str, Any]:
        raise docker.errors.ImageNotFound("gone")

    monkeypatch.setattr(engine, "inspect_image", gone)
    assert await (await clean(engine, use)).least_used(1) == Cleaned()
