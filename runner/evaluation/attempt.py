"""One attempt: a fresh container, one question, figures read before anything is believed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from runner.domain import Attempt, EndingKind, Image, Limits, Measurement, Prompt
from runner.evaluation.stages import Stopwatch
from runner.ports import Conversation, GatewayAccess, Sandbox, Session, Transport


@dataclass(frozen=True, kw_only=True)
class SandboxedAgent:
    """Implements ports.Agent: an image, in a fresh container each time."""

    image: Image
    sandbox: Sandbox
    transport: Transport

    async def attempt(
        self,
        prompt: Prompt,
        config: Mapping[str, object],
        limits: Limits,
        artifacts: Path,
        access: GatewayAccess | None = None,
    ) -> Attempt:
        """See ports.Agent."""
        return await attempt(
            prompt, config, self.image, limits, self.sandbox, self.transport, artifacts, access
        )


async def attempt(  # noqa: PLR0917 - the story names each of its parts
    prompt: Prompt,
    config: Mapping[str, object],
    image: Image,
    limits: Limits,
    sandbox: Sandbox,
    transport: Transport,
    artifacts: Path,
    access: GatewayAccess | None = None,
) -> Attempt:
    """One container's whole life, without judgement.

    `artifacts` is an empty directory for what the agent leaves. Raises InfrastructureError when
    our side failed; whatever the agent does is in the value.
    """
    watch = Stopwatch()
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(sandbox.session(image, limits, watch))
        with watch.stage("hello"):
            opening = transport.open(session, image, limits, access)
            conversation = await stack.enter_async_context(opening)
            await session.baseline(await _shim_files(session, conversation))
        with watch.stage("ask"):
            ending = await conversation.ask(prompt, config)
        with watch.stage("measure"):
            measurement = await _measure_and_kill(session, conversation)
        with watch.stage("stop"):
            ended = ending.kind is EndingKind.SANDBOX_ENDED
            dead = ended or await conversation.stop()
        with watch.stage("collect"):
            collected = await conversation.collect(artifacts) if dead and not ended else ()
        container_end = await session.postmortem() if ended else None
        reply, facts = conversation.reply(), session.facts
        facts = facts.model_copy(update={"applied": facts.applied | dict(conversation.facts)})
    return Attempt(
        task_id=prompt.task_id,
        limits=limits,
        reply=reply,
        measurement=measurement,
        sandbox=facts,
        artifacts=collected,
        container_end=container_end,
        agent_confirmed_dead=dead,
        stages=watch.stages,
    )


async def _measure_and_kill(session: Session, conversation: Conversation) -> Measurement | None:
    """The figures of the frozen container; its agent never runs again."""
    files = await _shim_files(session, conversation)
    async with session.frozen():
        measurement = await session.measure(files)
        await session.kill_agent()
    return measurement


async def _shim_files(session: Session, conversation: Conversation) -> Mapping[str, str]:
    return await conversation.read_cgroup() if session.needs_shim_files else {}
