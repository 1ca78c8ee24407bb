"""The pages for people: every command line in them parses, every link leads somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from runner.cli.program import program

REPOSITORY = Path(__file__).parents[3]
PAGES = sorted(
    [
        REPOSITORY / "README.md",
        REPOSITORY / "CHANGELOG.md",
        REPOSITORY / "examples/README.md",
        *REPOSITORY.glob("docs/*.md"),
    ]
)
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
REMARK = re.compile(r"\s{2,}|\s#\s|\s\(|\s[|>&;]|[;)]")
"""What ends a command line: columns, a comment, the shell's own signs."""
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def page_names() -> list[str]:
    return [str(page.relative_to(REPOSITORY)) for page in PAGES]


def command_lines(text: str) -> list[str]:
    """In blocks: from `agenttrace` on; in sentences: what stands in backquotes."""
    blocks = FENCE.findall(text)
    lines = [line for block in blocks for line in block.splitlines()]
    found = [
        command
        for line in lines
        for command in re.findall(r"(?:^|[\s/(])agenttrace (.+)", line)
        if not re.match(r"\s*#|Description=|useradd|usermod|install |chmod ", line)
    ]
    found += re.findall(r"`agenttrace ([^`]+)`", FENCE.sub("", text))
    cut = [REMARK.split(each, maxsplit=1)[0].strip() for each in found]
    return [each for each in cut if re.match(r"--?[a-z]|[a-z]+(?: |$)", each)]


def parse(line: str) -> None:
    """Raises click.UsageError for a command, an option or an argument that there is not."""
    words = [word for word in shlex.split(line) if word != "..."]
    command: click.Command = program
    options = program.context_settings  # click keeps what it first makes of a command
    context = click.Context(program, info_name="agenttrace", resilient_parsing=True, **options)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        inner = command.get_command(context, words[0])
        if inner is None:
            raise click.UsageError(f"no command {words[0]!r}")
        command, context = inner, click.Context(inner, parent=context, resilient_parsing=True)
        words = words[1:]
    _, rest, _ = command.make_parser(context).parse_args(list(words))
    if rest:
        raise click.UsageError(f"too much: {rest}")


def test_the_reader_finds_what_is_wrong() -> None:
    block = "```\nagenttrace runs list   all\nagenttrace run DIR --limits 3\n```\n"
    text = f"{block}see `agenttrace rn`"
    assert command_lines(text) == ["runs list", "run DIR --limits 3", "rn"]
    parse("runs list")
    for wrong in ("run DIR --limits 3", "rn", "runs shw", "resume A B", "store frobnicate"):
        with pytest.raises(click.UsageError):
            parse(wrong)


@pytest.mark.parametrize("name", page_names())
def test_every_command_line_parses(name: str) -> None:
    wrong = []
    for line in command_lines((REPOSITORY / name).read_text()):
        try:
            parse(line)
        except (click.UsageError, ValueError) as error:
            wrong.append(f"agenttrace {line}: {error}")
    assert not wrong


def test_there_is_something_to_parse() -> None:
    assert len(command_lines((REPOSITORY / "README.md").read_text())) >= 10
    assert len(command_lines((REPOSITORY / "docs/operating.md").read_text())) >= 20


def anchors(page: Path) -> set[str]:
    """As the usual hosts make them of headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("name", page_names())
def test_every_link_leads_somewhere(name: str) -> None:
    page = REPOSITORY / name
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_index_has_every_page() -> None:
    index = (REPOSITORY / "docs/README.md").read_text()
    for page in REPOSITORY.glob("docs/*.md"):
        assert page.name == "README.md" or f"({page.name})" in index, page.name


def test_the_unit_that_is_shown_is_the_one_that_ships() -> None:
    unit = (REPOSITORY / "examples/agenttrace-worker.service").read_text().rstrip()
    assert f"```ini\n{unit}\n```" in (REPOSITORY / "docs/operating.md").read_text()
