"""A submitter's Dockerfile, parsed, judged and written anew, so that what was checked is what runs.

The engine never reads the submitter's own text: it gets one instruction a line, without comments,
directives or continuation lines, in which two parsers could disagree.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from runner.domain.text import one_line
from runner.errors import BuildFailed

MAX_DOCKERFILE_BYTES = 256 * 1024
MAX_INSTRUCTION_BYTES = 60_000
"""The engine reads lines of at most 64 KiB."""
MAX_INSTRUCTIONS = 500
BASE_ARGUMENT = "BASE_IMAGE"
SCRATCH = "scratch"

KEYWORDS = frozenset(
    (
        *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK"),
        *("LABEL", "MAINTAINER", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
    )
)
FLAGS = {"COPY": {"from", "chown"}, "ADD": {"chown"}, "FROM": {"platform"}}
FLAGS["HEALTHCHECK"] = {"interval", "timeout", "start-period", "retries"}
OUR_PLATFORMS = ("$BUILDPLATFORM", "$TARGETPLATFORM", "${BUILDPLATFORM}", "${TARGETPLATFORM}")

_DIRECTIVE = re.compile(r"#[ \t]*([A-Za-z][A-Za-z0-9]*)[ \t]*=[ \t]*(.+?)[ \t]*$")
_CONTINUED = re.compile(r"\\[ \t]*$")
_FLAG = re.compile(r"--([a-z-]+)(?:=([^\s\"'\\]*))?(?=\s|$)")
_HEREDOC = re.compile(r"(?<!<)<<-?[\"']?[A-Za-z_]")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_STAGE = re.compile(r"[a-z][a-z0-9-_.]*")
_VARIABLE = re.compile(
    r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)(?:(:[-+])([^${}]*))?\}|([A-Za-z_][A-Za-z0-9_]*))"
)
_URL = re.compile(r"(https?|ftp|git|ssh)://|git@|[^ ]*\.git(#|$)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One instruction, its continuation lines joined."""

    line: int
    keyword: str
    flags: tuple[tuple[str, str], ...]
    arguments: str

    def render(self) -> str:
        """The single line that says the same."""
        flags = [f"--{name}={value}" for name, value in self.flags]
        return " ".join((self.keyword, *flags, self.arguments))


@dataclass(frozen=True, kw_only=True)
class Dockerfile:
    """A Dockerfile that breaks none of our rules."""

    shown: str
    """What errors call the file."""
    instructions: tuple[Instruction, ...]
    bases: tuple[str, ...]
    """Images that its stages start from, variables filled in; neither scratch nor stages."""
    declares_base_argument: bool

    def render(self, ids: Mapping[str, str]) -> bytes:
        """Its text for the engine, with each of `bases` replaced by its value in `ids`."""
        lines = [_pinned(instruction, ids).render() for instruction in self.instructions]
        return ("\n".join(lines) + "\n").encode()

    def added(self) -> list[tuple[int, tuple[str, ...]]]:
        """Line and sources of every ADD, which unpacks archives where no limit holds."""
        adds = (i for i in self.instructions if i.keyword == "ADD")
        return [(i.line, tuple(_words(i.arguments)[:-1])) for i in adds]


def parse_dockerfile(data: bytes, shown: str, *, base_image: str, platform: str) -> Dockerfile:
    """The Dockerfile in `data`; raises BuildFailed, naming the line, for what it may not do.

    `base_image` is the value of the one build argument that there is, BASE_IMAGE.
    """
    reader = _Reader(shown=shown)
    instructions = tuple(reader.instructions(reader.text(data)))
    return _Judge(shown, base_image, platform).judged(instructions)


def _pinned(instruction: Instruction, ids: Mapping[str, str]) -> Instruction:
    if instruction.keyword != "FROM":
        return instruction
    image, space, rest = instruction.arguments.partition(" ")
    return replace(instruction, arguments=ids.get(image, image) + space + rest)


def _refusal(shown: str, line: int, problem: str, remedy: str) -> BuildFailed:
    return BuildFailed(f"{shown}, line {line}: {problem}", remedy=remedy)


# -- reading -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """Bytes to instructions, by the rules of the engine's classic builder."""

    shown: str

    def text(self, data: bytes) -> str:
        if len(data) > MAX_DOCKERFILE_BYTES:
            raise BuildFailed(
                f"{self.shown} is larger than {MAX_DOCKERFILE_BYTES // 1024} KiB",
                remedy="move scripts to files and COPY them",
            )
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise _refusal(self.shown, line, "not UTF-8 text", "save it as UTF-8") from None
        return text.replace("\r\n", "\n")

    def instructions(self, text: str) -> list[Instruction]:
        lines = text.split("\n")
        self._check_directives(lines)
        found: list[Instruction] = []
        for number, logical in self._logical_lines(lines):
            found.append(self._instruction(number, logical))
            if len(found) > MAX_INSTRUCTIONS:
                raise _refusal(
                    self.shown, number, f"more than {MAX_INSTRUCTIONS} instructions", "join some"
                )
        return found

    def _check_directives(self, lines: Sequence[str]) -> None:
        for number, line in enumerate(lines, 1):
            match = _DIRECTIVE.match(line.strip())
            if match is None:
                return
            name, value = match[1].lower(), match[2]
            if name == "escape" and value != "\\":
                raise _refusal(
                    self.shown, number, "another escape character", "remove the escape directive"
                )
            if name == "syntax" and not re.match(r"docker/dockerfile(:|$)", value):
                raise _refusal(
                    self.shown,
                    number,
                    f"the remote frontend {one_line(value, 80)!r} is not run",
                    "remove the syntax directive",
                )

    def _logical_lines(self, lines: Sequence[str]) -> list[tuple[int, str]]:
        found: list[tuple[int, str]] = []
        start, joined = 0, ""
        for number, line in enumerate(lines, 1):
            text = line.lstrip(" \t") if not joined else line
            if line.lstrip(" \t").startswith("#") or not line.strip(" \t"):
                continue
            start = start if joined else number
            if _CONTINUED.search(text):
                joined += _CONTINUED.sub("", text) or " "
                continue
            found.append((start, joined + text))
            joined = ""
        if joined:
            found.append((start, joined))
        return [(number, line.strip(" \t")) for number, line in found if line.strip(" \t")]

    def _instruction(self, number: int, text: str) -> Instruction:
        if not text.replace("\t", " ").isprintable():
            raise _refusal(self.shown, number, "an unprintable character", "remove it")
        if len(text.encode()) > MAX_INSTRUCTION_BYTES or _CONTINUED.search(text):
            raise _refusal(
                self.shown, number, "an instruction that is too long or ends in \\", "shorten it"
            )
        keyword, rest = (*re.split(r"[ \t]+", text, maxsplit=1), "")[:2]
        if keyword.upper() not in KEYWORDS:
            raise _refusal(self.shown, number, *_unknown(keyword.upper()))
        flags, arguments = self._flags(number, keyword.upper(), rest.strip())
        if keyword.upper() in ("RUN", "COPY", "ADD") and _HEREDOC.search(arguments):
            # Told here, before the text's own lines are taken for instructions.
            raise _refusal(
                self.shown,
                number,
                f"{keyword.upper()} with a here-document (<<)",
                "put the text in a file and COPY it; the classic builder has no here-documents",
            )
        if not arguments:
            raise _refusal(self.shown, number, f"{keyword.upper()} without arguments", "add them")
        return Instruction(line=number, keyword=keyword.upper(), flags=flags, arguments=arguments)

    def _flags(
        self, number: int, keyword: str, rest: str
    ) -> tuple[tuple[tuple[str, str], ...], str]:
        flags: list[tuple[str, str]] = []
        while rest.startswith("--"):
            match = _FLAG.match(rest)
            name = match[1] if match else rest.partition(" ")[0]
            if match is None or match[2] is None or name not in FLAGS.get(keyword, set()):
                raise _refusal(
                    self.shown,
                    number,
                    f"{keyword} {one_line('--' + name.removeprefix('--'), 40)} is not available",
                    "builds run on the engine's classic builder, without BuildKit's options",
                )
            flags.append((name, match[2]))
            rest = rest[match.end() :].strip()
        return tuple(flags), rest


def _unknown(keyword: str) -> tuple[str, str]:
    if keyword == "ONBUILD":
        return "ONBUILD is not accepted", "write the instruction itself"
    return f"{one_line(keyword, 40)!r} is not an instruction", "correct or remove it"


# -- judging -----------------------------------------------------------------------------------


class _Judge:
    """Applies the rules to one file, in order; stages and global arguments gather on the way."""

    def __init__(self, shown: str, base_image: str, platform: str) -> None:
        self._shown = shown
        self._platform = platform
        self._values = {BASE_ARGUMENT: base_image}
        self._given = frozenset(self._values)
        self._stages: list[str] = []
        self._bases: list[str] = []
        self._declares_base = False

    def judged(self, instructions: Sequence[Instruction]) -> Dockerfile:
        judged = tuple(self._one(instruction) for instruction in instructions)
        if not self._stages:
            raise BuildFailed(
                f"{self._shown} has no FROM",
                remedy=f"start with ARG {BASE_ARGUMENT} and FROM ${{{BASE_ARGUMENT}}}",
            )
        return Dockerfile(
            shown=self._shown,
            instructions=judged,
            bases=tuple(dict.fromkeys(self._bases)),
            declares_base_argument=self._declares_base,
        )

    def _one(self, instruction: Instruction) -> Instruction:
        match instruction.keyword:
            case "ARG":
                self._argument(instruction)
            case "FROM":
                return self._from(instruction)
            case _ if not self._stages:
                raise self._refuse(
                    instruction, f"{instruction.keyword} before FROM", "move it down"
                )
            case "RUN" | "COPY" | "ADD":
                self._copy_source(instruction)
                self._no_remote(instruction)
            case _:
                pass
        return instruction

    def _refuse(self, instruction: Instruction, problem: str, remedy: str) -> BuildFailed:
        return _refusal(self._shown, instruction.line, problem, remedy)

    def _argument(self, instruction: Instruction) -> None:
        try:
            words = shlex.split(instruction.arguments)
        except ValueError:
            raise self._refuse(instruction, "ARG with an open quote", "close it") from None
        for word in words:
            name, has_default, default = word.partition("=")
            if not _NAME.fullmatch(name):
                raise self._refuse(
                    instruction, f"ARG {one_line(name, 40)!r} is not a name", "correct it"
                )
            self._declares_base = self._declares_base or name == BASE_ARGUMENT
            if not self._stages and name not in self._given:
                value = self._filled(instruction, default) if has_default else ""
                self._values[name] = value

    def _filled(self, instruction: Instruction, text: str) -> str:
        """`text` with its variables replaced by the global arguments."""

        def value(match: re.Match[str]) -> str:
            found = self._values.get(match[1] or match[4], "")
            if match[2] == ":-":
                return found or match[3]
            if match[2] == ":+":
                return match[3] if found else ""
            return found

        filled = _VARIABLE.sub(value, text)
        if "$" in filled or "\\" in filled:
            raise self._refuse(
                instruction, f"{one_line(text, 80)!r} cannot be filled in", "write the value itself"
            )
        return filled

    def _from(self, instruction: Instruction) -> Instruction:
        self._check_platform(instruction)
        words = instruction.arguments.split()
        if len(words) not in (1, 3) or (len(words) == 3 and words[1].upper() != "AS"):
            raise self._refuse(instruction, "not of the form FROM IMAGE [AS NAME]", "correct it")
        image = self._filled(instruction, words[0].strip("\"'"))
        if not image:
            raise self._refuse(
                instruction,
                f"FROM {one_line(words[0], 80)} names no image",
                f"give its ARG a default; only {BASE_ARGUMENT} is passed",
            )
        name = words[2].lower() if len(words) == 3 else ""
        if name and (not _STAGE.fullmatch(name) or name in self._stages):
            raise self._refuse(
                instruction, f"{one_line(name, 40)!r} cannot name a stage", "rename it"
            )
        if image != SCRATCH and image.lower() not in self._stages:
            self._bases.append(image)
        self._stages.append(name)
        return replace(instruction, flags=(), arguments=f"{image} AS {name}" if name else image)

    def _check_platform(self, instruction: Instruction) -> None:
        for _, value in instruction.flags:
            if value not in (*OUR_PLATFORMS, self._platform):
                raise self._refuse(
                    instruction,
                    f"--platform={one_line(value, 40)}, but this engine runs {self._platform}",
                    "remove the option",
                )

    def _copy_source(self, instruction: Instruction) -> None:
        earlier = self._stages[:-1]
        for name, value in instruction.flags:
            is_name = value != "" and value.lower() in earlier
            is_index = value.isdecimal() and value.isascii() and int(value[:4]) < len(earlier)
            if name == "from" and not is_name and not is_index:
                raise self._refuse(
                    instruction,
                    f"COPY --from={one_line(value, 80)} is not an earlier stage",
                    "add a stage: FROM that image AS a name, and copy from the name",
                )

    def _no_remote(self, instruction: Instruction) -> None:
        if instruction.keyword != "ADD":
            return
        for source in _words(instruction.arguments)[:-1]:
            if (
                _URL.match(source)
                or "$" in source
                or "*" in source
                or "?" in source
                or "[" in source
            ):
                raise self._refuse(
                    instruction,
                    f"ADD of {one_line(source, 80)!r}: not a plain file or directory",
                    "use COPY, with the file in the submission's directory",
                )


def _words(arguments: str) -> list[str]:
    """The words of a COPY or ADD, in either of its two forms."""
    if arguments.startswith("["):
        try:
            words = json.loads(arguments)
        except ValueError:
            return arguments.split()
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            return words
    return arguments.split()
