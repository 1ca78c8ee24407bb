"""What the kernel says inside the container, checked before and as the agent starts."""

from __future__ import annotations

from runner.domain.mounts import SHIM_DIRECTORY
from runner.errors import LimitNotApplied
from runner.transport.launch import AgentUser
from runner.transport.messages import Hello, identity_fields

SECCOMP_FILTER = "2"
NO_CAPABILITIES = 0
INVISIBLE = frozenset({"kernel_seccomp_filter", "kernel_loopback_only"})
"""What such a runtime does where its containers cannot see it."""
OWN_KERNEL_TIERS = ("runsc", "kata")
SHIM_CAPABILITIES = (1 << 5) | (1 << 6) | (1 << 7)
"""CAP_KILL, CAP_SETGID, CAP_SETUID."""


def check_hello(hello: Hello, tier: str) -> dict[str, str | int | float | bool]:
    """The container's isolation as facts for the record; raises LimitNotApplied.

    A runtime with a kernel of its own (`tier` runsc, kata) filters outside the container, where
    /proc/self/status cannot show it. A link in the image can lead one of its volumes, writable for
    the agent, into the shim's directory: nothing else may be mounted there.
    """
    status = identity_fields(hello.identity)
    options = {point: options.split(",") for point, _, options in hello.mounts}
    in_shim = [point for point, _, _ in hello.mounts if _is_below(point, SHIM_DIRECTORY)]
    facts: dict[str, str | int | float | bool] = {
        "kernel_no_new_privileges": status.get("NoNewPrivs") == "1",
        "kernel_seccomp_filter": status.get("Seccomp") == SECCOMP_FILTER,
        "kernel_loopback_only": set(hello.interfaces) == {"lo"},
        "kernel_root_read_only": "ro" in options.get("/", ()),
        "kernel_shim_read_only": "ro" in options.get(SHIM_DIRECTORY, ()),
        "kernel_shim_uncovered": in_shim == [SHIM_DIRECTORY],
        "kernel_shim_capabilities": _capabilities(status) == SHIM_CAPABILITIES,
    }
    invisible = INVISIBLE if tier.startswith(OWN_KERNEL_TIERS) else frozenset()
    if broken := sorted(n for n, holds in facts.items() if not holds and n not in invisible):
        raise LimitNotApplied(
            f"the container's kernel does not confirm: {', '.join(broken)}",
            remedy="run `agenttrace doctor`",
        )
    return facts


def _is_below(point: str, directory: str) -> bool:
    return point == directory or point.startswith(directory + "/")


def check_agent(identity: str, user: AgentUser) -> None:
    """The agent has given up everything; raises LimitNotApplied."""
    status = identity_fields(identity)
    wanted = {
        "Uid": " ".join([str(user.uid)] * 4),
        "Gid": " ".join([str(user.gid)] * 4),
        "Groups": "",
    }
    found = {name: status.get(name) for name in wanted}
    if found != wanted or _capabilities(status) != NO_CAPABILITIES:
        raise LimitNotApplied(
            f"the agent runs as {found!a} with capabilities {status.get('CapEff')!a}",
            remedy="run `agenttrace doctor`",
        )


def _capabilities(status: dict[str, str]) -> int:
    try:
        return int(status.get("CapEff", ""), 16)
    except ValueError:
        return -1
