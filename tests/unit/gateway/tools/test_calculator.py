"""The calculator: right where it answers, and never surprised."""

from __future__ import annotations

import contextlib
import json
import math
import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.gateway.tools.arithmetic import LONGEST, CannotCompute, evaluate
from tests.unit.gateway.tools.asking import ask, error, tool

VALUES = {
    "2 + 3 * 4": 14,
    "(2 + 3) * 4": 20,
    "10 - 4 - 3": 3,
    "2 ** 3 ** 2": 512,
    "-2 ** 2": -4,
    "7 // 2": 3,
    "-7 % 3": 2,
    "6 / 3": 2,
    "1 / 3": 1 / 3,
    "1 / 3 * 3": 1,
    "0.1 + 0.2": 0.3,
    "2 ** -2": 0.25,
    "2 ** 0.5": math.sqrt(2),
    "123456789 ** 3": 123456789**3,
    "2 ** 3000 % 1000007": pow(2, 3000, 1000007),
    "sqrt(144)": 12,
    "sqrt(2)": math.sqrt(2),
    "sqrt(1/4)": 0.5,
    "abs(-5)": 5,
    "min(3, 1, 2)": 1,
    "max(3, 1/2, 2.5)": 3,
    "round(2.5)": 2,
    "round(7/3, 2)": 2.33,
    "round(1234, -2)": 1200,
    "log(e)": 1,
    "log(8, 2)": 3,
    "exp(0)": 1,
    "sin(0) + cos(0) + tan(0)": 1,
    "pi": math.pi,
    "1e3": 1000,
    " 1\n+\t1 ": 2,
    "+".join(["1"] * 1000): 1000,
    "(" * 199 + "1" + ")" * 199: 1,
}


@pytest.mark.parametrize(("expression", "value"), VALUES.items())
async def test_values(expression: str, value: float) -> None:
    result = await ask(tool("calculator"), expression=expression)
    assert result == value
    assert json.loads(json.dumps(result)) == value


@pytest.mark.parametrize(
    "expression", ["6 / 3", "1 / 3 * 3", "sqrt(144)", "2 ** 100", "round(2.7)"]
)
def test_whole_numbers_are_integers(expression: str) -> None:
    assert isinstance(evaluate(expression), int)


REFUSED = {
    "": "not an arithmetic expression",
    "1 +": "not an arithmetic expression",
    "1, 2": "not an arithmetic expression",
    "1 2": "not an arithmetic expression",
    "sqrt": "not an arithmetic expression",
    "pi(1)": "not an arithmetic expression",
    "(1)(2)": "not an arithmetic expression",
    "1 / 0": "division by zero",
    "5 % (1 - 1)": "division by zero",
    "0 ** -1": "division by zero",
    "9 ** 9 ** 9 ** 9": "too large",
    "10 ** 10 ** 10": "too large",
    "2 ** 100000": "too large",
    "1e308 * 1e308 * pi": "too large",
    "1e9999": "too large",
    "exp(10000)": "too large",
    "(-8) ** 0.5": "no such power",
    "sqrt(-1)": "sqrt has no value there",
    "log(0)": "log has no value there",
    "log(2, 1)": "division by zero",
    "min()": "min takes 1 to 100 arguments",
    "sqrt(1, 2)": "sqrt takes 1 argument",
    "round(1, 1000000000)": "round takes a whole number",
    "round(1, 0.5)": "round takes a whole number",
    "x + 1": "unknown name at position 1",
    "__import__('os')": "unknown name at position 1",
    "().__class__": "unexpected character at position 3",
    "'a' * 9": "unexpected character at position 1",
    "1 if 1 else 2": "unknown name at position 3",
    "1if 2": "unexpected character",
    "lambda: 1": "unknown name",
    "1j": "unexpected character",
    "1_000": "unexpected character",
    "١ + ١": "unexpected character",  # noqa: RUF001
    "1; 2": "unexpected character",
    "a = 1": "unknown name",
    "1 < 2": "unexpected character",
    "1 @ 2": "unexpected character",
    "~1": "unexpected character",
    "1 << 9999": "unexpected character",
    "sqrt(*1)": "not an arithmetic expression",
    "-" * 1999 + "1": "nested more than 50 deep",
    "(" * 1000: "not an arithmetic expression",
    "1" * (LONGEST + 1): "longer than 2000 characters",
    "sqrt(" * 60 + "1" + ")" * 60: "nested more than 50 deep",
    "2**" * 60 + "1": "nested more than 50 deep",
}


@pytest.mark.parametrize(("expression", "reason"), REFUSED.items())
async def test_what_it_cannot_compute(expression: str, reason: str) -> None:
    assert reason in await error(tool("calculator"), expression=expression)


integers = st.integers(-1000, 1000)
expressions = st.recursive(
    integers.map(str),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%"]), inner).map(
            lambda parts: f"({' '.join(parts)})"
        ),
        inner.map(lambda text: f"-({text})"),
        inner.map(lambda text: f"abs({text})"),
    ),
    max_leaves=12,
)


@given(expressions)
def test_it_agrees_with_fractions(expression: str) -> None:
    exact = re.sub(r"\d+", r"F(\g<0>)", expression)
    try:
        expected = eval(exact, {"F": Fraction, "abs": abs})  # our own text, from the strategy
    except ZeroDivisionError:
        with pytest.raises(CannotCompute, match="division by zero"):
            evaluate(expression)
        return
    assert evaluate(expression) == float(expected) or evaluate(expression) == expected


@given(st.text(alphabet="0123456789.+-*/%() ,eEpisqrtmaxlogund_", max_size=60))
def test_no_text_makes_it_raise_anything_else(expression: str) -> None:
    with contextlib.suppress(CannotCompute):
        assert math.isfinite(evaluate(expression))
