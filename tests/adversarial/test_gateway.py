"""Hostile agents against the gateway: each ends as its folder says, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from _pytest.mark import ParameterSet

from runner.domain import MIB, Limits, StdioInterface
from runner.evaluation.claims import mismatches
from runner.evaluation.usage import usage
from runner.evaluation.verdict import judge
from runner.gateway.exchanges import load_exchanges
from tests.adversarial.conftest import Lab
from tests.adversarial.expectation import HERE, PRELUDE, SMALL, Expectation, load, load_all
from tests.adversarial.gateway_lab import SECRET, GatewayLab, Seen, Terms, large_completion
from tests.adversarial.host import settled, tidy_host
from tests.adversarial.test_hostile import check_end, check_reply, check_verdict

pytestmark = [pytest.mark.docker, pytest.mark.adversarial]

SLOW = frozenset(
    {
        *("gateway_connection_flood", "gateway_never_reads", "gateway_tool_flood"),
        *("gateway_recording_bomb", "gateway_deep_json", "gateway_huge_headers"),
    }
)
"""Those behind `make test-all`."""
RSS_TOLERANCE_BYTES = 64 * MIB
"""The providers' threads and the gateway's keep memory of their own."""
RUNNER_GROWTH_BYTES = 512 * MIB
"""At most while an attempt runs: what a few of the largest requests and answers take at once. The
providers are threads of this process too."""
OPEN_FILES_TOLERANCE = 8
"""The engine's client keeps some connections for later."""
ANSWERED = """
print(chat("hello")[0], json.loads(call("/tools/calculator", {"expression": "6*7"})[1])["result"])
print(json.dumps(json.loads(call("/budget")[1]), sort_keys=True))
"""
"""An honest agent."""
HEARD = """200 42
{"cost_usd_left": null, "model_calls_left": 999, "tokens_left": null, "tool_calls_left": 999}
"""


def parameters() -> list[ParameterSet]:
    """One for each folder whose agent meets a gateway."""
    return [
        pytest.param(one, id=one.name, marks=[pytest.mark.slow] if one.name in SLOW else [])
        for one in load_all()
        if one.gateway is not None
    ]


@pytest.fixture(autouse=True)
def _nothing_is_logged(caplog: pytest.LogCaptureFixture) -> object:
    """What an agent does is no error of ours, and no key is in what we say."""
    with caplog.at_level(logging.DEBUG, "runner"):
        yield
    records = caplog.get_records("call")
    assert [r.getMessage() for r in records if r.levelno >= logging.WARNING] == []
    assert not any(SECRET in record.getMessage() for record in records)


@pytest.fixture
def gateway_lab(lab: Lab, tmp_path: Path) -> GatewayLab:
    made = GatewayLab(lab, tmp_path)
    answered(made)  # what is imported and cached by the first one is not what a hostile one left
    return made


@pytest.mark.parametrize("expected", parameters())
def test_hostile_agent_at_the_gateway(expected: Expectation, gateway_lab: GatewayLab) -> None:
    assert_outcome(gateway_lab, expected)


def test_parallel_calls_never_exceed_their_number(gateway_lab: GatewayLab) -> None:
    race = load(HERE / "gateway_budget_race")
    terms = {"model_calls": 50, "refusals": ["model_calls_exceeded"]}
    limits = race.limits.model_copy(update={"model_calls": 50})
    seen = assert_outcome(
        gateway_lab,
        replace(race, limits=limits, gateway=terms, statuses=("completed",), failure_reasons=()),
    )
    assert seen.made.reply.output == "50 answered\n150 refused\n"


def test_parallel_calls_never_exceed_the_budget_of_the_run(gateway_lab: GatewayLab) -> None:
    race = load(HERE / "gateway_budget_race")
    given = race.gateway or {}
    terms = {"run_tokens": 2000, "spent_out": True, "model_calls_min": 10, "rules": given["rules"]}
    assert_outcome(
        gateway_lab,
        replace(race, gateway=terms, statuses=("completed",), failure_reasons=()),
    )


def test_streams_that_are_left_use_up_a_budget(gateway_lab: GatewayLab) -> None:
    leaving = load(HERE / "gateway_aborted_streams")
    terms = {"provider": "endless", "token_budget": 5000, "over_budget": "tokens"}
    exceeded = {"statuses": ("resource_exceeded",), "output": ()}
    reasons = ("token_budget_exceeded",)
    assert_outcome(
        gateway_lab,
        replace(
            leaving,
            gateway={**terms, "aborted_min": 20},
            failure_reasons=reasons,
            **exceeded,
        ),
    )


def assert_outcome(gateway_lab: GatewayLab, expected: Expectation) -> Seen:
    """One attempt: what it comes to, and that nothing of it is left."""
    assert expected.gateway is not None
    terms, before, open_before = Terms(**expected.gateway), tidy_host(), open_files()
    image = gateway_lab.lab.image(expected.how)
    if terms.provider == "large":
        large_completion()
    with Peak() as peak:
        seen = asyncio.run(gateway_lab.run(image, expected.limits, terms, expected.prompt))
    verdict = judge(seen.made, use=seen.use)
    check_verdict(expected, seen.made, verdict)
    check_reply(expected, seen.made)
    check_end(seen.made, verdict, seen.use.excused_seconds)
    assert seen.use.excused_seconds <= terms.policy.get("max_wait_seconds", 0)
    check_use(seen, expected, terms)
    check_secrets(seen, gateway_lab.directory)
    assert peak.grown < RUNNER_GROWTH_BYTES
    assert settled(lambda: gateway_lab.lab.leftovers([seen.made], before.at_unix)) == []
    assert settled(lambda: tidy_host().lost_since(before, RSS_TOLERANCE_BYTES)) == []
    assert open_files() <= open_before + OPEN_FILES_TOLERANCE
    answered(gateway_lab)
    return seen


def check_use(seen: Seen, expected: Expectation, terms: Terms) -> None:
    """What the gateway counted, against the budgets and against what the folder says."""
    use = seen.use
    done = [call for call in use.model_calls if not call.refused]
    tools = [call for call in use.tool_calls if not call.refused]
    tokens = use.tokens_input + use.tokens_output
    codes = {call.refused for call in (*use.model_calls, *use.tool_calls) if call.refused}
    shown = f"{len(done)} model calls, {len(tools)} tool calls, {tokens} tokens, refused: {codes}"
    assert len(done) <= expected.limits.model_calls, shown
    assert len(tools) <= expected.limits.tool_calls, shown
    for budget in (terms.token_budget, terms.run_tokens):
        assert budget is None or tokens <= budget, shown
    assert tokens == sum(one.tokens_input + one.tokens_output for one in seen.spending), shown
    assert terms.model_calls is None or len(done) == terms.model_calls, shown
    assert len(done) >= terms.model_calls_min, shown
    assert terms.tool_calls is None or len(tools) == terms.tool_calls, shown
    assert sum(call.aborted for call in use.model_calls) >= terms.aborted_min, shown
    paid = [call for call in done if call.aborted and call.tokens_input]
    assert len(paid) >= terms.aborted_min, shown
    assert tokens >= terms.tokens_min, shown
    assert (use.over_budget, use.spent_out) == (terms.over_budget, terms.spent_out), shown
    assert terms.refusals is None or codes == set(terms.refusals), shown
    flagged = mismatches(seen.made.reply.claims, usage(seen.made, use))
    assert len(flagged) == terms.false_claims, flagged
    reached = seen.provider_requests
    assert terms.provider_requests is None or reached == terms.provider_requests, shown
    size = seen.exchanges.stat().st_size if seen.exchanges.exists() else 0
    assert terms.recorded_bytes_max is None or size <= terms.recorded_bytes_max
    assert len(list(load_exchanges(seen.exchanges))) >= len(done) + len(tools)
    assert len(use.model_dump_json()) < 20_000_000


def check_secrets(seen: Seen, directory: Path) -> None:
    """The operator's key is nowhere; the attempt's own is not in what is kept of it."""
    reply = seen.made.reply
    said = reply.output.encode() + reply.stdout + reply.stderr
    kept = seen.use.model_dump_json() + seen.made.model_dump_json()
    assert SECRET.encode() not in said
    assert SECRET not in kept
    for path in directory.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
    if seen.exchanges.exists():
        assert seen.key.encode() not in seen.exchanges.read_bytes()


def answered(gateway_lab: GatewayLab) -> None:
    """An honest agent's attempt comes to what it always does."""
    source = f"{PRELUDE.read_text()}\nprompt()\n{ANSWERED}"
    image = gateway_lab.lab.image(StdioInterface(command=("python3", "-c", source)))
    seen = asyncio.run(gateway_lab.run(image, Limits.model_validate(SMALL), Terms(), "?"))
    assert seen.made.reply.output == HEARD, seen.made.reply.stderr[-2000:]
    assert [call.status for call in seen.use.model_calls] == [200]
    assert len(seen.use.tool_calls) == 1


def open_files() -> int:
    """Of this process."""
    return psutil.Process().num_fds()


class Peak:
    """The most memory that this process had within it, beyond what it had before."""

    def __enter__(self) -> Peak:
        self._before = psutil.Process().memory_info().rss
        Path("/proc/self/clear_refs").write_text("5")  # from now on VmHWM is a new peak
        return self

    def __exit__(self, *_: object) -> None:
        status = Path("/proc/self/status").read_text()
        peak = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert peak
        self.grown = int(peak[1]) * 1024 - self._before
