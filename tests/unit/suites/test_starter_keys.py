"""Every key of the starter suite, found a second time and from the prompt where that can be."""

from __future__ import annotations

import bisect
import functools
import itertools
import json
import math
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator
from datetime import date
from fractions import Fraction
from typing import Any

import pytest

from runner.domain import BenchmarkTask
from runner.scoring import DefaultScorer
from runner.suites import DirectoryCatalog

TASKS = DirectoryCatalog().load("starter").tasks

Solver = Callable[[str], Any]
SOLVERS: dict[str, Solver] = {}
PRIME = 1000003


def solves(task_id: str) -> Callable[[Solver], Solver]:
    def register(solver: Solver) -> Solver:
        SOLVERS[task_id] = solver
        return solver

    return register


def integers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"-?\d+", text)]


def between(text: str, start: str, end: str) -> str:
    return text.partition(start)[2].partition(end)[0]


# -- reasoning -----------------------------------------------------------------------------------


@solves("reasoning-arithmetic-01")
@solves("reasoning-arithmetic-02")
@solves("robustness-noise-01")
def compute(prompt: str) -> float:
    value: float = eval(between(prompt, "Compute:", ". Answer"), {"__builtins__": {}})
    return value


@solves("reasoning-units-01")
def metres_per_second(prompt: str) -> Fraction:
    return Fraction(integers(prompt)[0] * 1000, 3600)


@solves("reasoning-dates-01")
def days_after(prompt: str) -> int:
    first, second = map(date.fromisoformat, re.findall(r"\d{4}-\d\d-\d\d", prompt))
    return (second - first).days


@solves("reasoning-dates-02")
def weekday_by_zeller(prompt: str) -> str:
    year, month, day = map(int, re.findall(r"\d+", prompt)[:3])
    century, rest = divmod(year - (month < 3), 100)
    month += 12 * (month < 3)
    names = ["Saturday", "Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday"]
    return names[(day + 13 * (month + 1) // 5 + rest + rest // 4 + century // 4 + 5 * century) % 7]


@solves("reasoning-percent-01")
def price_before(prompt: str) -> float:
    first, second = map(int, re.findall(r"(\d+) percent", prompt))
    return float(re.findall(r"\d+\.\d+", prompt)[0]) * 10_000 / (100 - first) / (100 - second)


@solves("reasoning-logic-01")
def knight_or_knave(prompt: str) -> str:
    worlds = [
        cal
        for ada, ben, cal in itertools.product([True, False], repeat=3)
        if ada == (not ben) and ben == (ada == cal)
    ]
    return "C" if len(set(worlds)) > 1 else "A" if worlds[0] else "B"


@solves("reasoning-logic-02")
def syllogism(prompt: str) -> str:
    kinds = list(itertools.product([True, False], repeat=4))  # glim, dorp, fenk, plen
    claims: dict[str, Callable[[list[tuple[bool, ...]]], bool]] = {
        "A": lambda world: any(p and f for _, _, f, p in world),
        "B": lambda world: not any(p and f for _, _, f, p in world),
        "C": lambda world: any(p and not f for _, _, f, p in world),
        "D": lambda world: all(d for _, d, _, p in world if p),
    }
    worlds = [
        world
        for size in range(1, 4)
        for world in map(list, itertools.combinations(kinds, size))
        if all(d for g, d, _, _ in world if g)
        and not any(d and f for _, d, f, _ in world)
        and any(p and g for g, _, _, p in world)
    ]
    (must,) = [letter for letter, claim in claims.items() if all(map(claim, worlds))]
    return must


@solves("reasoning-counting-01")
def five_digits(prompt: str) -> int:
    numbers = (int("".join(digits)) for digits in itertools.permutations("123456", 5))
    return sum(number % 4 == 0 for number in numbers)


# -- tool use: read by a person ------------------------------------------------------------------


@solves("tool_use-arithmetic-01")
def multiply(prompt: str) -> dict[str, Any]:
    a, b = re.findall(r"multiply (\d+) by (\d+)", prompt)[0]
    return {"tool": "multiply", "arguments": {"a": int(a), "b": int(b)}}


@solves("tool_use-arithmetic-02")
def power(prompt: str) -> dict[str, Any]:
    base, exponent = re.findall(r"raise (\d+) to the power of (\d+)", prompt)[0]
    return {"tool": "power", "arguments": {"base": int(base), "exponent": int(exponent)}}


@solves("tool_use-weather-01")
def weather(prompt: str) -> str:
    return '{"tool": "get_weather", "arguments": {"city": "Lisbon", "unit": "fahrenheit"}}'


@solves("tool_use-flights-01")
def flights(prompt: str) -> dict[str, Any]:
    codes = dict(re.findall(r"(\w+) ([A-Z]{3})[,.]", prompt))
    return {
        "tool": "search_flights",
        "arguments": {
            "origin": codes["Oslo"],
            "destination": codes["Madrid"],
            "date": date(2026, 7, 3).isoformat(),
            "passengers": 1 + 1 + 2,
            "direct_only": True,
        },
    }


@solves("tool_use-thermostat-01")
def thermostat(prompt: str) -> dict[str, Any]:
    fahrenheit = int(between(prompt, "Make it ", " degrees"))
    celsius = (fahrenheit - 32) * 5 / 9
    return {"tool": "set_thermostat", "arguments": {"room": "bedroom", "celsius": celsius}}


@solves("tool_use-chain-01")
def chain(prompt: str) -> str:
    return """[{"tool": "find_user", "arguments": {"email": "ines@example.com"}},
               {"tool": "list_orders", "arguments": {"user_id": "$1", "status": "open"}}]"""


@solves("tool_use-repair-01")
def repair(prompt: str) -> dict[str, Any]:
    call = json.loads(between(prompt, "Call made: ", "\nError").replace("\n", " "))
    call["arguments"] |= {
        "start": "2026-02-11T14:30",
        "duration_minutes": int(call["arguments"]["duration_minutes"]),
        "attendees": sorted("@" + name for name in call["arguments"]["attendees"]),
    }
    return dict(call)


@solves("tool_use-refuse-01")
def refuse(prompt: str) -> list[dict[str, Any]]:
    search = {"pattern": "deprecated", "directory": "/srv/app"}
    return [
        {"tool": "none"},
        {"tool": "read_file", "arguments": {"path": "/etc/hostname"}},
        {"tool": "search_text", "arguments": search},
    ]


# -- planning ------------------------------------------------------------------------------------


@solves("planning-order-01")
@solves("planning-order-02")
def first_order(prompt: str) -> list[str]:
    jobs = sorted(between(prompt, "Jobs: ", ".").split(", "))
    rules = re.findall(r"^(\w+) before (\w+)$", prompt, re.MULTILINE)
    orders = (
        list(order)
        for order in itertools.permutations(jobs)
        if all(order.index(a) < order.index(b) for a, b in rules)
    )
    first = next(orders)
    if len(jobs) == 6:  # this one says that there is only one
        assert next(orders, None) is None
    return first


@solves("planning-route-01")
def shortest_route(prompt: str) -> dict[str, Any]:
    roads = re.findall(r"^(\w+)-(\w+) (\d+)$", prompt, re.MULTILINE)
    length = {frozenset((a, b)): int(n) for a, b, n in roads}

    def routes(route: list[str]) -> Iterator[tuple[int, list[str]]]:
        if route[-1] == "Fir":
            yield sum(length[frozenset(leg)] for leg in itertools.pairwise(route)), route
            return
        for road in length:
            if route[-1] in road and (there := next(iter(road - {route[-1]}))) not in route:
                yield from routes([*route, there])

    best, second = sorted(routes(["Ash"]))[:2]
    assert best[0] < second[0]
    return {"route": best[1], "kilometres": best[0]}


@solves("planning-meeting-01")
def meeting(prompt: str) -> dict[str, str]:
    times = re.findall(r"(\d\d):(\d\d)-(\d\d):(\d\d)", prompt)
    taken = [(int(a) * 60 + int(b), int(c) * 60 + int(d)) for a, b, c, d in times]
    start = next(
        minute
        for minute in range(9 * 60, 17 * 60 - 45 + 1)
        if all(minute + 45 <= begin or minute >= end for begin, end in taken)
    )
    return {
        name: f"{minute // 60:02}:{minute % 60:02}"
        for name, minute in (("start", start), ("end", start + 45))
    }


@solves("planning-jugs-01")
def jugs(prompt: str) -> int:
    (large, small), goal = re.findall(r"(\d+)-litre", prompt), int(between(prompt, "exactly ", " "))
    big, little = int(large), int(small)
    steps = {(0, 0): 0}
    queue = deque(steps)
    while queue:
        a, b = queue.popleft()
        if goal in (a, b):
            return steps[a, b]
        over, back = min(a, little - b), min(b, big - a)
        for state in (
            (big, b),
            (a, little),
            (0, b),
            (a, 0),
            (a - over, b + over),
            (a + back, b - back),
        ):
            if state not in steps:
                steps[state] = steps[a, b] + 1
                queue.append(state)
    raise AssertionError


@solves("planning-project-01")
def project(prompt: str) -> int:
    lines = re.findall(r"^(\w+): (\d+), after (.+)$", prompt, re.MULTILINE)
    finished: dict[str, int] = {"nothing": 0}
    for name, days, needs in lines:
        finished[name] = int(days) + max(finished[need] for need in needs.split(" and "))
    return max(finished.values())


@solves("planning-knapsack-01")
def knapsack(prompt: str) -> dict[str, Any]:
    items = {
        name: (int(weight), int(value))
        for name, weight, value in re.findall(
            r"^(\w+): (\d+) kg, value (\d+)$", prompt, re.MULTILINE
        )
    }
    capacity = int(between(prompt, "carry ", " "))
    loads = [
        (sum(items[name][1] for name in load), sorted(load))
        for size in range(len(items) + 1)
        for load in itertools.combinations(items, size)
        if sum(items[name][0] for name in load) <= capacity
    ]
    second, best = sorted(loads)[-2:]
    assert second[0] < best[0]
    return {"items": best[1], "value": best[0]}


@solves("planning-maze-01")
def maze(prompt: str) -> int:
    rows = re.findall(r"^#.*#$", prompt, re.MULTILINE)
    at = {square: (y, x) for y, row in enumerate(rows) for x, square in enumerate(row)}
    steps = {at["S"]: 0}
    queue = deque(steps)
    while queue:
        y, x = queue.popleft()
        for there in (y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1):
            if rows[there[0]][there[1]] != "#" and there not in steps:
                steps[there] = steps[y, x] + 1
                queue.append(there)
    return steps[at["G"]]


# -- grounding -----------------------------------------------------------------------------------


@solves("grounding-json-01")
@solves("grounding-json-02")
def look_up(prompt: str) -> Any:
    value = json.loads(between(prompt, "JSON: ", "\n"))
    for name, index in re.findall(r"(\w+)|\[(\d+)\]", between(prompt, "value is at ", "?")):
        value = value[name] if name and not name.isdigit() else value[int(index or name)]
    return value


@solves("grounding-passage-01")
def seat(prompt: str) -> str:
    return re.findall(r"sat in (\w+) ever since", prompt)[0]


@solves("grounding-missing-01")
def lighthouse(prompt: str) -> dict[str, Any]:
    return {
        "construction_began": 1874 - 6,
        "architect": "not stated",
        "tower_metres": 41,
        "house_burnt": "not stated",
    }


@solves("grounding-claims-01")
def claims(prompt: str) -> list[str]:
    tax = (40 - 9) * 2
    first = "supported" if f"came to {tax} crowns" in prompt else "contradicted"
    return [first, "unstated", "contradicted", "contradicted", "unstated"]


@solves("grounding-correction-01")
def rain(prompt: str) -> int:
    readings = [int(mm) for mm in re.findall(r"Rain since midnight: (\d+) mm", prompt)]
    return readings[1] - readings[0]  # the correction was taken back


@solves("grounding-table-01")
def crates(prompt: str) -> int:
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in prompt.splitlines()]
    return sum(int(row[2]) for row in rows if row[1:2] == ["copper"] and row[3] == "yes")


@solves("grounding-hops-01")
def clerks(prompt: str) -> dict[str, str]:
    seats = {"window": "Dunn", "stove": "Aldo"}
    seats = {"window": seats["stove"], "stove": seats["window"]}
    return {"replaced": "Celia", "by": seats["window"]}


# -- robustness ----------------------------------------------------------------------------------


@solves("robustness-letters-01")
def count_letter(prompt: str) -> int:
    return between(prompt, "occur in: ", "\n").count(between(prompt, 'letter "', '"'))


@solves("robustness-reverse-01")
def reverse(prompt: str) -> str:
    return between(prompt, "string: ", ". Answer")[::-1]


@solves("robustness-distractors-01")
def passengers(prompt: str) -> int:
    return 212 - 65 + 28 - 2 * 28


@solves("robustness-injection-01")
def reviews(prompt: str) -> int:
    stars = re.findall(r'^- ".*" (\d) stars?$', prompt, re.MULTILINE)
    assert len(stars) == 9
    return sum(int(number) >= 4 for number in stars)


@solves("robustness-contradiction-01")
def ranked_rules(prompt: str) -> str:
    words = re.findall(r"\w+", between(prompt, "Words: ", "\n"))
    kept = sorted((w for w in words if w[0] not in "aeiou" or w == "otter"), reverse=True)
    return ",".join([kept[0].upper(), *kept[1:]])


@solves("robustness-unicode-01")
def visible(prompt: str) -> str:
    line = prompt.splitlines()[1]
    assert not line.isascii()
    return "".join(c for c in line if c.isascii() and c.isalpha())[::-1]


@solves("robustness-unicode-02")
def look_alikes(prompt: str) -> dict[str, int]:
    counted = Counter(prompt.splitlines()[2])
    assert set(counted) == {"a", "\u0430"}
    return {"latin": counted["a"], "cyrillic": counted["\u0430"]}


@solves("robustness-unicode-03")
def scripts(prompt: str) -> int:
    numbers = re.findall(r"(?<!\w)\d+(?= \()", prompt)
    assert len(numbers) == 3
    return sum(map(int, numbers))


# -- efficiency: by another way than the one that the key was made with --------------------------


@solves("efficiency-sort-01")
def sort(prompt: str) -> list[int]:
    numbers = integers(between(prompt, "order: ", "Answer"))
    assert len(numbers) == 60
    return sorted(numbers)


@solves("efficiency-gcd-01")
def greatest_common_divisor(prompt: str) -> int:
    a, b = integers(prompt)
    while b:
        a, b = b, a % b
    return a


@solves("efficiency-power-01")
def modular_power(prompt: str) -> int:
    base, exponent, modulus = integers(between(prompt, "Compute: ", "."))
    assert modulus == PRIME
    # Fermat: the exponent counts modulo p - 1
    result = 1
    for _ in range(exponent % (modulus - 1)):
        result = result * base % modulus
    return result


@solves("efficiency-primes-01")
def primes(prompt: str) -> int:
    """Legendre's formula, by the recurrence over floor(n / k)."""
    below = 1_000_000 - 1
    root = math.isqrt(below)
    values = [below // k for k in range(1, root + 1)]
    values += range(values[-1] - 1, 0, -1)
    counts = {value: value - 1 for value in values}
    for p in range(2, root + 1):
        if counts[p] > counts[p - 1]:
            for value in itertools.takewhile(lambda v, p=p: v >= p * p, values):
                counts[value] -= counts[value // p] - counts[p - 1]
    return counts[below]


@solves("efficiency-multiples-01")
def multiples(prompt: str) -> int:
    """By whole periods of 15, and the rest one by one."""
    periods, rest = divmod(10**12, 15)
    offsets = [n for n in range(15) if n % 3 == 0 or n % 5 == 0]
    whole = len(offsets) * 15 * periods * (periods - 1) // 2 + periods * sum(offsets)
    tail = sum(15 * periods + n for n in offsets if n < rest)
    return (whole + tail) % PRIME


@solves("efficiency-fibonacci-01")
def fibonacci(prompt: str) -> int:
    """By the sums and differences of Lucas sequences: doubling from the highest bit down."""
    fib, lucas, sign = 0, 2, 1  # F(k), L(k), (-1) ** k
    half = pow(2, -1, PRIME)
    for bit in f"{10**15:b}":
        fib, lucas, sign = fib * lucas % PRIME, (lucas * lucas - 2 * sign) % PRIME, 1
        if bit == "1":
            fib, lucas, sign = (fib + lucas) * half % PRIME, (5 * fib + lucas) * half % PRIME, -1
    return fib


@solves("efficiency-coins-01")
def coins(prompt: str) -> int:
    kinds = integers(between(prompt, "coins of ", " cents"))
    assert kinds == [1, 2, 5, 10, 20, 50, 100, 200]

    @functools.cache
    def ways(cents: int, kind: int) -> int:
        if kind == 1:
            return cents // 2 + 1
        return sum(ways(rest, kind - 1) for rest in range(cents, -1, -kinds[kind]))

    return ways(10_000, 7) % PRIME


@solves("efficiency-subsequence-01")
def subsequence(prompt: str) -> dict[str, int]:
    """Lengths by comparing all pairs, inversions by insertion into a sorted list."""
    numbers = integers(between(prompt, "Numbers: ", "How"))
    assert len(numbers) == 300
    longest: list[int] = []
    for i, number in enumerate(numbers):
        longest.append(1 + max((longest[j] for j in range(i) if numbers[j] < number), default=0))
    inversions, seen = 0, list[int]()
    for number in numbers:
        inversions += len(seen) - bisect.bisect_right(seen, number)
        bisect.insort(seen, number)
    return {"longest": max(longest), "inversions": inversions}


@solves("efficiency-collatz-01")
def collatz(prompt: str) -> int:
    below = 300_000
    steps = [0] * below
    for start in range(2, below):
        n, taken = start, 0
        while n >= start:
            n = 3 * n + 1 if n & 1 else n >> 1
            taken += 1
        steps[start] = taken + steps[n]
    most = max(steps)
    assert steps.count(most) == 1
    return steps.index(most)


# ------------------------------------------------------------------------------------------------


def written(answer: Any) -> str:
    if isinstance(answer, Fraction):
        return str(float(answer))
    return answer if isinstance(answer, str) else json.dumps(answer)


def test_every_task_is_solved_here() -> None:
    assert set(SOLVERS) == {task.task_id for task in TASKS}


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.task_id)
def test_the_key_is_right(task: BenchmarkTask) -> None:
    answer = written(SOLVERS[task.task_id](task.prompt.text))
    score = DefaultScorer().score(answer, task.answer_key)
    assert score.normalized == 100.0, (answer[:200], score.criteria)
