"""An image's own description: taken over where harmless, refused where not."""

from __future__ import annotations

from typing import Any

import pytest

from runner.domain import AgentEndpoint, FunctionInterface, HttpInterface, Image, StdioInterface
from runner.errors import BuildFailed
from runner.images.inspection import Provenance, runnable_image

IDENTITY = "sha256:" + "1" * 64


def image(endpoint: dict[str, Any] | None = None, **config: Any) -> Image:
    details = {
        "Id": IDENTITY,
        "Os": "linux",
        "Architecture": config.pop("architecture", "amd64"),
        "Size": config.pop("size", 10),
        "Config": {"Cmd": ["/x"], **config},
    }
    return runnable_image(
        details,
        AgentEndpoint(endpoint_type="container", image="a", **(endpoint or {})),
        Provenance(reference="a\x1b"),
        platform="linux/amd64",
        image_bytes=100,
    )


def test_an_images_own_command() -> None:
    found = image(
        Entrypoint=["/e"], Env=["A=b", "junk"], WorkingDir="//w/../v", Volumes={"/d/": {}}
    )
    assert found.interface == StdioInterface(command=("/e", "/x"))
    assert found.environment == ("A=b",)
    assert found.working_directory == "/v"
    assert found.volumes == ("/d",)


def test_the_manifests_command_comes_first() -> None:
    given = {"command": ("a",), "interface": "http", "port": 80}
    assert image(given, Cmd=None).interface == HttpInterface(command=("a",), port=80)


def test_a_function_needs_no_command() -> None:
    endpoint = AgentEndpoint(endpoint_type="local", module_path="m", function_name="f")
    details = {"Id": IDENTITY, "Os": "linux", "Architecture": "amd64", "Config": None}
    found = runnable_image(
        details, endpoint, Provenance(reference="m:f"), platform="linux/amd64", image_bytes=1
    )
    assert found.interface == FunctionInterface(module="m", function="f")


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"Cmd": None}, "neither ENTRYPOINT nor CMD"),
        ({"Cmd": [""]}, "neither ENTRYPOINT nor CMD"),
        ({"size": 1000}, "allowed"),
        ({"architecture": "arm64"}, "is for linux/arm64"),
        ({"WorkingDir": "relative"}, "working directory"),
        ({"Env": ["A=" + "b" * 200_000]}, "variables"),
        ({"Env": ["A=b"] * 2000}, "variables"),
        ({"Volumes": {f"/{n}": {} for n in range(9)}}, "declares 9 volumes"),
    ],
)
def test_refused(config: dict[str, Any], problem: str) -> None:
    with pytest.raises(BuildFailed) as caught:
        image(**config)
    assert problem in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "path",
    [
        *("/", "//", "/proc", "/proc/x", "/sys/fs", "/dev", "/dev/shm", "/opt", "/opt/agenttrace"),
        *("/opt/agenttrace/lib", "/a/../proc", "relative", "/a:b", "/a\nb", "/" + "x" * 300),
        *("", "."),
    ],
)
def test_volumes_that_would_be_in_the_way(path: str) -> None:
    with pytest.raises(BuildFailed, match="cannot be mounted"):
        image(Volumes={path: {}})


def test_volumes_beside_those_are_fine() -> None:
    wanted = {"/data": {}, "/opt/agent": {}, "/process": {}, "/tmp": {}, "/output": {}}
    assert set(image(Volumes=wanted).volumes) == set(wanted)
