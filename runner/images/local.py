"""A Python submission's context: its code, its wheels, and a Dockerfile of ours."""

from __future__ import annotations

import json
from pathlib import Path

from runner.domain.submission import AgentEndpoint
from runner.domain.text import one_line
from runner.errors import BuildFailed, InvalidSubmission
from runner.images.context import Context
from runner.images.ignore import IgnoreRules, read_ignore_lines
from runner.images.requirements import (
    MAX_BYTES,
    REQUIREMENTS_NAME,
    PinnedLine,
    parse_requirements,
    render_requirements,
)

RECIPE = "local-1"
"""Changes with the Dockerfile below, so that images of an older recipe are not taken for it."""
AGENT_DIRECTORY = "/agent"
CODE = "agent"
WHEELS = "wheels"
MANIFEST_NAME = "submission.toml"
NEVER_SENT = (
    *(".git", ".hg", ".svn", ".venv", "venv", "**/__pycache__", "**/*.pyc"),
    *(".mypy_cache", ".pytest_cache", ".ruff_cache"),
)


def source_directory(endpoint: AgentEndpoint) -> Path:
    """Where the submission's files are; raises InvalidSubmission if it says nowhere."""
    if endpoint.source is None or not endpoint.source.is_dir():
        raise InvalidSubmission(
            f"agent_endpoint.source = {one_line(str(endpoint.source))} is not a directory",
            remedy="load the submission from its directory",
        )
    return endpoint.source


def add_code(context: Context, endpoint: AgentEndpoint) -> None:
    """The whole directory if it has a manifest; else nothing but the module itself.

    Beside a lone `agent.py` there may be anything (a home directory), which is not the agent's to
    read.
    """
    source = source_directory(endpoint)
    if (source / MANIFEST_NAME).exists():
        rules = IgnoreRules([*NEVER_SENT, *read_ignore_lines(source)])
        context.add_tree(source, rules, CODE)
        return
    top = (endpoint.module_path or "").partition(".")[0]
    if (source / top).is_dir():
        context.add_tree(source / top, IgnoreRules(NEVER_SENT), f"{CODE}/{top}")
    else:
        context.add_path(source, f"{top}.py", CODE)
    if (source / REQUIREMENTS_NAME).is_file():
        context.add_path(source, REQUIREMENTS_NAME, CODE)


def read_requirements(endpoint: AgentEndpoint) -> tuple[PinnedLine, ...]:
    """What the submission wants installed; raises BuildFailed."""
    path = source_directory(endpoint) / REQUIREMENTS_NAME
    shown = one_line(str(path))
    if not path.exists():
        return ()
    if path.is_symlink() or not path.is_file():
        raise BuildFailed(f"{shown} is not a regular file", remedy="put the file itself there")
    with path.open("rb") as file:
        return parse_requirements(file.read(MAX_BYTES + 1), shown)


def add_wheels(
    context: Context, lines: tuple[PinnedLine, ...], wheels: list[Path], installer: Path
) -> None:
    """The wheels and what is to be installed of them."""
    context.add_bytes(f"{WHEELS}/requirements.txt", render_requirements(lines))
    for path in dict.fromkeys((installer, *wheels)):
        context.add_own_file(f"{WHEELS}/{path.name}", path)


def dockerfile(installer: Path | None) -> bytes:
    """The build's steps; `installer` is pip's wheel when there is anything to install.

    Wheels are installed in a stage of their own, so that they themselves are not in the image, and
    by the base's own interpreter, so that markers are its and bytecode is compiled.
    """
    install = _install_stage(installer.name) if installer else []
    copied = ["COPY --from=packages /staging/ /"] if installer else []
    compiled = ["python3", "-m", "compileall", "-q", "-j", "0", AGENT_DIRECTORY]
    lines = [
        "ARG BASE_IMAGE",
        *install,
        "FROM ${BASE_IMAGE}",
        *copied,
        f"COPY --chown=0:0 {CODE}/ {AGENT_DIRECTORY}/",
        f"WORKDIR {AGENT_DIRECTORY}",
        # What does not compile is found out when it is imported, if it ever is.
        f"RUN {' '.join(compiled)} || true",
    ]
    return ("\n".join(lines) + "\n").encode()


def _install_stage(installer: str) -> list[str]:
    command = [
        *("python3", f"/{WHEELS}/{installer}/pip", "install", "--no-index"),
        *(f"--find-links=/{WHEELS}", "--only-binary=:all:", "--root=/staging"),
        *("--no-cache-dir", "--break-system-packages", "--root-user-action=ignore"),
        *("--no-input", "--progress-bar=off", "--no-warn-script-location"),
        f"--requirement=/{WHEELS}/requirements.txt",
    ]
    return [
        "FROM ${BASE_IMAGE} AS packages",
        f"COPY {WHEELS}/ /{WHEELS}/",
        f"RUN {json.dumps(command)}",
    ]
