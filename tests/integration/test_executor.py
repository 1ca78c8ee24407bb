"""Retries, stopping and reaping on a real engine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.domain import EventKind, ExecutionStatus, FailureReason, Image, Limits, RunEvent
from runner.errors import EngineFailed
from runner.evaluation import Executor, RetryPolicy, SandboxedAgent, StopSignal
from runner.sandbox.journal import Journal
from runner.sandbox.reaper import exists, reap
from runner.testing import MemoryEvidence
from tests.integration.conftest import Lab, when_running
from tests.unit.evaluation.plans import executor, plan

pytestmark = pytest.mark.docker

FAST = RetryPolicy(retries=1, delays_seconds=(0.0,))


@pytest.fixture
def evidence() -> Iterator[MemoryEvidence]:
    with MemoryEvidence() as evidence:
        yield evidence


def on_engine(lab: Lab, evidence: MemoryEvidence, image: Image, **more: Any) -> Executor:
    """An executor of ours with the real sandbox and transport."""
    from dataclasses import replace

    given = plan(more.pop("tasks", "a"), parallelism=more.pop("parallelism", 1), image=image)
    made = executor(evidence, lambda _prompt, _config: "", given=given, **more)
    agent = SandboxedAgent(image=image, sandbox=lab.sandbox, transport=lab.transport)
    return replace(made, agent=agent)


async def test_a_benchmark_end_to_end(lab: Lab, evidence: MemoryEvidence) -> None:
    source = (
        "import json, sys; p = json.load(sys.stdin)['prompt']; open('/output/p', 'w').write(p);"
        "print(p.split()[2].strip('?'), end='')"
    )
    made = on_engine(lab, evidence, lab.python(source), tasks="abcd", parallelism=2)
    execution = await made.execute_benchmark()
    assert (execution.status, execution.overall_score) == (ExecutionStatus.COMPLETED, 100.0)
    assert sorted(k.files["p"] for k in evidence.kept) == [
        f"what is {name}?".encode() for name in "abcd"
    ]
    assert all(kept.execution.measurement for kept in evidence.kept)


async def test_a_container_removed_by_others_is_tried_again(
    lab: Lab, evidence: MemoryEvidence
) -> None:
    image = lab.shell("sleep 4; printf a")
    run = asyncio.create_task(on_engine(lab, evidence, image, retry=FAST).execute_benchmark())
    name = await when_running(lab, "sleep 4")
    await lab.client.call("rm", lambda api: api.remove_container(name, force=True))
    execution = await run
    assert execution.status is ExecutionStatus.COMPLETED
    assert execution.retried_attempts == 1
    first, second = (kept.execution for kept in evidence.kept)
    assert (first.attempt, first.failure_reason) == (1, FailureReason.INTERNAL_ERROR)
    assert "removed by somebody else" in first.failure_detail
    assert (second.attempt, second.normalized_score) == (2, 100.0)
    assert [e.kind for e in evidence.events].count(EventKind.TASK_RETRIED) == 1


async def test_an_agent_that_fails_is_not_tried_again(lab: Lab, evidence: MemoryEvidence) -> None:
    made = on_engine(lab, evidence, lab.shell("kill -9 $PPID; kill -9 1; exit 7"), retry=FAST)
    execution = await made.execute_benchmark()
    (kept,) = evidence.kept
    assert (kept.execution.failure_reason, kept.execution.exit_code) == ("agent_error", 7)
    assert execution.retried_attempts == 0


async def test_stopping_now_leaves_nothing_in_the_engine(
    lab: Lab, evidence: MemoryEvidence
) -> None:
    stop = StopSignal()
    image = lab.shell("exec sleep 98765")
    made = on_engine(lab, evidence, image, tasks="abc", parallelism=3, stop=stop)
    run = asyncio.create_task(made.execute_benchmark())
    await when_running(lab, "sleep 98765")
    stop.ask()
    stop.ask()
    execution = await run
    assert execution.status is ExecutionStatus.CANCELLED
    assert evidence.kept == []
    assert lab.containers() == []


async def test_draining_finishes_what_runs(lab: Lab, evidence: MemoryEvidence) -> None:
    stop = StopSignal()

    def drain(event: RunEvent) -> None:
        if event.kind is EventKind.TASK_STARTED:
            stop.ask()

    made = on_engine(lab, evidence, lab.shell("printf a"), tasks="abc", stop=stop, notify=drain)
    execution = await made.execute_benchmark()
    assert [e.output for e in execution.task_executions] == ["a"]
    assert execution.status is ExecutionStatus.CANCELLED


# -- what a killed runner leaves ----------------------------------------------------------------

RUNNER = """
import asyncio, json, sys
from pathlib import Path
from runner.domain import Image, Limits
from runner.engine import EngineClient, locate_engine
from runner.evaluation.stages import Stopwatch
from runner.sandbox import DockerSandbox, SandboxPolicy
from runner.sandbox.journal import Journal

async def main(journals, image, policy):
    with EngineClient(locate_engine()) as client, Journal(Path(journals)) as journal:
        sandbox = DockerSandbox(client, SandboxPolicy(**policy), journal)
        image = Image.model_validate_json(image)
        async with sandbox.session(image, Limits(), Stopwatch()) as one:
            async with sandbox.session(image, Limits(), Stopwatch()) as two:
                print(one.facts.container_name, two.facts.container_name, flush=True)
                await asyncio.sleep(600)

asyncio.run(main(*sys.argv[1:3], json.loads(sys.argv[3])))
"""


@pytest.fixture
def another_runner(lab: Lab) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A process like ours with two containers, in the same directory of journals."""
    policy = {"shim_volume": lab.made.shim_volume, "seccomp": lab.policy.seccomp}
    journals = str(lab.directory / "journals")
    image = lab.shell("true").model_dump_json()
    command = [sys.executable, "-c", RUNNER, journals, image, json.dumps(policy)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    names = process.stdout.readline().split()
    try:
        yield process, names
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        asyncio.run(reap(lab.client, lab.directory / "journals"))


def test_a_killed_runners_containers_are_reaped_and_no_others(
    lab: Lab, another_runner: tuple[subprocess.Popen[str], list[str]]
) -> None:
    process, names = another_runner
    journals = lab.directory / "journals"
    assert len(names) == 2
    with Journal(journals) as living:
        stays = living.new_name()
        labelled = f"agenttrace-bystander-{os.getpid()}"
        ours = [stays, labelled]
        for name in ours:
            make(lab, name)
        try:
            assert asyncio.run(reap(lab.client, journals)) == [], "its runner lives"
            assert all(there(lab, name) for name in names)
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert asyncio.run(reap(lab.client, journals, dry_run=True)) == names
            assert sorted(asyncio.run(reap(lab.client, journals))) == sorted(names)
            assert not any(there(lab, name) for name in names)
            assert all(there(lab, name) for name in ours)
            assert asyncio.run(reap(lab.client, journals)) == []
        finally:
            for name in ours:
                lab.client.call_blocking("rm", lambda api, name=name: api.remove_container(name))
            living.forget(stays)


def make(lab: Lab, name: str) -> None:
    image = lab.made.base_image_id
    lab.client.call_blocking(
        "create",
        lambda api: api.create_container(
            image, ["true"], name=name, labels={"org.agenttrace.container": name}
        ),
    )


def there(lab: Lab, name: str) -> bool:
    return asyncio.run(exists(lab.client, name))


async def test_a_journal_never_makes_us_remove_what_is_not_ours(lab: Lab, tmp_path: Path) -> None:
    bystander = f"agenttrace-bystander-{os.getpid()}"
    make(lab, bystander)
    try:
        (tmp_path / "0123456789ab.containers").write_text(f"{bystander}\n")
        assert await reap(lab.client, tmp_path) == []
        assert await exists(lab.client, bystander)
    finally:
        await lab.client.call("rm", lambda api: api.remove_container(bystander))


async def test_an_engine_that_refuses_is_not_forgotten(lab: Lab, tmp_path: Path) -> None:
    class Refusing:
        async def call(self, what: str, _function: Any, _seconds: float | None = None) -> Any:
            raise EngineFailed(f"no {what}", status=500)

    journal = tmp_path / "0123456789ab.containers"
    journal.write_text("agenttrace-0123456789ab-1\n")
    with pytest.raises(EngineFailed):
        await reap(Refusing(), tmp_path)  # type: ignore[arg-type]
    assert journal.exists()


async def test_a_run_with_whole_cores(lab: Lab) -> None:
    from dataclasses import replace

    from runner.sandbox import DockerSandbox

    policy = replace(lab.policy, cpu_mode="cpuset")
    sandbox = DockerSandbox(lab.client, policy, lab.journal)
    image = lab.python("import os; print(sorted(os.sched_getaffinity(0)), end='')")
    made = await asyncio.gather(
        *(lab.run(image, Limits(time_seconds=60), sandbox=sandbox) for _ in range(2))
    )
    cores = [attempt.reply.output for attempt in made]
    assert cores == ["[0]", "[1]"] or lab.client.info.cpus < 2
