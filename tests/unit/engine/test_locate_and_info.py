"""Which engine, and what it says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import docker.errors
import pytest
from docker.context import ContextAPI

from runner.engine import locate
from runner.engine.info import parse_info
from runner.engine.locate import EngineAddress, locate_engine
from runner.errors import EngineUnavailable


class Context:
    def __init__(self, name: str, host: str) -> None:
        self.name, self.Host = name, host


@pytest.fixture(autouse=True)
def contexts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """No context but those of the test, no socket, no home."""
    known: dict[str, Any] = {"": Context("default", "unix:///nowhere")}
    monkeypatch.setattr(ContextAPI, "get_context", known.get)
    monkeypatch.setattr(ContextAPI, "get_current_context", lambda: known[""])
    monkeypatch.setattr(locate, "DEFAULT_SOCKET", tmp_path / "docker.sock")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    return known


def test_a_setting_goes_before_the_environment() -> None:
    found = locate_engine("tcp://a:1", {"DOCKER_HOST": "tcp://b:2", "DOCKER_CONTEXT": "c"})
    assert (found.url, found.origin) == ("tcp://a:1", "setting engine.host")


def test_the_environment_goes_before_a_context(contexts: dict[str, Any]) -> None:
    contexts["c"] = Context("c", "tcp://c:3")
    both = {"DOCKER_HOST": "tcp://b:2", "DOCKER_CONTEXT": "c"}
    assert locate_engine("", both).origin == "DOCKER_HOST"
    found = locate_engine("", {"DOCKER_CONTEXT": "c"})
    assert (found.url, found.origin) == ("tcp://c:3", "context c")


def test_the_current_context(contexts: dict[str, Any]) -> None:
    contexts[""] = Context("remote", "ssh://me@there")
    assert locate_engine("", {}).url == "ssh://me@there"


def test_a_context_that_there_is_not() -> None:
    with pytest.raises(EngineUnavailable, match="no docker context 'c'"):
        locate_engine("", {"DOCKER_CONTEXT": "c"})


def test_a_context_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise docker.errors.DockerException("bad JSON")

    monkeypatch.setattr(ContextAPI, "get_current_context", broken)
    with pytest.raises(EngineUnavailable, match="cannot be read: bad JSON"):
        locate_engine("", {})


def test_the_default_sockets_in_their_order(tmp_path: Path) -> None:
    environment = {"XDG_RUNTIME_DIR": str(tmp_path / "run")}
    with pytest.raises(EngineUnavailable, match="no Docker engine found"):
        locate_engine("", environment)
    rootless = tmp_path / "run/docker.sock"
    rootless.parent.mkdir()
    rootless.touch()
    assert locate_engine("", environment).socket_path == rootless
    (tmp_path / "docker.sock").touch()
    assert locate_engine("", environment).socket_path == tmp_path / "docker.sock"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("unix:///run/docker.sock", Path("/run/docker.sock")),
        ("http+unix:///run/docker.sock", Path("/run/docker.sock")),
        ("tcp://127.0.0.1:2375", None),
        ("ssh://me@there", None),
    ],
)
def test_only_a_socket_of_this_host_is_near(url: str, path: Path | None) -> None:
    assert EngineAddress(url=url, origin="test").socket_path == path


@pytest.mark.parametrize(
    ("environment", "directory"),
    [
        ({}, None),
        ({"DOCKER_CERT_PATH": "/certs"}, None),
        ({"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/certs"}, Path("/certs")),
    ],
)
def test_certificates(environment: dict[str, str], directory: Path | None) -> None:
    found = locate_engine("", environment | {"DOCKER_HOST": "tcp://a:1"})
    assert found.tls_directory == directory


# -- what it says of itself ---------------------------------------------------------------------


def test_an_empty_answer_is_an_engine_of_which_we_know_nothing() -> None:
    info = parse_info({}, {})
    assert (info.version, info.cpus, info.cgroup_version, info.tier) == ("unknown", 1, 1, "")


@pytest.mark.parametrize(
    ("options", "runtime", "tier"),
    [
        ([], "runc", "runc"),
        (["name=seccomp,profile=builtin", "name=userns"], "runc", "userns"),
        (["name=rootless", "name=userns"], "runc", "rootless"),
        (["name=userns"], "runsc", "runsc"),
        ([], "kata-qemu", "kata"),
    ],
)
def test_tiers(options: list[str], runtime: str, tier: str) -> None:
    info = parse_info({"SecurityOptions": options, "DefaultRuntime": runtime}, {})
    assert info.tier == tier


def test_cgroup_versions_and_platforms() -> None:
    info = parse_info({"CgroupVersion": "2", "Architecture": "aarch64", "NCPU": 8}, {})
    assert (info.cgroup_version, info.platform, info.cpus) == (2, "linux/arm64", 8)
