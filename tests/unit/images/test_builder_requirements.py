"""Of all that pip would obey in a requirements file, only requirements are left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import BuildFailed
from runner.images.requirements import parse_requirements, render_requirements
from runner.images.wheels import PythonPlatform

HASH = "sha256:" + "0" * 64


def lines(text: str) -> list[str]:
    return (
        render_requirements(parse_requirements(text.encode(), "requirements.txt"))
        .decode()
        .splitlines()
    )


def test_plain_requirements_are_kept() -> None:
    text = (
        "# comment\nidna == 3.10  # why\nhttpx[http2]>=0.27; python_version >= '3.9'\n\n"
        f"certifi==2024.1.1 \\\n    --hash={HASH}\n"
    )
    assert lines(text) == [
        "idna==3.10",
        'httpx[http2]>=0.27; python_version >= "3.9"',
        f"certifi==2024.1.1 --hash={HASH}",
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("--index-url https://evil", "options are not obeyed"),
        ("--extra-index-url=https://evil", "options"),
        ("-r other.txt", "options"),
        ("-e .", "options"),
        ("idna --global-option=x", "options"),
        ("idna --config-settings x=y", "options"),
        ("git+https://github.com/x/y", "paths and URLs"),
        ("https://x/y.whl", "paths and URLs"),
        ("FILE:///etc/passwd", "paths and URLs"),
        ("./wheel.whl", "paths and URLs"),
        ("/x.whl", "paths and URLs"),
        ("sub/x.whl", "paths and URLs"),
        ("x @ https://x/y.whl", "paths and URLs"),
        ("x @ file:///x", "paths and URLs"),
        ("idna==", "not a requirement"),
        ("${HOME}", "not a requirement"),
    ],
)
def test_refused(line: str, problem: str) -> None:
    with pytest.raises(BuildFailed, match="line 2") as caught:
        lines(f"idna\n{line}\n")
    assert problem in str(caught.value)


@given(st.text(max_size=100))
def test_any_text_gives_requirements_or_one_line(text: str) -> None:
    try:
        found = lines(text)
    except BuildFailed:
        return
    assert not any(line.startswith("-") or "://" in line for line in found)


def test_platform_tags_go_from_new_to_old() -> None:
    platform = PythonPlatform(version=(3, 11), machine="x86_64", glibc_minor=17)
    assert platform.tags[0] == "manylinux_2_17_x86_64"
    assert "manylinux2014_x86_64" in platform.tags
    assert not any("_2_18_" in tag for tag in platform.tags)
