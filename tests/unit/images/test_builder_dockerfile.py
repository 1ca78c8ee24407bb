"""What a Dockerfile may say, and that the engine reads nothing but what was checked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import BuildFailed
from runner.images.dockerfile import Dockerfile, parse_dockerfile

BASE = "sha256:" + "a" * 64


def parsed(text: str) -> Dockerfile:
    return parse_dockerfile(text.encode(), "Dockerfile", base_image=BASE, platform="linux/amd64")


def rendered(text: str, **ids: str) -> list[str]:
    return parsed(text).render(ids).decode().splitlines()


def test_continuations_comments_and_blank_lines_are_joined() -> None:
    text = (
        "# syntax=docker/dockerfile:1\n# a comment\nFROM scratch\n"
        'RUN one && \\\n  # not this\n\n  two \\  \n  three\n\tcmd ["x"]\n'
    )
    assert rendered(text) == ["FROM scratch", "RUN one &&   two   three", 'CMD ["x"]']


def test_bases_are_filled_in_and_pinned() -> None:
    text = (
        "ARG BASE_IMAGE=mine\nARG TAG=3.11\nFROM ${BASE_IMAGE} AS one\n"
        "FROM --platform=$TARGETPLATFORM python:${TAG}-slim as two\nFROM One\nFROM scratch\n"
        "COPY --from=one --chown=1:1 /a /b\nCOPY --from=1 /a /b\n"
    )
    dockerfile = parsed(text)
    assert dockerfile.bases == (BASE, "python:3.11-slim")
    assert dockerfile.declares_base_argument
    lines = dockerfile.render({"python:3.11-slim": "sha256:1"}).decode().splitlines()
    assert lines[2:6] == [f"FROM {BASE} AS one", "FROM sha256:1 AS two", "FROM One", "FROM scratch"]
    assert lines[6] == "COPY --from=one --chown=1:1 /a /b"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no FROM"),
        ("RUN x\n", "line 1: RUN before FROM"),
        ("FROM a\nONBUILD RUN x\n", "line 2: ONBUILD"),
        ("FROM a\nonbuild run x\n", "ONBUILD"),
        ("FROM a\nADD https://x/y /\n", "not a plain file"),
        ("FROM a\nADD git@github.com:x/y.git /\n", "not a plain file"),
        ('FROM a\nADD ["https://x/y", "/"]\n', "not a plain file"),
        ("FROM a\nADD *.tgz /\n", "not a plain file"),
        ("FROM a\nADD ${X} /\n", "not a plain file"),
        ("FROM a\nCOPY --from=b /x /\n", "not an earlier stage"),
        ("FROM a AS b\nCOPY --from=b /x /\n", "not an earlier stage"),
        ("FROM a\nCOPY --from=0 /x /\n", "not an earlier stage"),
        ("FROM a\nCOPY --from=$X /x /\n", "not an earlier stage"),
        ("FROM a\nCOPY --fr\\om=b /x /\n", "not available"),
        ('FROM a\nCOPY --from="b" /x /\n', "not available"),
        ("FROM a\nCOPY --link x /\n", "COPY --link is not available"),
        ("FROM a\nRUN --mount=type=secret,id=x cat /x\n", "RUN --mount is not available"),
        ("FROM a\nRUN --network=host x\n", "not available"),
        ("FROM a\nRUN --security=insecure x\n", "not available"),
        ("FROM a\nRUN cat <<EOF\nEOF\n", "here-document"),
        ("FROM a\nCOPY <<'EOF' /x\nEOF\n", "here-document"),
        ("# syntax=evil/frontend\nFROM a\n", "remote frontend"),
        ("# escape=`\nFROM a\n", "escape character"),
        ("FROM --platform=linux/s390x a\n", "runs linux/amd64"),
        ("FROM ${X}\n", "names no image"),
        ("FROM a AS\n", "FROM IMAGE"),
        ("FROM a b c\n", "FROM IMAGE"),
        ("ARG X=a$(b)\nFROM ${X}\n", "filled in"),
        ("FROM a\nRUN x\x1b[31m\n", "unprintable"),
        ("FROM a\nRUN \\\n", "RUN without arguments"),
        ("FROM a\nFRMO b\n", "'FRMO' is not an instruction"),
        ("FROM a\nRUN " + "x" * 70_000, "too long"),
        ("FROM a\n" + "RUN x\n" * 600, "more than 500"),
    ],
)
def test_refused(text: str, problem: str) -> None:
    with pytest.raises(BuildFailed) as caught:
        parsed(text)
    assert problem in str(caught.value)
    assert str(caught.value).isprintable()


def test_not_utf8() -> None:
    with pytest.raises(BuildFailed, match="line 2: not UTF-8"):
        parse_dockerfile(b"FROM a\n\xff", "Dockerfile", base_image=BASE, platform="linux/amd64")


def test_a_here_string_is_no_here_document() -> None:
    assert rendered("FROM a\nRUN cat <<< word\n")[1] == "RUN cat <<< word"


WORDS = st.sampled_from(
    ["FROM", "RUN", "COPY", "ADD", "ARG", "--from=0", "scratch", "a", "AS", "\\", "#", "$X", "<<E"]
)
TEXT = st.lists(
    WORDS | st.sampled_from([" ", "\n", "\t", "\\\n"]) | st.text(max_size=3), max_size=40
)


@given(TEXT.map("".join) | st.text(max_size=200))
def test_what_is_rendered_reads_the_same_again(text: str) -> None:
    try:
        first = parsed("FROM scratch\n" + text)
    except BuildFailed:
        return
    lines = first.render({}).decode()
    assert len(lines.splitlines()) == len(first.instructions)
    assert parsed(lines).render({}).decode() == lines
