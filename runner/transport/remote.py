"""Agents behind a URL: each is asked over a connection of its own, to an address checked."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import httpcore

from runner.domain import AgentEndpoint, Attempt, Ending, EndingKind, Limits, Prompt
from runner.domain.text import one_line
from runner.errors import InfrastructureError, InvalidSubmission
from runner.ports import GatewayAccess
from runner.transport.addresses import Address, loopback_alone, public_or_listed
from runner.transport.connections import (
    Forbidden,
    NotReached,
    NotTrusted,
    Outside,
    Route,
    connected,
    tls_context,
)
from runner.transport.credentials import Credentials, credentials_of
from runner.transport.endpoints import breaker_name, target_of
from runner.transport.exchange import Exchange, Stages
from runner.transport.launch import request_text
from runner.transport.patience import NotNow, Patience
from runner.transport.remote_policy import RemotePolicy
from runner.transport.replies import Answer, Heard, make_reply

__all__ = ["RemoteAgent", "RemotePolicy", "breaker_name", "reach"]

_PUBLIC = "use an address that may be reached, or have its network listed in remote.allow_addresses"
_CERTIFICATE = "serve a valid certificate for that name, or have its authority set: remote.ca_file"
_START_IT = "start the agent's server, and check the URL"


class RemoteAgent:
    """Implements ports.Agent for `endpoint_type="http"`.

    Nothing is open between attempts, so there is nothing to close. Raises InvalidSubmission when
    the endpoint may not be asked as it stands, InvalidConfiguration for a `ca_file` that is none.
    """

    def __init__(
        self, endpoint: AgentEndpoint, policy: RemotePolicy, outside: Outside | None = None
    ) -> None:
        self._policy = policy
        self._credentials = credentials_of(endpoint, policy)
        self._route = _route(endpoint, self._credentials, policy, outside or Outside())

    async def attempt(
        self,
        prompt: Prompt,
        config: Mapping[str, object],
        limits: Limits,
        artifacts: Path,  # noqa: ARG002 - the port's; a remote agent leaves no files with us
        access: GatewayAccess | None = None,  # noqa: ARG002 - and has models and tools of its own
    ) -> Attempt:
        """See ports.Agent."""
        stages = Stages()
        exchange = Exchange(
            route=self._route,
            credentials=self._credentials,
            content=_content(prompt, config, limits),
            limits=limits,
            connect_seconds=self._policy.connect_seconds,
            stages=stages,
        )
        patience = self._patience(stages)
        answer = await _answer(exchange, patience)
        reply = make_reply(answer, Heard(caps={}), limits.output_bytes, exchange.wall_seconds)
        waited = {"provider_wait_seconds": patience.waited_seconds}
        return Attempt(
            task_id=prompt.task_id,
            limits=limits,
            reply=reply.model_copy(update=waited),
            stages=stages.ended,
        )

    def _patience(self, stages: Stages) -> Patience:
        async def wait(seconds: float) -> None:
            with stages.stage("wait"):
                await self._route.outside.sleep(seconds)

        return Patience(self._policy.retries, self._policy.max_wait_seconds, wait)


async def _answer(exchange: Exchange, patience: Patience) -> Answer:
    """What the agent answered, or why it was not heard."""
    try:
        return await patience.until_heard(exchange.ask)
    except (NotReached, NotNow) as error:
        detail = f"{error} (tries: {patience.tries}, in {patience.waited_seconds:.1f} s)"
        return Answer(Ending(kind=EndingKind.UNREACHABLE, detail=detail))
    except Forbidden as error:
        return Answer(Ending(kind=EndingKind.PROTOCOL_BROKEN, detail=str(error)))


def _content(prompt: Prompt, config: Mapping[str, object], limits: Limits) -> bytes:
    length = len(prompt.text.encode("utf-8", "surrogatepass"))
    if length > limits.input_bytes:
        raise InfrastructureError(
            f"{prompt.task_id}: a prompt of {length} bytes, {limits.input_bytes} are allowed",
            remedy="raise limits.input_bytes, or shorten the task",
        )
    return request_text(prompt, config).encode("utf-8", "surrogatepass")


async def reach(
    endpoint: AgentEndpoint, policy: RemotePolicy, outside: Outside | None = None
) -> str:
    """Connects to the endpoint and sends nothing; one line about it.

    Raises InvalidSubmission, InvalidConfiguration.
    """
    credentials = credentials_of(endpoint, policy)
    route = _route(endpoint, credentials, policy, outside or Outside())
    started = time.monotonic()
    try:
        async with connected(route, policy.connect_seconds) as stream:
            milliseconds = (time.monotonic() - started) * 1000
            security = _security(stream)
    except Forbidden as error:
        raise InvalidSubmission(f"agent_endpoint.url: {error}", remedy=_PUBLIC) from error
    except NotTrusted as error:
        raise InvalidSubmission(f"agent_endpoint.url: {error}", remedy=_CERTIFICATE) from error
    except NotReached as error:
        raise InvalidSubmission(f"agent_endpoint.url: {error}", remedy=_START_IT) from error
    return f"reached {route.target.place} in {milliseconds:.0f} ms, {security}"


def _security(stream: httpcore.AsyncNetworkStream) -> str:
    secured = stream.get_extra_info("ssl_object")
    if secured is None:
        return "without TLS"
    return one_line(f"certificate valid until {secured.getpeercert()['notAfter']}")


def _route(
    endpoint: AgentEndpoint, credentials: Credentials, policy: RemotePolicy, outside: Outside
) -> Route:
    """How the endpoint is connected to; raises InvalidSubmission, InvalidConfiguration."""
    target = target_of(endpoint)
    allowed = public_or_listed(policy.allow_addresses)
    if target.scheme == "https":
        tls = tls_context(policy.ca_file)
        return Route(target=target, rules=(allowed,), tls=tls, outside=outside)
    if not policy.allow_plain_http:
        raise InvalidSubmission(
            f"agent_endpoint.url: {target.origin} is not encrypted",
            remedy="serve https://, or have remote.allow_plain_http set",
        )
    rules = (allowed, _secrets_stay_here) if credentials else (allowed,)
    return Route(target=target, rules=rules, tls=None, outside=outside)


def _secrets_stay_here(address: Address) -> str:
    """A Rule for plain http with credentials."""
    objection = loopback_alone(address)
    return objection and f"{objection}, and credentials are sent beyond it over https:// alone"
