"""A folder of text files in memory, as a place for an agent to work in."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import AfterValidator, Field, JsonValue, model_validator

from runner.domain import ToolAnswer, ToolDefinition
from runner.gateway.tools.setup import ToolSetup

_PATH_CHARACTERS = 200
_FILES = 500
_FILE_BYTES = 64 * 1024
_TOTAL_BYTES = 512 * 1024
_HITS = 50
_LINE_CHARACTERS = 500
_STEP = re.compile(r"[A-Za-z0-9_ .-]{1,80}")

_DEFINITION = ToolDefinition(
    name="workspace",
    description=(
        "Text files. Operations: read, write (the whole file), append, delete, list (the paths "
        "below a folder, with sizes), search (the lines that contain a text, whatever its case)."
    ),
    parameters={
        "type": "object",
        "properties": {
            "operation": {
                "type": "string",
                "enum": ["read", "write", "append", "delete", "list", "search"],
            },
            "path": {
                "type": "string",
                "maxLength": _PATH_CHARACTERS,
                "description": "Such as notes/today.txt; for list and search a folder, or left out",
            },
            "content": {"type": "string", "description": "For write and append"},
            "text": {
                "type": "string",
                "minLength": 1,
                "maxLength": 200,
                "description": "For search",
            },
        },
        "required": ["operation"],
        "additionalProperties": False,
    },
)


def _checked_path(path: str) -> str:
    if problem := _problem_of(path):
        raise ValueError(problem)
    return path


def _problem_of(path: str) -> str:
    steps = path.split("/")
    if len(path) > _PATH_CHARACTERS or len(steps) > 10:
        return f"a path is at most {_PATH_CHARACTERS} characters and 10 steps long"
    if any(step in ("", ".", "..") or step != step.strip() for step in steps):
        return "a path is relative, such as notes/today.txt, without '.', '..' or empty steps"
    if not all(map(_STEP.fullmatch, steps)):
        return "a path has letters, digits, spaces, '.', '_', '-' and '/' alone"
    return ""


Path = Annotated[str, AfterValidator(_checked_path)]


class WorkspaceSetup(ToolSetup):
    """What files there are at first."""

    files: dict[Path, str] = Field(default_factory=dict, max_length=_FILES)

    @model_validator(mode="after")
    def _fits(self) -> WorkspaceSetup:
        sizes = [len(text.encode()) for text in self.files.values()]
        if any(size > _FILE_BYTES for size in sizes):
            raise ValueError(f"a file is larger than {_FILE_BYTES} bytes")
        if sum(sizes) > _TOTAL_BYTES:
            raise ValueError(f"files are larger than {_TOTAL_BYTES} bytes together")
        if clash := next((path for path in self.files if _clash(path, self.files)), None):
            raise ValueError(f"{clash!r} is both a file and a folder")
        return self


class Workspace:
    """Files by path (`runner.ports.Tool`)."""

    def __init__(self, setup: WorkspaceSetup) -> None:
        self._files = dict(setup.files)
        self._bytes = sum(len(text.encode()) for text in self._files.values())

    @property
    def definition(self) -> ToolDefinition:
        """What the agent is told of it."""
        return _DEFINITION

    @property
    def cacheable(self) -> bool:
        """False: what it says depends on what was written."""
        return False

    async def call(self, arguments: Mapping[str, JsonValue]) -> ToolAnswer:
        """What `operation` gives."""
        operation = str(arguments["operation"])
        path = str(arguments.get("path", "")).removesuffix("/")
        optional = operation in ("list", "search")
        if (path or not optional) and (problem := _problem_of(path)):
            return ToolAnswer(error=problem if "path" in arguments else f"{operation} needs a path")
        match operation:
            case "list":
                return self._list(path)
            case "search":
                return self._search(path, str(arguments.get("text", "")))
            case "write" | "append":
                return self._put(operation, path, arguments)
            case _:
                return self._read_or_delete(operation, path)

    def _read_or_delete(self, operation: str, path: str) -> ToolAnswer:
        if path not in self._files:
            return ToolAnswer(error="there is no such file")
        text = self._files[path]
        if operation == "read":
            return ToolAnswer(result={"content": text})
        del self._files[path]
        self._bytes -= len(text.encode())
        return ToolAnswer(result={"deleted": True})

    def _put(self, operation: str, path: str, arguments: Mapping[str, JsonValue]) -> ToolAnswer:
        if "content" not in arguments:
            return ToolAnswer(error=f"{operation} needs a content")
        held = self._files.get(path, "")
        text = (held if operation == "append" else "") + str(arguments["content"])
        size = len(text.encode())
        grown = self._bytes - len(held.encode()) + size
        if problem := self._refusal(path, size, grown):
            return ToolAnswer(error=problem)
        self._files[path], self._bytes = text, grown
        return ToolAnswer(result={"bytes": size})

    def _refusal(self, path: str, size: int, grown: int) -> str:
        if size > _FILE_BYTES:
            return f"a file is at most {_FILE_BYTES} bytes"
        if grown > _TOTAL_BYTES:
            return f"the workspace is full: it holds {_TOTAL_BYTES} bytes"
        if path not in self._files and len(self._files) >= _FILES:
            return f"the workspace is full: it has {_FILES} files"
        return "a step of that path is a file, or the path a folder" if self._clashes(path) else ""

    def _clashes(self, path: str) -> bool:
        return path not in self._files and _clash(path, self._files)

    def _below(self, folder: str) -> list[str]:
        """Paths in that folder, or of that file, in order."""
        return sorted(
            path
            for path in self._files
            if not folder or path == folder or path.startswith(f"{folder}/")
        )

    def _list(self, folder: str) -> ToolAnswer:
        found: list[JsonValue] = [
            {"path": path, "bytes": len(self._files[path].encode())} for path in self._below(folder)
        ]
        return ToolAnswer(result={"files": found})

    def _search(self, folder: str, text: str) -> ToolAnswer:
        if not text:
            return ToolAnswer(error="search needs a text")
        found = self._lines_with(text.casefold(), folder)
        hits: list[JsonValue] = [
            {"path": path, "line": number, "text": line[:_LINE_CHARACTERS]}
            for path, number, line in itertools.islice(found, _HITS)
        ]
        return ToolAnswer(result={"hits": hits, "total": len(hits) + sum(1 for _ in found)})

    def _lines_with(self, folded: str, folder: str) -> Iterator[tuple[str, int, str]]:
        for path in self._below(folder):
            for number, line in enumerate(self._files[path].splitlines(), start=1):
                if folded in line.casefold():
                    yield path, number, line


def _clash(path: str, files: Mapping[str, str]) -> bool:
    """Whether another file is a folder of `path`, or below it."""
    steps = path.split("/")
    folders = {"/".join(steps[:count]) for count in range(1, len(steps))}
    return any(other in folders or other.startswith(f"{path}/") for other in files)
