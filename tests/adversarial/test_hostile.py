"""Every hostile agent ends as its folder says, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from runner.domain import Attempt, FailureReason, Image
from runner.domain.submission import AgentEndpoint, BenchmarkSubmission
from runner.errors import BuildFailed
from runner.evaluation.preflight import greet
from runner.evaluation.usage import usage
from runner.evaluation.verdict import Verdict, judge
from runner.images.builder import SubmissionImages
from runner.images.limits import BuildLimits
from tests.adversarial.conftest import Lab
from tests.adversarial.expectation import Expectation, load_all
from tests.adversarial.host import Host, settled

pytestmark = [pytest.mark.docker, pytest.mark.adversarial]

KILL_SECONDS = 5.0
"""How long after its deadline an agent may at most live."""


ALWAYS = frozenset(
    {
        *("memory", "child_out_of_memory", "fork_bomb", "cpu_spin", "sleep", "ignored_sigterm"),
        *("daemon", "log_flood", "endless_line", "forged_frame", "killed_shim", "ptrace_shim"),
        *("canary_search", "network_reach", "artifacts"),
        *("disk_full", "opt_is_a_link", "preload_image", "http_lying_claims"),
    }
)
"""Those of `make test`; the others are behind `make test-all`."""


def parameters() -> list[ParameterSet]:
    """One for each folder whose agent meets no gateway; for the others see test_gateway.py."""
    return [
        pytest.param(one, id=one.name, marks=[] if one.name in ALWAYS else [pytest.mark.slow])
        for one in load_all()
        if one.gateway is None
    ]


@pytest.mark.parametrize("expected", parameters())
def test_hostile_agent(
    expected: Expectation,
    lab: Lab,
    honest_result: tuple[object, ...],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    image = prepare(expected, lab, tmp_path)
    if image is None:
        return
    before, started = Host.now(), time.monotonic()
    attempts = run(expected, lab, image, tmp_path)
    seconds = time.monotonic() - started
    verdicts = [judge(made) for made in attempts]
    outcome = verdicts[-1].reason or verdicts[-1].status
    request.node.user_properties += [("outcome", str(outcome)), ("seconds", round(seconds, 2))]
    for made, verdict in zip(attempts, verdicts, strict=True):
        check_verdict(expected, made, verdict)
        check_reply(expected, made)
        check_artifacts(expected, made)
        check_end(made, verdict)
    assert settled(lambda: lab.leftovers(attempts, before.at_unix)) == []
    assert settled(lambda: Host.now().lost_since(before)) == []
    assert lab.honest(tmp_path / "honest") == honest_result


def prepare(expected: Expectation, lab: Lab, tmp_path: Path) -> Image | None:
    """The image to be run; None where, as expected, it is not fit to be."""
    if not expected.build:
        return lab.image(expected.how)
    endpoint = AgentEndpoint(
        endpoint_type="container",
        source=expected.directory,
        dockerfile="Dockerfile",
        interface="stdio",
        command=expected.command,
    )
    submission = BenchmarkSubmission(
        agent_name=expected.name, agent_version="1.0.0", agent_endpoint=endpoint
    )
    images = SubmissionImages(lab.client, lab.made.base_image_id, BuildLimits(), tmp_path / "logs")

    async def make() -> Image:
        image = await images.prepare(submission, lambda _: None)
        await greet(image, lab.base, expected.limits, lab.sandbox, lab.transport)
        return image

    if expected.build_failed:
        with pytest.raises(BuildFailed, match=expected.build_failed):
            asyncio.run(make())
        return None
    return asyncio.run(make())


def run(expected: Expectation, lab: Lab, image: Image, tmp_path: Path) -> list[Attempt]:
    """All attempts of one folder, in rounds."""

    async def together(number: int) -> list[Attempt]:
        places = [tmp_path / f"artifacts-{number}-{i}" for i in range(expected.together)]
        running = (lab.run(image, expected.limits, p, expected.prompt) for p in places)
        return list(await asyncio.gather(*running))

    return [made for number in range(expected.times) for made in asyncio.run(together(number))]


def check_verdict(expected: Expectation, made: Attempt, verdict: Verdict) -> None:
    errors = made.reply.stderr[-2000:].decode(errors="replace")
    shown = f"{verdict}\n{made.reply.output[-1000:]}\n{errors}"
    assert verdict.status in expected.statuses, shown
    assert verdict.reason is not FailureReason.INTERNAL_ERROR, shown
    allowed = expected.failure_reasons or ("",)
    assert (verdict.reason or "") in allowed, shown
    assert re.search(expected.detail, verdict.detail), shown
    assert verdict.detail.isprintable(), shown
    assert expected.bounds.broken(made) == [], f"{usage(made)}\n{shown}"


def check_reply(expected: Expectation, made: Attempt) -> None:
    reply = made.reply
    everything = reply.output + reply.stdout.decode(errors="replace")
    assert "BREACH" not in everything + reply.stderr.decode(errors="replace")
    for pattern in expected.output:
        assert re.search(pattern, reply.output), reply.output[-3000:]
    refused = sum(line.startswith("refused: ") for line in reply.output.splitlines())
    assert refused >= expected.refused_min, reply.output[-3000:]
    assert len(reply.output.encode()) <= expected.limits.output_bytes
    assert len(reply.stderr) <= expected.limits.log_bytes
    assert expected.claims is None or reply.claims == expected.claims
    assert json.loads(made.model_dump_json()), "it can be put on record"


def check_artifacts(expected: Expectation, made: Attempt) -> None:
    kept = {a.path for a in made.artifacts if not a.skipped}
    skipped = {a.path: a.skipped for a in made.artifacts if a.skipped}
    if expected.artifacts:
        assert kept == set(expected.artifacts)
    for path, reason in expected.skipped.items():
        assert re.search(reason, skipped.get(path, "")), skipped


def check_end(made: Attempt, verdict: Verdict, excused_seconds: float = 0.0) -> None:
    """Killed in time, and confirmed dead unless the shim, which confirms it, went first."""
    stages = {stage.name: stage.seconds for stage in made.stages}
    until_dead = sum(stages.get(name, 0.0) for name in ("ask", "measure", "stop"))
    assert until_dead <= made.limits.time_seconds + excused_seconds + KILL_SECONDS
    shim_died = verdict.reason is FailureReason.MEMORY_EXCEEDED
    assert made.agent_confirmed_dead or shim_died
    assert made.sandbox
