"""A table of checks: what failed stands out, and nothing in it acts on a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from runner.domain import CheckName, CheckOutcome, ValidationResult
from runner.reporting import render_checks


def shown(*failed: CheckName, message: str = "as it should be", remedy: str = "mend it") -> str:
    outcomes = tuple(
        CheckOutcome(
            name=name,
            passed=name not in failed,
            message=message,
            remedy=remedy if name in failed else "",
        )
        for name in CheckName
    )
    stream = io.StringIO()
    console = Console(file=stream, width=100, markup=False, emoji=False, highlight=False)
    render_checks(ValidationResult(outcomes=outcomes), console)
    return stream.getvalue()


def test_every_check_has_its_line() -> None:
    text = shown()
    assert all(name.value in text for name in CheckName)
    assert "valid, no warnings" in text
    assert "→" not in text


def test_errors_and_warnings_are_told_apart() -> None:
    text = shown(CheckName.TERMS_ACCEPTED, CheckName.VERSION_FORMAT)
    assert "✘ terms_accepted" in text
    assert "▲ version_format" in text
    assert text.count("→ mend it") == 2
    assert "refused: 1 error, 1 warning" in text
    assert "valid, 1 warning" in shown(CheckName.ORGANIZATION)


def test_hostile_text_is_inert() -> None:
    text = shown(CheckName.EMAIL_VALID, message="\x1b]0;x\x07[red]", remedy="\u202e[/red]")
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[red]" in text
