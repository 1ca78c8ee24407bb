"""A build's output: bounded, and one safe line of it for a person."""

from __future__ import annotations

from pathlib import Path

from runner.images.buildlog import MAX_LOG_BYTES, MAX_OUTPUT_BYTES, BuildLog


def test_the_reason_is_the_error_and_the_last_real_line(tmp_path: Path) -> None:
    log = BuildLog(tmp_path / "logs" / "x.log")
    log.receive({"stream": " ---> Running in 0123456789ab\n"})
    log.receive({"stream": "fine\n\x1b[91mno \x1b]0;title\x07 such thing\x1b[0m\n"})
    log.receive({"stream": "Removing intermediate container 0123456789ab\n"})
    log.receive({"error": "it returned 3", "errorDetail": {"code": 3, "message": "it returned 3"}})
    assert log.reason == "it returned 3: no \\x1b]0;title\\x07 such thing"
    assert log.error_code == 3
    assert log.container_hints == ["0123456789ab"]
    log.write()
    assert b"\x1b[91m" in log.path.read_bytes()


def test_a_step_cannot_forge_the_result(tmp_path: Path) -> None:
    log = BuildLog(tmp_path / "x.log")
    log.receive({"stream": '{"aux": {"ID": "sha256:evil"}}\nSuccessfully built evil\n'})
    assert log.image_id == ""


def test_a_flood_is_noticed_and_not_kept(tmp_path: Path) -> None:
    log = BuildLog(tmp_path / "x.log")
    for _ in range(MAX_OUTPUT_BYTES // 2**20 + 1):
        log.receive({"stream": "x" * 2**20})
    assert log.is_flooded
    assert len(log.kept) == MAX_LOG_BYTES
