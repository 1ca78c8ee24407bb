"""Builds on a real engine: their limits hold, and failures leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker.errors
import pytest

from runner.domain import FunctionInterface, Image, StdioInterface
from runner.engine import EngineClient, locate_engine
from runner.errors import BuildFailed, InvalidSubmission
from runner.images.builder import REPOSITORY, SubmissionImages
from runner.images.limits import BuildLimits
from runner.images.setup import SetUp, set_up
from runner.intake import image_submission, load_submission

pytestmark = pytest.mark.docker

MIB = 1024**2
MARK = "made-by-test-builder"
"""In the steps of the tests' builds, to tell what is left of them."""
HEAD = 'agent_name = "x"\nagent_version = "1.0.0"\n[agent_endpoint]\n'
LOCAL = HEAD + 'endpoint_type = "local"\nmodule_path = "agent"\nfunction_name = "answer"\n'
CONTAINER = HEAD + 'endpoint_type = "container"\n'
FROM_BASE = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n"
AGENT = "def answer(prompt, config):\n    return prompt\n"

Prepare = Callable[..., Image]


def quiet(_line: str) -> None:
    pass


@pytest.fixture(scope="module")
def client() -> Iterator[EngineClient]:
    with EngineClient(locate_engine()) as client:
        yield client


@pytest.fixture(scope="module")
def made(client: EngineClient) -> SetUp:
    return asyncio.run(set_up(client, quiet))


@pytest.fixture(autouse=True)
def left_as_found(client: EngineClient) -> Iterator[None]:
    """Removes what a test built, by its tag; whatever else is left over fails the test."""
    tagged = client.call_blocking("list", our_tags)
    before = client.call_blocking("list", leftovers)
    yield
    for tag in client.call_blocking("list", our_tags) - tagged:
        client.call_blocking("remove", lambda api, tag=tag: api.remove_image(tag))
    assert client.call_blocking("list", leftovers) <= before


def our_tags(api: Any) -> set[str]:
    return {tag for image in api.images(REPOSITORY) for tag in image["RepoTags"] or ()}


def leftovers(api: Any) -> set[str]:
    """Containers and nameless images of these tests; others may be using the engine as well."""
    containers = {c["Id"] for c in api.containers(all=True) if MARK in c["Command"]}
    nameless = [i for i in api.images(all=True) if i["RepoTags"] in (None, ["<none>:<none>"])]
    marked = set()
    for image in nameless:
        with contextlib.suppress(docker.errors.NotFound):
            steps = [layer["CreatedBy"] for layer in api.history(image["Id"])]
            marked |= {image["Id"]} if any(MARK in s or " in /agent" in s for s in steps) else set()
    return containers | marked


@pytest.fixture
def provider(client: EngineClient, made: SetUp, tmp_path: Path) -> Callable[..., SubmissionImages]:
    def make(**limits: Any) -> SubmissionImages:
        logs = tmp_path / "logs"
        return SubmissionImages(client, made.base_image_id, BuildLimits(**limits), logs)

    return make


@pytest.fixture
def prepare(provider: Callable[..., SubmissionImages], tmp_path: Path) -> Prepare:
    def run(manifest: str, files: dict[str, str | bytes], **limits: Any) -> Image:
        source = tmp_path / "source"
        source.mkdir(exist_ok=True)
        for name, data in {"submission.toml": manifest, **files}.items():
            (source / name).write_bytes(data.encode() if isinstance(data, str) else data)
        submission = load_submission(str(source))
        return asyncio.run(provider(**limits).prepare(submission, quiet))

    return run


@pytest.fixture
def build(prepare: Prepare) -> Prepare:
    def run(steps: str, files: dict[str, str | bytes] | None = None, **limits: Any) -> Image:
        dockerfile = f'{FROM_BASE}{steps}\nCMD ["true"]\n'
        manifest = CONTAINER + 'dockerfile = "Dockerfile"\n'
        return prepare(manifest, {"Dockerfile": dockerfile, **(files or {})}, **limits)

    return run


def output_of(client: EngineClient, image: Image, *command: str) -> str:
    def life(api: Any) -> str:
        container = api.create_container(
            image.image_id, list(command), entrypoint=[], network_disabled=True
        )["Id"]
        try:
            api.start(container)
            assert api.wait(container)["StatusCode"] == 0
            text: str = api.logs(container).decode()
            return text
        finally:
            api.remove_container(container, force=True, v=True)

    return client.call_blocking("run", life)


def random_step() -> str:
    """Something that no build did before, so that nothing comes from the engine's cache."""
    return f"RUN : {MARK} {time.monotonic_ns()}\n"


def log_of(tmp_path: Path) -> str:
    return "".join(path.read_text() for path in (tmp_path / "logs").glob("*.log"))


# -- local -------------------------------------------------------------------------------------


def test_a_python_directory(client: EngineClient, prepare: Prepare) -> None:
    image = prepare(LOCAL, {"agent.py": AGENT, "helper.py": f"X = {time.monotonic_ns()}\n"})
    assert image.interface == FunctionInterface(module="agent", function="answer")
    assert image.working_directory == "/agent"
    listing = output_of(
        client, image, "sh", "-c", "stat -c '%u %a %n' /agent/*.py; ls /agent/__pycache__"
    )
    assert "0 644 /agent/agent.py" in listing
    assert "agent.cpython-311.pyc" in listing


def test_identical_input_builds_once(prepare: Prepare) -> None:
    files = {"agent.py": f"# {time.monotonic_ns()}\n{AGENT}"}
    first = prepare(LOCAL, files)
    started = time.monotonic()
    second = prepare(LOCAL, files)
    assert time.monotonic() - started < 1
    assert first.build_seconds > 0
    assert second == first.model_copy(update={"build_seconds": 0.0})
    assert prepare(LOCAL, {"agent.py": AGENT + "\n"}).image_id != first.image_id


def test_requirements_are_installed_from_wheels(client: EngineClient, prepare: Prepare) -> None:
    image = prepare(LOCAL, {"agent.py": AGENT, "requirements.txt": "idna==3.10\n"})
    script = "import idna; print(idna.__version__)"
    assert output_of(client, image, "python3", "-c", script).strip() == "3.10"
    assert "wheels" not in output_of(client, image, "ls", "/").split()


def test_a_package_without_a_wheel(prepare: Prepare) -> None:
    files = {"agent.py": AGENT, "requirements.txt": "agenttrace-no-such-package==1\n"}
    with pytest.raises(BuildFailed, match=r"no wheel of agenttrace-no-such-package==1 for python"):
        prepare(LOCAL, files)


def test_a_lone_function_takes_nothing_else_along(
    client: EngineClient, provider: Callable[..., SubmissionImages], tmp_path: Path
) -> None:
    (tmp_path / "agent.py").write_text(AGENT)
    (tmp_path / "secret.txt").write_text("secret")
    submission = load_submission(f"{tmp_path}/agent.py:answer")
    image = asyncio.run(provider().prepare(submission, quiet))
    assert output_of(client, image, "ls", "/agent").split() == ["__pycache__", "agent.py"]


# -- Dockerfile --------------------------------------------------------------------------------


def test_limits_hold_within_a_step(build: Prepare, tmp_path: Path) -> None:
    script = (
        "import pathlib as p\n"
        "v1 = ['memory/memory.limit_in_bytes', 'cpu/cpu.cfs_quota_us']\n"
        "for f in [*v1, 'memory.max', 'cpu.max']:\n"
        "    f = p.Path('/sys/fs/cgroup') / f\n"
        "    if f.exists(): print('LIMIT', f.read_text().strip())\n"
        "print('NET', p.Path('/proc/net/dev').read_text().count(':'))\n"
    )
    image = build(
        f"{random_step()}COPY probe.py /\nRUN python3 /probe.py",
        {"probe.py": script},
        memory_bytes=200 * MIB,
        cpus=0.5,
    )
    text = log_of(tmp_path)
    assert f"LIMIT {200 * MIB}" in text
    assert "LIMIT 50000" in text
    assert "NET 1\n" in text
    assert image.interface == StdioInterface(command=("true",))


def test_a_failing_step_says_why(build: Prepare) -> None:
    with pytest.raises(BuildFailed, match=r"returned a non-zero code: 3: reason 42") as caught:
        build(f"{random_step()}RUN echo reason $((6*7)) >&2; exit 3")
    assert b"reason 42" in caught.value.log


@pytest.mark.parametrize(
    ("step", "problem", "limits"),
    [
        (f"RUN trap '' TERM; sleep 1000; : {MARK}", "longer than 2 s", {"seconds": 2}),
        ("RUN python3 -c 'bytearray(10**9)'", "non-zero code: 137", {"memory_bytes": 128 * MIB}),
        pytest.param(
            "RUN dd if=/dev/zero of=/f bs=1M count=900",
            "non-zero code",
            {"image_bytes": 400 * MIB},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "RUN for i in $(seq 400); do dd if=/dev/zero of=/f$i bs=1M count=50; sleep .1; done",
            "wrote more than 400 MiB",
            {"image_bytes": 400 * MIB},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "RUN yes 0123456789012345678901234567890123456789",
            "printed too much",
            {},
            marks=pytest.mark.slow,
        ),
        ("RUN no-such-program", "not found", {}),
        ("COPY missing /", "missing", {}),
        ("VOLUME /proc", "the volume '/proc'", {}),
    ],
)
def test_what_goes_too_far_is_stopped(
    build: Prepare, step: str, problem: str, limits: dict[str, Any]
) -> None:
    started = time.monotonic()
    with pytest.raises(BuildFailed) as caught:
        build(f"{random_step()}{step}", **limits)
    assert problem in str(caught.value)
    assert time.monotonic() - started < 60


@pytest.mark.slow
def test_a_fork_bomb_ends_at_the_memory_limit(build: Prepare) -> None:
    bomb = "import os\nwhile True:\n    os.fork()\n"
    with pytest.raises(BuildFailed):
        build("COPY b.py /\nRUN python3 /b.py", {"b.py": bomb}, memory_bytes=128 * MIB, seconds=20)


def test_cancelling_ends_the_build(
    client: EngineClient, provider: Callable[..., SubmissionImages], tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(f"{FROM_BASE}{random_step()}RUN sleep 1000; : {MARK}\n")
    (tmp_path / "submission.toml").write_text(CONTAINER + 'dockerfile = "Dockerfile"\n')
    submission = load_submission(str(tmp_path))

    async def cancelled() -> None:
        running = asyncio.create_task(provider().prepare(submission, quiet))
        await asyncio.sleep(2)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        assert running.cancelled()

    asyncio.run(cancelled())


def test_stages_leave_nothing_but_the_image(prepare: Prepare, tmp_path: Path) -> None:
    dockerfile = (
        f"ARG BASE_IMAGE\nFROM ${{BASE_IMAGE}} AS one\n{random_step()}RUN echo hi > /x\n"
        'FROM scratch\nCOPY --from=one /x /x\nENTRYPOINT ["/x"]\nCMD ["y"]\n'
    )
    image = prepare(CONTAINER + 'dockerfile = "Dockerfile"\n', {"Dockerfile": dockerfile})
    assert image.interface == StdioInterface(command=("/x", "y"))
    assert image.size_bytes == 3


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("FROM agenttrace/python:3.11\n", "runner's own"),
        ("FROM 0123456789ab\n", "runner's own, or an id"),
        ("FROM registry.invalid/no/such:1\n", "could not be pulled"),
        ("FROM Bad_Name\n", "not an image reference"),
        (f"{FROM_BASE}ADD x.tgz /\n", "ADD would unpack"),
    ],
)
def test_refused_before_the_engine_builds(prepare: Prepare, text: str, problem: str) -> None:
    files: dict[str, str | bytes] = {"Dockerfile": text, "x.tgz": b"\x1f\x8b123"}
    with pytest.raises(BuildFailed) as caught:
        prepare(CONTAINER + 'dockerfile = "Dockerfile"\n', files)
    assert problem in str(caught.value)


# -- references and archives -------------------------------------------------------------------


def test_an_image_by_id_and_by_unknown_name(
    made: SetUp, provider: Callable[..., SubmissionImages]
) -> None:
    known = image_submission(made.base_image_id, command=["cat"])
    assert asyncio.run(provider().prepare(known, quiet)).image_id == made.base_image_id
    unknown = image_submission("registry.invalid/no/such:1")
    with pytest.raises(BuildFailed, match=r"registry\.invalid/no/such:1 is not on this engine"):
        asyncio.run(provider().prepare(unknown, quiet))


def saved_image(tag: str, architecture: str = "amd64", claimed: str = "") -> bytes:
    layer = tar({"x": str(time.monotonic_ns()).encode()})
    digest = claimed or hashlib.sha256(layer).hexdigest()
    config = {
        "os": "linux",
        "architecture": architecture,
        "config": {"Cmd": ["/x"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = [{"Config": "c.json", "RepoTags": [tag], "Layers": ["l/layer.tar"]}]
    repository, _, name = tag.partition(":")
    return tar(
        {
            "c.json": json.dumps(config).encode(),
            "l/layer.tar": layer,
            "manifest.json": json.dumps(manifest).encode(),
            "repositories": json.dumps({repository: {name: "l"}}).encode(),
        }
    )


def tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_an_archive_cannot_move_a_tag(client: EngineClient, made: SetUp, prepare: Prepare) -> None:
    image = prepare(CONTAINER + 'archive = "a.tar"\n', {"a.tar": saved_image(made.base_tag)})
    assert image.interface == StdioInterface(command=("/x",))
    details = client.call_blocking("inspect", lambda api: api.inspect_image(made.base_tag))
    assert details["Id"] == made.base_image_id
    details = client.call_blocking("inspect", lambda api: api.inspect_image(image.image_id))
    assert [tag.partition(":")[0] for tag in details["RepoTags"]] == [REPOSITORY]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"not a tar" * 100, "not a readable archive"),
        (tar({"x": b""}), "is not an image"),
        (saved_image("a:b", architecture="s390x"), "is for linux/s390x"),
    ],
)
def test_archives_that_cannot_run(prepare: Prepare, data: bytes, problem: str) -> None:
    with pytest.raises(BuildFailed) as caught:
        prepare(CONTAINER + 'archive = "a.tar"\n', {"a.tar": data})
    assert problem in str(caught.value)


def test_a_layer_that_is_not_what_the_config_says(prepare: Prepare) -> None:
    data = saved_image("a:b", claimed="0" * 64)
    with pytest.raises(BuildFailed, match="was not loaded"):
        prepare(CONTAINER + 'archive = "a.tar"\n', {"a.tar": data})


def test_a_url_is_not_offered_yet(
    provider: Callable[..., SubmissionImages], tmp_path: Path
) -> None:
    manifest = HEAD + 'endpoint_type = "http"\nurl = "https://x.example/"\n'
    (tmp_path / "submission.toml").write_text(manifest)
    with pytest.raises(InvalidSubmission, match="cannot be run yet"):
        asyncio.run(provider().prepare(load_submission(str(tmp_path)), quiet))
