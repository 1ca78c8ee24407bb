"""Values of arithmetic expressions: exact where they can be, bounded in every step."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

Number = int | Fraction | float

LONGEST = 2_000
_DEEPEST = 50
_BITS = 3_400
"""Of an exact number: about 1,000 digits, beyond which integers are refused."""
_ROUND_DIGITS = 100

_TOKEN = re.compile(
    r"""\s+ | (?P<name>[A-Za-z_]\w*) | \*\* | // | [-+*/%(),]
    | (?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?(?![\w.])""",
    re.VERBOSE | re.ASCII,
)


class CannotCompute(ValueError):
    """The text is one line for the agent."""


def evaluate(expression: str) -> int | float:
    """The value of `expression`; integers and quotients of them are computed exactly.

    Raises CannotCompute.
    """
    try:
        return _as_json(_value(_parse(expression), _DEEPEST))
    except ZeroDivisionError:
        raise CannotCompute("division by zero") from None
    except OverflowError:
        raise CannotCompute("the result, or a step to it, is too large") from None


def _parse(expression: str) -> ast.expr:
    if len(expression) > LONGEST:
        raise CannotCompute(f"the expression is longer than {LONGEST} characters")
    _check_tokens(expression)
    try:
        # Only tokens checked above get here, so that no literal makes the compiler warn or sweat.
        return ast.parse(" ".join(expression.split()), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError, ValueError):
        raise CannotCompute("this is not an arithmetic expression") from None


def _check_tokens(expression: str) -> None:
    position = 0
    while position < len(expression):
        token = _TOKEN.match(expression, position)
        if token is None:
            raise CannotCompute(f"unexpected character at position {position + 1}")
        name = token["name"]
        if name and name not in _FUNCTIONS and name not in _CONSTANTS:
            known = ", ".join([*_FUNCTIONS, *_CONSTANTS])
            raise CannotCompute(f"unknown name at position {position + 1}; known: {known}")
        position = token.end()


def _value(node: ast.expr, depth: int) -> Number:
    if depth == 0:
        raise CannotCompute(f"the expression is nested more than {_DEEPEST} deep")
    match node:
        case ast.Constant(value=int() as value):
            return _bounded(value)
        case ast.Constant(value=float() as value):
            return Fraction(repr(_finite(value)))
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            inner = _value(operand, depth - 1)
            return -inner if isinstance(sign, ast.USub) else inner
        case ast.BinOp():
            return _chain(node, depth - 1)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _call(name, [_value(arg, depth - 1) for arg in args])
        case _:
            raise CannotCompute("this is not an arithmetic expression")


def _chain(node: ast.BinOp, depth: int) -> Number:
    """`a + b - c + ...` without a level of the stack for each term."""
    steps: list[tuple[ast.operator, ast.expr]] = []
    first: ast.expr = node
    while isinstance(first, ast.BinOp):
        steps.append((first.op, first.right))
        first = first.left
    value = _value(first, depth)
    for op, right in reversed(steps):
        value = _apply(op, value, _value(right, depth))
    return value


def _apply(op: ast.operator, left: Number, right: Number) -> Number:
    if isinstance(op, ast.Pow):
        return _power(left, right)
    if type(op) not in _OPERATORS:
        raise CannotCompute("this is not an arithmetic expression")
    return _bounded(_OPERATORS[type(op)](left, right))


def _divide(left: Number, right: Number) -> Number:
    if isinstance(left, float) or isinstance(right, float):
        return left / right
    return Fraction(left) / Fraction(right)


def _power(base: Number, exponent: Number) -> Number:
    exact = not isinstance(base, float) and not isinstance(exponent, float)
    if exact and Fraction(exponent).denominator == 1:
        return _whole_power(Fraction(base), int(exponent))
    if base < 0:
        raise CannotCompute("a negative number has no such power")
    return _bounded(math.pow(base, exponent))


def _whole_power(base: Fraction, exponent: int) -> Number:
    if base in (0, 1, -1):
        return _bounded(base ** (exponent if base == 0 else exponent % 2))
    if _bits(base) * abs(exponent) <= 2 * _BITS:  # at most twice what it will have
        return _bounded(base**exponent)
    if base.denominator == 1 and exponent > 0:
        raise OverflowError
    return _bounded(math.pow(base, exponent))


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _bounded(value: Number) -> Number:
    """`value`, as a float where it has too many digits to go on exactly."""
    if isinstance(value, float):
        return _finite(value)
    if _bits(Fraction(value)) <= _BITS:
        return value
    if Fraction(value).denominator == 1:
        raise OverflowError
    return float(value)


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise OverflowError
    return value


def _as_json(value: Number) -> int | float:
    if isinstance(value, Fraction):
        return value.numerator if value.denominator == 1 else float(value)
    return value


def _call(name: str, arguments: Sequence[Number]) -> Number:
    fewest, most, function = _FUNCTIONS[name]
    if not fewest <= len(arguments) <= most:
        raise CannotCompute(f"{name} takes {_count(fewest, most)}")
    try:
        return _bounded(function(*arguments))
    except CannotCompute:
        raise
    except ValueError:
        raise CannotCompute(f"{name} has no value there") from None


def _count(fewest: int, most: int) -> str:
    if fewest == most:
        return f"{fewest} argument" if fewest == 1 else f"{fewest} arguments"
    return f"{fewest} to {most} arguments"


def _root(value: Number) -> Number:
    if isinstance(value, float) or value < 0:
        return math.sqrt(value)
    exact = Fraction(value)
    root = Fraction(math.isqrt(exact.numerator), math.isqrt(exact.denominator))
    return root if root * root == exact else math.sqrt(exact)


def _round(value: Any, digits: Number = 0) -> Number:
    """Halves go to the even neighbour."""
    places = Fraction(digits)
    if places.denominator != 1 or abs(places) > _ROUND_DIGITS:
        raise CannotCompute(f"round takes a whole number of at most {_ROUND_DIGITS} digits")
    rounded: Number = round(value, int(places)) if places else round(value)
    return rounded


def _smallest(*values: Any) -> Number:
    least: Number = min(values)
    return least


def _largest(*values: Any) -> Number:
    most: Number = max(values)
    return most


_OPERATORS: Mapping[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: _divide,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_CONSTANTS: Mapping[str, float] = {"pi": math.pi, "e": math.e}
_FUNCTIONS: Mapping[str, tuple[int, int, Callable[..., Number]]] = {
    "sqrt": (1, 1, _root),
    "abs": (1, 1, abs),
    "min": (1, 100, _smallest),
    "max": (1, 100, _largest),
    "round": (1, 2, _round),
    "log": (1, 2, math.log),
    "exp": (1, 1, math.exp),
    "sin": (1, 1, math.sin),
    "cos": (1, 1, math.cos),
    "tan": (1, 1, math.tan),
}
