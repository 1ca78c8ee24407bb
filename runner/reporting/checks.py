"""What the checks of a submission found, as a person reads it."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from runner.domain import CheckOutcome, ValidationResult
from runner.reporting.console import inert, plain_table

_PASSED, _WARNED, _FAILED = ("✔", "+", "green"), ("▲", "!", "yellow"), ("✘", "x", "red")


def render_checks(result: ValidationResult, console: Console) -> None:
    """A line for each check, what to do about those that failed, and the verdict."""
    table = plain_table("check", "found", fold=("found",))
    for outcome in result.outcomes:
        table.add_row(_name_cell(outcome, console), _found_cell(outcome))
    console.print(table)
    console.print(_verdict(result))


def _name_cell(outcome: CheckOutcome, console: Console) -> Text:
    symbol, plain, style = _kind(outcome)
    return Text(f"{plain if console.options.ascii_only else symbol} {outcome.name}", style=style)


def _found_cell(outcome: CheckOutcome) -> Text:
    found = inert(outcome.message)
    if outcome.remedy:
        found.append_text(inert(f"\n→ {outcome.remedy}", "dim", newlines=True))
    return found


def _kind(outcome: CheckOutcome) -> tuple[str, str, str]:
    if outcome.passed:
        return _PASSED
    return _FAILED if outcome.name.rejects else _WARNED


def _verdict(result: ValidationResult) -> Text:
    warnings = _counted(len(result.warnings), "warning")
    if result.is_valid:
        return Text(f"valid, {warnings}", style="green")
    return Text(f"refused: {_counted(len(result.errors), 'error')}, {warnings}", style="red")


def _counted(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
