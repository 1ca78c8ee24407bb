"""The parts of the set-up that need no engine."""

from __future__ import annotations

import asyncio
import json
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from runner.assets import asset
from runner.domain.shim import SHIM_ARGV, SHIM_ENVIRONMENT, shim_environment
from runner.errors import EngineFailed, InfrastructureError, NotSetUp
from runner.images import bases, debian, setup
from runner.images.ours import context_of, digest_of
from runner.images.shim import _Chunks


def test_a_context_is_the_same_for_the_same_content(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub/file").write_text("content")
        (tmp_path / name / "Dockerfile").write_text("FROM scratch")
    (tmp_path / "two/__pycache__").mkdir()
    (tmp_path / "two/__pycache__/x.pyc").write_bytes(b"")
    assert context_of(tmp_path / "one") == context_of(tmp_path / "two")
    with tarfile.open(fileobj=BytesIO(context_of(tmp_path / "one"))) as tar:
        assert tar.getnames() == ["Dockerfile", "sub/file"]


def test_a_digest_tells_where_one_part_ends() -> None:
    assert digest_of("ab", "c") != digest_of("a", "bc")
    assert digest_of("ab") == digest_of(b"ab")
    assert len(digest_of()) == 12


def test_what_ships_with_us_is_found_and_what_does_not_is_an_error() -> None:
    assert asset("sandbox_images/shim/assemble.py").is_file()
    with pytest.raises(InfrastructureError, match="nonsense"):
        asset("nonsense")


def test_an_images_variables_are_taken_away_from_the_shim() -> None:
    hostile = ["LD_PRELOAD=/x.so", "LC_ALL=xx", "A=B=C", "BARE", "=odd", ""]
    assert shim_environment(hostile) == [*SHIM_ENVIRONMENT, "A", "BARE", "LD_PRELOAD"]


def test_the_shim_is_started_by_paths_of_its_volume_alone() -> None:
    paths = [word for word in SHIM_ARGV if not word.startswith("-")]
    assert all(path.startswith("/opt/agenttrace/") for path in paths)


@pytest.mark.parametrize("output", ["", "python 2.7\n", "no python 3.11", "python 3.11.2\n"])
def test_a_base_without_python_3_is_refused(output: str) -> None:
    with pytest.raises(EngineFailed, match="Python 3"):
        bases._version(output)


def test_the_version_is_read_from_the_builders_output() -> None:
    assert bases._version("Step 3\n ---> Running\npython 3.12\n ---> abc\n") == "3.12"


def test_chunks_read_as_a_file_does() -> None:
    file = _Chunks(iter([b"abc", b"defg"]))
    assert [file.read(2), file.read(4), file.read(9), file.read(1)] == [b"ab", b"cdef", b"g", b""]


def test_only_this_release_and_its_updates_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    listing = (
        "http://a/debian/ bookworm main\nhttp://a/debian/ bookworm main\n"
        "http://a/debian/ bookworm-updates main\nhttp://b/sec/ bookworm-security main\n"
        "http://c/ bookworm-pgdg main\nhttp://d/ bookworm stable\nhttp://e/ sid main\n"
        "cdrom://x/ bookworm main\nnonsense\n"
    )
    monkeypatch.setattr(debian, "_output_of", lambda *_command: listing)
    assert debian._mirrors("bookworm") == [
        "deb http://a/debian/ bookworm main",
        "deb http://a/debian/ bookworm-updates main",
        "deb http://b/sec/ bookworm-security main",
    ]
    with pytest.raises(NotSetUp, match="trixie"):
        debian._mirrors("trixie")


def test_without_mmdebstrap_and_without_root_the_way_out_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(debian.shutil, "which", lambda _name: None)
    monkeypatch.setattr(debian, "can_install", lambda: False)
    with pytest.raises(NotSetUp) as caught:
        debian._have_mmdebstrap(lambda _line: None)
    assert "apt-get install mmdebstrap" in caught.value.remedy
    assert "images.base_reference" in caught.value.remedy


async def test_a_failing_maker_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(NotSetUp, match=r"first \| second"):
        await debian._run(["sh", "-c", "echo first; echo second >&2; exit 3"], tmp_path)


async def test_a_cancelled_maker_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"sleep 300 & echo $! > {pid_file}; wait"
    running = asyncio.create_task(debian._run(["sh", "-c", script], tmp_path))
    await until(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"))
    child = Path("/proc", pid_file.read_text().strip(), "stat")
    assert is_alive(child)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until(lambda: not is_alive(child))


def is_alive(stat: Path) -> bool:
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it did not come about")


async def test_one_set_up_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    inside, most, said = 0, 0, list[str]()

    async def one() -> None:
        nonlocal inside, most
        async with setup._alone(said.append):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.02)
            inside -= 1

    await asyncio.gather(one(), one(), one())
    assert most == 1
    assert set(said) == {"waiting for another set-up on this host"}


def test_the_filter_allows_by_name_and_knows_no_32_bit_calls() -> None:
    profile = json.loads(asset("config/seccomp.json").read_text("utf-8"))
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert [entry["subArchitectures"] for entry in profile["archMap"]] == [[], []]
    unconditional = {
        name for rule in profile["syscalls"] if "args" not in rule for name in rule["names"]
    }
    dangerous = {"socket", "clone", "ptrace", "bpf", "unshare", "setns", "mount", "keyctl"}
    assert not unconditional & (dangerous | {"io_uring_setup", "userfaultfd", "personality"})
    assert {"execve", "futex", "setuid", "setgid", "setgroups", "kill"} <= unconditional
