"""Parts of the shim as they are, on this host: its channel, its outputs, its collector.

Nothing here may reach `kill_everything`: it is for PID 1 of a container.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain import Limits, Prompt
from runner.domain.mounts import SHIM_DIRECTORY
from runner.errors import LimitNotApplied
from runner.transport.frames import HEADER, Frame, FrameDecoder, Kind, encode
from runner.transport.hello import check_agent
from runner.transport.launch import AgentUser, request_text, start_request
from runner.transport.messages import File, Hello, parse
from tests.unit.transport.scripted_shim import STDIO
from tests.unit.transport.shim_program import load


@pytest.fixture
def shim(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load()

    def never() -> None:
        raise AssertionError("this would end every process of this host")

    monkeypatch.setattr(module, "kill_everything", never)
    return module


@pytest.fixture
def heard(
    shim: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], list[Frame]]]:
    """What the shim has sent so far, as the host parses it."""
    path = tmp_path / "sent"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    monkeypatch.setattr(shim, "STDOUT", descriptor)
    yield lambda: list(FrameDecoder().feed(path.read_bytes()))
    os.close(descriptor)


def receiving(shim: ModuleType, monkeypatch: pytest.MonkeyPatch, data: bytes) -> list[Any]:
    """What the channel makes of `data`, and of the end."""
    host, ours = socket.socketpair()
    with host, ours:
        monkeypatch.setattr(shim, "STDIN", ours.fileno())
        channel, got = shim.Channel(), []
        for at in range(0, len(data), 100_000):
            host.sendall(data[at : at + 50_000])
            got += channel.receive()
            if rest := data[at + 50_000 : at + 100_000]:
                host.sendall(rest)
                got += channel.receive()
        host.shutdown(socket.SHUT_WR)
        return [*got, channel.receive()]


def test_requests_arrive_as_they_were_sent(
    shim: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(input_bytes=100_000)
    text = request_text(Prompt(task_id="t", text="\u20ac\x01\ud800" * 30_000), {"seed": 1})
    start = json.dumps(start_request(STDIO, limits, AgentUser(), text)).encode()
    data = encode(Frame(Kind.START, start)) + encode(Frame(Kind.DATA, b"x", 16))
    (first, second, end) = receiving(shim, monkeypatch, data)
    assert (first[0], second, end) == (shim.START, (shim.DATA, 16, b"x"), None)
    assert shim.from_json(first[2])["stdin"] == text


def test_the_longest_prompt_fits_one_request(shim: ModuleType) -> None:
    worst = request_text(Prompt(task_id="t", text="\x01" * Limits().input_bytes), {})
    request = json.dumps(start_request(STDIO, Limits(), AgentUser(), worst))
    assert len(request) < shim.MAX_REQUEST


def test_a_request_too_long_ends_the_shim(
    shim: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match="a request of"):
        receiving(shim, monkeypatch, HEADER.pack(shim.MAX_REQUEST + 1, Kind.START, 0))


@pytest.mark.usefixtures("heard")
def test_output_is_forwarded_up_to_its_cap_and_counted_beyond(
    shim: ModuleType, heard: Callable[[], list[Frame]]
) -> None:
    output = shim.Output(shim.Channel(), 1, 10)
    try:
        assert output.pump() is None
        for data in (b"12345", b"67890abc", b"more"):
            os.write(output.write_end, data)
            assert output.pump() == len(data)
        os.write(output.write_end, b"rest")
        os.close(output.write_end)
        output.drain()
        assert output.pump() == 0
    finally:
        os.close(output.read_end)
    assert output.total == 21
    assert heard() == [Frame(Kind.OUTPUT, b"12345", 1), Frame(Kind.OUTPUT, b"67890", 1)]


# -- the collector ------------------------------------------------------------------------------


@pytest.fixture
def collect(
    shim: ModuleType, heard: Callable[[], list[Frame]], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[Frame]]:
    monkeypatch.setattr(os, "seteuid", lambda _uid: None)
    monkeypatch.setattr(os, "setegid", lambda _gid: None)

    def run(directory: Path, **caps: int) -> list[Frame]:
        request = {"max_bytes": 100, "max_files": 10, "max_entries": 20, "max_depth": 3}
        ids = {"directory": str(directory), "uid": os.getuid(), "gid": os.getgid()}
        shim.Collector(shim.Channel(), request | ids | caps).run()
        return heard()

    return run


def told(frames: list[Frame]) -> dict[str, tuple[int, str]]:
    """Size and reason of each entry, by path."""
    files = [parse(File, frame.payload) for frame in frames if frame.kind is Kind.FILE]
    return {file.path: (file.size, file.skipped) for file in files}


def test_files_come_with_their_bytes(collect: Callable[..., list[Frame]], tmp_path: Path) -> None:
    (tmp_path / "out/a").mkdir(parents=True)
    (tmp_path / "out/a/b").write_bytes(b"hello")
    frames = collect(tmp_path / "out")
    assert [frame.kind for frame in frames] == [
        *(Kind.FILE, Kind.FILE_DATA, Kind.FILE_END, Kind.COLLECTED)
    ]
    assert told(frames) == {"a/b": (5, "")}
    assert frames[1].payload == b"hello"


@pytest.mark.parametrize(
    "name", [b"\xff\xfe", b"\xed\xa0\x80", "h\u00e9".encode(), b"\n\x1b[2J", b"\x01", b"a b\\"]
)
def test_a_name_is_bytes_and_arrives_as_such(
    collect: Callable[..., list[Frame]], tmp_path: Path, name: bytes
) -> None:
    os.mkdir(tmp_path / "out")  # noqa: PTH102
    with open(os.path.join(os.fsencode(tmp_path / "out"), name), "wb"):  # noqa: PTH118, PTH123
        pass
    (path,) = told(collect(tmp_path / "out"))
    assert path.encode("latin-1") == name


def test_what_is_no_plain_file_is_told_and_not_opened(
    collect: Callable[..., list[Frame]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "link").symlink_to("/etc/passwd")
    (out / "directory link").symlink_to("/etc")
    os.mkfifo(out / "fifo")
    assert told(collect(out)) == {
        "link": (0, "a symbolic link"),
        "directory link": (0, "a symbolic link"),
        "fifo": (0, "a FIFO"),
    }


def test_caps_hold_before_anything_is_read(
    collect: Callable[..., list[Frame]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with (out / "sparse").open("wb") as file:
        file.truncate(2**40)
    frames = collect(out)
    assert told(frames) == {"sparse": (2**40, "larger than the 100 bytes left")}
    assert Kind.FILE_DATA not in [frame.kind for frame in frames]


def test_files_entries_and_depth_are_capped(
    collect: Callable[..., list[Frame]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (out / "1/2/3/4").mkdir(parents=True)
    assert told(collect(out)) == {"1/2/3/4": (0, "nested too deep")}
    for number in range(30):
        (out / f"{number:02}").touch()
    frames = collect(out, max_files=3, max_entries=9)
    assert b"more than 9 entries" in frames[-1].payload


def test_a_directory_that_is_not_there(collect: Callable[..., list[Frame]], tmp_path: Path) -> None:
    (frame,) = collect(tmp_path / "none")
    assert json.loads(frame.payload)["truncated"].startswith("the directory cannot be read")


# -- the rest -----------------------------------------------------------------------------------


def test_its_hello_is_one_that_we_understand(shim: ModuleType) -> None:
    hello = parse(Hello, shim.as_json(shim.hello()).encode())
    assert hello.protocol == 2
    assert "/" in [point for point, _, _ in hello.mounts]
    assert "NoNewPrivs" in hello.identity
    assert set(shim.OUR_MOUNTS) == {"/", SHIM_DIRECTORY}


def test_who_the_agent_is_is_read_from_the_kernel(shim: ModuleType) -> None:
    identity = shim.own_identity()
    if os.getuid() == 0:
        with pytest.raises(LimitNotApplied, match="the agent runs"):
            check_agent(identity, AgentUser())
    assert f"Uid: {os.getuid()}" in identity


def test_a_directory_without_room(shim: ModuleType, tmp_path: Path) -> None:
    assert not shim.is_full(str(tmp_path))
    assert not shim.is_full(str(tmp_path / "none"))


@pytest.mark.skipif(os.getpid() == 1, reason="we are the one process that may")
def test_everything_is_killed_by_pid_1_alone() -> None:
    kill_everything = load().kill_everything
    with pytest.raises(SystemExit, match="only PID 1"):
        # the guard comes before the kill; without it this would be the end of this host
        guarded(kill_everything)


def guarded(function: Callable[[], None]) -> None:
    """Calls it with `os.kill` taken away, whatever its guard says."""
    kill = os.kill
    os.kill = lambda *_: None  # type: ignore[assignment]
    try:
        function()
    finally:
        os.kill = kill


@given(st.dictionaries(st.sampled_from("abc"), st.text(max_size=20), max_size=3))
def test_every_frame_that_it_sends_is_one_of_ours(value: dict[str, str]) -> None:
    module = load()
    payload = module.as_json(value).encode()
    header = module.HEADER.pack(len(payload), module.FAILED, 0)
    assert list(FrameDecoder().feed(header + payload)) == [Frame(Kind.FAILED, payload)]
