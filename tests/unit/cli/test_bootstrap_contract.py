"""What the commands call is there: the fake of the other tests has the shape of the real thing."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

from runner import bootstrap as real
from runner.cli import doctor, setup

from . import conftest

ANY = object()


@pytest.mark.parametrize(
    ("name", "positional", "named"),
    [
        ("set_up", [ANY, ANY], {}),
        ("doctor", [ANY], {}),
        ("prepare_run", [ANY, ANY], {}),
        ("run", [ANY, ANY], {"observers": [], "say": ANY}),
        ("catalog", [ANY], {}),
        ("cleanup", [ANY], {"dry_run": True, "everything": False}),
    ],
)
def test_calls_fit(name: str, positional: list[object], named: dict[str, object]) -> None:
    inspect.signature(getattr(real, name)).bind(*positional, **named)


def names_of(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def test_requests_fit() -> None:
    assert names_of(conftest.RunRequest) == names_of(real.RunRequest)


def test_reports_fit() -> None:
    assert set(setup.FIELDS) == names_of(real.SetUpReport)
    assert {"removals", "spared"} <= names_of(real.CleanupReport)


def test_the_doctors_report_fits() -> None:
    from runner.doctor.examination import Check, DoctorReport

    assert set(doctor.FIELDS) <= names_of(Check)
    assert {"checks", "healthy"} <= names_of(DoctorReport) | set(vars(DoctorReport))
