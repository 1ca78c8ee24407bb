"""The workspace: files in memory, and no way out of it."""

from __future__ import annotations

import pytest

from tests.unit.gateway.tools.asking import ask, error, tool

FILES = {"README.md": "Hello\nStraße", "notes/a.txt": "one hello", "notes/deep/b.txt": ""}


async def test_files_are_read_written_appended_and_deleted() -> None:
    space = tool("workspace", files={**FILES})
    assert await ask(space, operation="read", path="notes/a.txt") == {"content": "one hello"}
    assert await ask(space, operation="write", path="notes/c", content="a") == {"bytes": 1}
    assert await ask(space, operation="append", path="notes/c", content="é") == {"bytes": 3}
    assert await ask(space, operation="append", path="new", content="x") == {"bytes": 1}
    assert await ask(space, operation="read", path="notes/c") == {"content": "aé"}
    assert await ask(space, operation="delete", path="notes/c") == {"deleted": True}
    assert await error(space, operation="read", path="notes/c") == "there is no such file"
    assert await error(space, operation="delete", path="notes") == "there is no such file"


async def test_lists_are_in_order_and_of_a_folder() -> None:
    space = tool("workspace", files={**FILES})
    listed = await ask(space, operation="list")
    assert [file["path"] for file in listed["files"]] == sorted(FILES)
    assert listed["files"][0] == {"path": "README.md", "bytes": 13}
    for folder in ("notes", "notes/"):
        below = await ask(space, operation="list", path=folder)
        assert [file["path"] for file in below["files"]] == ["notes/a.txt", "notes/deep/b.txt"]
    assert await ask(space, operation="list", path="note") == {"files": []}


async def test_search_finds_lines_whatever_their_case() -> None:
    space = tool("workspace", files={**FILES})
    assert await ask(space, operation="search", text="HELLO") == {
        "hits": [
            {"path": "README.md", "line": 1, "text": "Hello"},
            {"path": "notes/a.txt", "line": 1, "text": "one hello"},
        ],
        "total": 2,
    }
    assert (await ask(space, operation="search", text="strasse", path="notes"))["total"] == 0
    assert (await ask(space, operation="search", text="strasse"))["total"] == 1


async def test_hits_are_bounded_and_their_number_told() -> None:
    space = tool("workspace", files={"a": "x\n" * 80})
    found = await ask(space, operation="search", text="x")
    assert (len(found["hits"]), found["total"]) == (50, 80)


@pytest.mark.parametrize(
    "path",
    [
        *("/etc/passwd", "../a", "a/../b", "./a", "a//b", "", "a\0b", "a\nb", "~/x;", "ä", " a"),
        *("a/ b", "x" * 201, "/".join("x" * 11), "a\\b", "c:d", "x" * 81),
    ],
)
@pytest.mark.parametrize("operation", ["read", "write", "delete"])
async def test_paths_that_there_are_not(operation: str, path: str) -> None:
    assert "path" in await error(tool("workspace"), operation=operation, path=path, content="")


async def test_what_is_missing_is_said() -> None:
    space = tool("workspace")
    assert await error(space, operation="read") == "read needs a path"
    assert await error(space, operation="write", path="a") == "write needs a content"
    assert await error(space, operation="search") == "search needs a text"


async def test_a_file_is_no_folder() -> None:
    space = tool("workspace", files={**FILES})
    for path in ("notes", "README.md/x", "notes/a.txt/b"):
        assert "folder" in await error(space, operation="write", path=path, content="x")


async def test_files_and_the_whole_are_bounded() -> None:
    space = tool("workspace")
    assert "65536" in await error(space, operation="write", path="a", content="x" * 65_537)
    for n in range(8):
        await ask(space, operation="write", path=f"f{n}", content="x" * 65_536)
    assert "full" in await error(space, operation="write", path="more", content="x")
    assert "65536" in await error(space, operation="append", path="f0", content="x")
    await ask(space, operation="delete", path="f0")
    await ask(space, operation="write", path="more", content="x")

    many = tool("workspace", files=dict.fromkeys(map(str, range(500)), ""))
    assert "500 files" in await error(many, operation="write", path="new", content="")
    await ask(many, operation="write", path="7", content="")
