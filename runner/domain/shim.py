"""How the shim is started as PID 1, so that nothing of the hostile image reaches it."""

from __future__ import annotations

from collections.abc import Iterable

from runner.domain.mounts import SHIM_DIRECTORY

SHIM_ARGV = (
    f"{SHIM_DIRECTORY}/lib/ld.so",
    "--inhibit-cache",
    "--library-path",
    f"{SHIM_DIRECTORY}/lib",
    f"{SHIM_DIRECTORY}/bin/python3",
    "-I",
    "-S",
    "-B",
    f"{SHIM_DIRECTORY}/shim.pyc",
)
"""The loader of the volume, told to ignore the image's library cache; Python, told to ignore its
environment, its user directories and `site`."""

SHIM_ENVIRONMENT = (
    "LC_ALL=C",
    "PATH=",
    "TZ=UTC0",
    f"TZDIR={SHIM_DIRECTORY}",
)
"""Without these the C library looks into the image for a locale and a time zone."""


def shim_environment(image_environment: Iterable[str]) -> list[str]:
    """The `Env` of the container, given the image's own (`NAME=value` each, hostile).

    The engine adds the image's variables to the container's, and the loader obeys LD_PRELOAD and
    LD_AUDIT before any code of ours runs; a bare name in `Env` takes the variable away.
    """
    ours = {variable.partition("=")[0] for variable in SHIM_ENVIRONMENT}
    theirs = {variable.partition("=")[0] for variable in image_environment}
    return [*SHIM_ENVIRONMENT, *sorted(theirs - ours - {""})]
