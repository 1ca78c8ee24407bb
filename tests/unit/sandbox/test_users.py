"""No two attempts that run at once have the same user id, whichever process runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runner.errors import StorageFailed
from runner.sandbox.users import UserPool

HOLDER = """
import sys
from pathlib import Path
from runner.sandbox.users import UserPool
with UserPool(Path(sys.argv[1]), 500).taken() as uid:
    print(uid, flush=True)
    sys.stdin.read()
"""


def test_the_lowest_free_one(tmp_path: Path) -> None:
    pool = UserPool(tmp_path, 500)
    with pool.taken() as first:
        with pool.taken() as second, pool.taken() as third:
            assert (first, second, third) == (500, 501, 502)
        with pool.taken() as again:
            assert again == 501


def test_another_process_keeps_its_own_until_it_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "500\n"
        with UserPool(tmp_path, 500).taken() as uid:
            assert uid == 501
        holder.kill()
    with UserPool(tmp_path, 500).taken() as uid:
        assert uid == 500


def test_no_place_for_the_locks(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StorageFailed, match="cannot write"),
        UserPool(tmp_path / "file/users", 1).taken(),
    ):
        pass
