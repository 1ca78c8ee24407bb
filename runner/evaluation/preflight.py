"""Before the first task: does a stranger's image even start under our sandbox?"""

from __future__ import annotations

from contextlib import AsyncExitStack

from runner.domain import Image, Limits
from runner.errors import BuildFailed, EngineFailed, LimitNotApplied
from runner.evaluation.stages import Stopwatch
from runner.ports import Sandbox, Transport


async def greet(
    image: Image, known_good: Image, limits: Limits, sandbox: Sandbox, transport: Transport
) -> None:
    """Starts a container of `image` and waits for the shim's hello; no code of the agent's runs.

    An image can keep even that from happening (a link in place of /opt, a foreign architecture).
    Whose fault a failure is shows by `known_good`, an image of ours: where that one starts, it is
    the submission's, and BuildFailed is raised; else it is ours, and InfrastructureError.
    """
    try:
        await _hello(image, limits, sandbox, transport)
    except (EngineFailed, LimitNotApplied) as error:
        await _hello(known_good, limits, sandbox, transport)
        raise BuildFailed(
            f"image {image.reference} cannot be started in the sandbox: {error.message}",
            remedy="its /opt, /tmp, /output, /proc and /dev must be plain directories, or missing",
        ) from error


async def _hello(image: Image, limits: Limits, sandbox: Sandbox, transport: Transport) -> None:
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(sandbox.session(image, limits, Stopwatch()))
        await stack.enter_async_context(transport.open(session, image, limits))
