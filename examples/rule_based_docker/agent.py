"""An agent without a language model: it recognises how a question is worded, and works it out.

Each rule looks for its own form of question and returns the answer, or None when the question is
not one of its kind. What no rule understands is answered honestly: "I do not know."
"""

import ast
import heapq
import json
import math
import operator
import re
from collections import deque
from datetime import date
from itertools import combinations

RULES = []


def rule(function):
    RULES.append(function)
    return function


def answer(prompt: str, config: dict) -> str:  # noqa: ARG001 - every agent is given both
    """What `submission.toml` names: called once for each task, in a container of its own."""
    for attempt in RULES:
        found = attempt(prompt)
        if found is not None:
            return found
    return "I do not know."


# -- numbers ------------------------------------------------------------------------------------

OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


@rule
def compute(prompt):
    """Compute: 37 * 12 + 5."""
    if match := re.search(r"Compute: ([\d\s.+\-*/%()]+?)\.(?:\s|$)", prompt):
        return number(evaluate(ast.parse(match[1].strip(), mode="eval").body))
    return None


def evaluate(node):
    match node:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -evaluate(operand)
        case ast.BinOp(
            left=ast.BinOp(left=base, op=ast.Pow(), right=power), op=ast.Mod(), right=by
        ):
            return pow(evaluate(base), evaluate(power), evaluate(by))
        case ast.BinOp(left=left, op=how, right=right):
            return OPERATORS[type(how)](evaluate(left), evaluate(right))
    raise ValueError(ast.dump(node))


def number(value):
    return str(int(value)) if value == int(value) else repr(value)


@rule
def greatest_common_divisor(prompt):
    """What is the greatest common divisor of 12 and 18?"""
    match = re.search(r"greatest common divisor of (\d+) and (\d+)", prompt)
    return match and str(math.gcd(int(match[1]), int(match[2])))


@rule
def count_primes(prompt):
    """How many prime numbers are there below 1000?"""
    match = re.search(r"prime numbers are there below (\d+)", prompt)
    if not match:
        return None
    limit = int(match[1])
    sieve = bytearray([1]) * limit
    sieve[:2] = b"\0\0"[:limit]
    for n in range(2, math.isqrt(limit) + 1):
        if sieve[n]:
            sieve[n * n :: n] = bytes(len(range(n * n, limit, n)))
    return str(sum(sieve))


@rule
def fibonacci_remainder(prompt):
    """What is F(1000) modulo 17? (F being the Fibonacci numbers)"""
    match = re.search(r"What is F\((\d+)\) modulo (\d+)", prompt)
    if not (match and "F(n - 1) + F(n - 2)" in prompt):
        return None
    modulus = int(match[2])

    def pair(n):  # F(n), F(n + 1), by doubling
        if n == 0:
            return 0, 1
        low, high = pair(n // 2)
        even = low * (2 * high - low) % modulus
        odd = (low * low + high * high) % modulus
        return (odd, (even + odd) % modulus) if n % 2 else (even, odd)

    return str(pair(int(match[1]))[0] % modulus)


@rule
def ways_to_pay(prompt):
    """In how many ways can 100 cents be paid in coins of 1, 2 and 5 cents?"""
    match = re.search(
        r"how many ways can (\d+) cents be paid in coins of ([\d,\sand]+) cents", prompt
    )
    if not match:
        return None
    ways = [1] + [0] * int(match[1])
    for coin in map(int, re.findall(r"\d+", match[2])):
        for total in range(coin, len(ways)):
            ways[total] += ways[total - coin]
    modulus = re.search(r"modulo (\d+)", prompt)
    return str(ways[-1] % int(modulus[1]) if modulus else ways[-1])


UNITS = {
    "kilometres per hour": ("speed", 1 / 3.6),
    "metres per second": ("speed", 1),
    "metres": ("length", 1),
    "kilometres": ("length", 1000),
    "centimetres": ("length", 0.01),
    "miles": ("length", 1609.344),
    "kilograms": ("mass", 1),
    "grams": ("mass", 0.001),
    "hours": ("time", 3600),
    "minutes": ("time", 60),
    "seconds": ("time", 1),
    "days": ("time", 86400),
}


@rule
def convert_units(prompt):
    """Convert: 90 kilometres per hour to metres per second."""
    match = re.search(r"Convert: ([\d.]+) ([a-z ]+) to ([a-z ]+)\.", prompt)
    if not match or match[2] not in UNITS or match[3] not in UNITS:
        return None
    (kind, source), (other, target) = UNITS[match[2]], UNITS[match[3]]
    return number(round(float(match[1]) * source / target, 9)) if kind == other else None


# -- dates --------------------------------------------------------------------------------------

DATE = r"(\d{4}-\d\d-\d\d)"


@rule
def days_between(prompt):
    """How many days after 2024-01-01 is 2024-02-01?"""
    match = re.search(rf"How many days after {DATE} is {DATE}", prompt)
    return match and str((date.fromisoformat(match[2]) - date.fromisoformat(match[1])).days)


@rule
def weekday(prompt):
    """Which weekday is 2024-01-01?"""
    match = re.search(rf"Which weekday is {DATE}", prompt)
    return match and date.fromisoformat(match[1]).strftime("%A")


# -- text and data ------------------------------------------------------------------------------


@rule
def reverse_string(prompt):
    """Reverse this string: abc."""
    match = re.search(r"Reverse this string: (\S+?)\.?\s", prompt)
    return match and match[1][::-1]


@rule
def count_letter(prompt):
    """How many times does the letter "r" occur in: strawberry"""
    match = re.search(r'the letter "(\w)" occur in: (.+)', prompt)
    return match and str(match[2].count(match[1]))


@rule
def sort_numbers(prompt):
    """Sort these numbers in ascending order: 3, 1, 2"""
    match = re.search(r"Sort these numbers in (ascending|descending) order:([-\d,.\s]+)", prompt)
    if not match:
        return None
    numbers = [json.loads(text) for text in re.findall(r"-?\d+(?:\.\d+)?", match[2])]
    return json.dumps(sorted(numbers, reverse=match[1] == "descending"))


@rule
def value_in_json(prompt):
    """JSON: {"a": [1, 2]} ... Which value is at a[1]?"""
    match = re.search(r"JSON: (.+)\nWhich value is at (\S+)\?", prompt)
    if not match:
        return None
    value = json.loads(match[1])
    for name, index in re.findall(r"(\w+)|\[(\d+)\]", match[2]):
        value = value[int(index)] if index else value[name]
    return value if isinstance(value, str) else json.dumps(value)


CALLS = {
    r"multiply ([\d.]+) by ([\d.]+)": ("multiply", ("a", "b")),
    r"add ([\d.]+) (?:to|and) ([\d.]+)": ("add", ("a", "b")),
    r"raise ([\d.]+) to the power of ([\d.]+)": ("power", ("base", "exponent")),
}


@rule
def call_a_calculator(prompt):
    """Tools: ... Request: multiply 18 by 7."""
    request = re.search(r"Request: (.+)\.", prompt)
    for pattern, (tool, names) in CALLS.items():
        found = request and re.fullmatch(pattern, request[1])
        if found and f"- {tool}(" in prompt:
            values = (json.loads(text) for text in found.groups())
            return json.dumps({"tool": tool, "arguments": dict(zip(names, values, strict=True))})
    return None


# -- plans --------------------------------------------------------------------------------------


@rule
def order_of_jobs(prompt):
    """Jobs: a, b. Each line says which must be done before which: b before a"""
    jobs = re.search(r"Jobs: (.+)\.", prompt)
    if not jobs:
        return None
    needs = {job: set() for job in jobs[1].split(", ")}
    for first, then in re.findall(r"^(\w+) before (\w+)$", prompt, re.MULTILINE):
        needs[then].add(first)
    order = []
    while len(order) < len(needs):
        ready = [job for job in needs if job not in order and needs[job] <= set(order)]
        order.append(min(ready))
    return json.dumps(order)


@rule
def shortest_route(prompt):
    """Roads: Ash-Birch 7 ... What is the shortest route from Ash to Birch?"""
    asked = re.search(r"shortest route from (\w+) to (\w+)\?", prompt)
    if not asked:
        return None
    roads = {}
    for one, other, length in re.findall(r"(\w+)-(\w+) (\d+)", prompt):
        roads.setdefault(one, []).append((other, int(length)))
        roads.setdefault(other, []).append((one, int(length)))
    waiting, seen = [(0, [asked[1]])], set()
    while waiting:
        length, route = heapq.heappop(waiting)
        if route[-1] == asked[2]:
            return json.dumps({"route": route, "kilometres": length})
        if route[-1] not in seen:
            seen.add(route[-1])
            for place, more in roads.get(route[-1], ()):
                heapq.heappush(waiting, (length + more, [*route, place]))
    return None


@rule
def length_of_project(prompt):
    """survey: 4, after nothing; design: 6, after survey; ..."""
    lines = re.findall(r"^(\w+): (\d+), after (.+)$", prompt, re.MULTILINE)
    if not lines or "In how many days" not in prompt:
        return None
    tasks = {name: (int(days), re.findall(r"\w+", after)) for name, days, after in lines}

    def finished(name):
        if name not in tasks:
            return 0
        days, after = tasks[name]
        return days + max(map(finished, after))

    return str(max(map(finished, tasks)))


@rule
def best_load(prompt):
    """A drone can carry 20 kilograms. antenna: 9 kg, value 46; ..."""
    limit = re.search(r"can carry (\d+) kilograms", prompt)
    items = re.findall(r"^(\w+): (\d+) kg, value (\d+)$", prompt, re.MULTILINE)
    if not limit or not items:
        return None
    loads = (load for size in range(len(items) + 1) for load in combinations(items, size))
    fitting = (load for load in loads if sum(int(kg) for _, kg, _ in load) <= int(limit[1]))
    best = max(fitting, key=lambda load: sum(int(value) for _, _, value in load))
    total = sum(int(value) for _, _, value in best)
    return json.dumps({"items": sorted(name for name, _, _ in best), "value": total})


@rule
def way_through_a_maze(prompt):
    """A map of # and ., with S and G: the smallest number of steps?"""
    lines = re.findall(r"^[#.SG]{3,}$", prompt, re.MULTILINE)
    squares = {(x, y): mark for y, line in enumerate(lines) for x, mark in enumerate(line)}
    starts = [place for place, mark in squares.items() if mark == "S"]
    if not starts or "number of steps" not in prompt:
        return None
    waiting, steps = deque(starts), {starts[0]: 0}
    while waiting:
        x, y = here = waiting.popleft()
        if squares[here] == "G":
            return str(steps[here])
        for place in ((x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)):
            if squares.get(place, "#") != "#" and place not in steps:
                steps[place] = steps[here] + 1
                waiting.append(place)
    return None
