"""What cannot be done is said in two lines, with the right exit code, and leaves nothing behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runner.records import DeterministicTaskOrdering
from runner.suites import DirectoryCatalog

from .conftest import LOCAL, MANIFEST, SESSION
from .shell import AGENTTRACE, SUITE, Outcome, Shell

pytestmark = pytest.mark.docker

USAGE, INFRASTRUCTURE = 2, 3
CONTAINER = MANIFEST + 'endpoint_type = "container"\n'


def failed(outcome: Outcome, code: int, *said: str) -> None:
    """One line says what is wrong and one what to do; nothing else but steps before it."""
    assert outcome.code == code, outcome.err
    assert outcome.out == ""
    lines = outcome.err.splitlines()
    assert [line.partition(": ")[0] for line in lines[-2:]] == ["error", "next"], outcome.err
    assert "unexpected" not in outcome.error
    for words in said:
        assert words in outcome.error + "\n" + outcome.next, outcome.err


# -- the submission --------------------------------------------------------------------------------


MANIFESTS: list[tuple[str | bytes | None, tuple[str, ...]]] = [
    (None, ("sub has no submission.toml", "agent_name = ")),
    ('agent_name = "x\n', ("sub/submission.toml: not valid TOML", "line 1")),
    (b"\xff\xfe", ("sub/submission.toml, line 1: not UTF-8",)),
    (LOCAL.replace("agent_name", "agent_nme"), ("agent_name is missing", "did you mean")),
    (LOCAL.replace('"local"', '"locl"'), ("agent_endpoint.endpoint_type: 'locl'", "local")),
    ('categories = ["reasonin"]\n' + LOCAL, ("categories[0]: 'reasonin'", "reasoning")),
    (LOCAL.replace("right", "wrong"), ("agent.py has no function 'wrong'", "it defines right")),
    (LOCAL.replace('"agent"', '"agnt"'), ("agent_endpoint.module_path = 'agnt'", "agnt.py")),
    (CONTAINER, ("exactly one of image, archive, dockerfile",)),
    (CONTAINER + 'dockerfile = "Dockerfile"\n', ("agent_endpoint.dockerfile = 'Dockerfile'",)),
    (CONTAINER + 'archive = "../image.tar"\n', ("agent_endpoint.archive", "relative path")),
]


def test_manifests_that_are_wrong(shell: Shell) -> None:
    for number, (manifest, _) in enumerate(MANIFESTS):
        shell.write(f"{number}/sub/agent.py", "def right(prompt, config):\n    return prompt\n")
        if manifest is not None:
            shell.write(f"{number}/sub/submission.toml", manifest)
    each = [("run", f"{number}/sub") for number in range(len(MANIFESTS))]
    for outcome, (_, said) in zip(shell.all(*each), MANIFESTS, strict=True):
        failed(outcome, USAGE, *said)
    assert not shell.runs


TARGETS = [
    ("nowhere", ("nowhere does not exist",)),
    ("agent.py", ("agent.py is not a directory", "agent.py:my_agent")),
    ("agent.py:", ("no function is named", "agent.py:my_agent")),
    ("agent.py:nope", ("agent.py has no function 'nope'", "it defines right, sometimes")),
    ("missing.py:right", ("missing.py does not exist",)),
    ("x" * 300, ("cannot be read: file name too long",)),
    ("https://example.com/agent", ("cannot be looked up",)),
    ("esc\x1b[31m\nape", (r"esc\x1b[31m\nape does not exist",)),
]


@pytest.mark.slow
def test_targets_that_are_wrong(shell: Shell) -> None:
    outcomes = shell.all(*(("run", target) for target, _ in TARGETS))
    for outcome, (_, said) in zip(outcomes, TARGETS, strict=True):
        failed(outcome, USAGE, *said)
    assert not shell.runs


CHOICES = [
    (("-c", "reasonin"), ("there is no category 'reasonin'", "did you mean reasoning?")),
    (("-c", "grounding"), ("suite tiny has no task of category grounding",)),
    (("-t", "alfa"), ("suite tiny has no task that fits 'alfa'", "did you mean alpha?")),
    (("--profile", "laptp"), ("there is no profile 'laptp'", "did you mean laptop?")),
]


@pytest.mark.slow
def test_choices_that_are_wrong(shell: Shell) -> None:
    run = ("run", "agent.py:right", "--suite", SUITE)
    outcomes = shell.all(*((*run, *options) for options, _ in CHOICES))
    for outcome, (_, said) in zip(outcomes, CHOICES, strict=True):
        failed(outcome, USAGE, *said)


@pytest.mark.slow
def test_a_suite_that_is_wrong(shell: Shell) -> None:
    failed(shell("run", "agent.py:right", "--suite", "nope"), USAGE, "there is no suite 'nope'")
    path = shell.directory / SUITE / "planning.toml"
    path.write_text(path.read_text().replace("expected", "expcted"))
    failed(
        shell.run("agent.py:right"),
        USAGE,
        "planning.toml', task 'gamma', field criteria.0.expected",
    )


# -- images --------------------------------------------------------------------------------------


def test_an_image_that_does_not_exist(shell: Shell) -> None:
    """Whatever the registry says, or that there is none."""
    missing = f"localhost:1/no-such/{SESSION}:1"
    failed(shell.run("--image", missing), USAGE, f"image {missing} is not on this engine")
    failed(shell.run("--image", "Upper/Case"), USAGE, "'Upper/Case' is not an image reference")
    assert not shell.runs


def test_an_archive_that_is_not_an_image(shell: Shell) -> None:
    shell.write("sub/submission.toml", CONTAINER + 'archive = "image.tar"\n')
    shell.write("sub/image.tar", "this is no archive")
    failed(shell.run("sub"), USAGE, "image.tar is not a readable archive", "docker save")
    with tarfile.open(shell.directory / "sub/image.tar", "w") as tar:
        tar.add(shell.directory / "agent.py", "agent.py")
    failed(shell.run("sub"), USAGE, "image.tar is not an image: it has no manifest.json")
    shell.write("sub/image.tar", "")
    failed(shell.run("sub"), USAGE, "image.tar is not")


def test_a_dockerfile_that_does_not_build(shell: Shell) -> None:
    shell.write("sub/submission.toml", CONTAINER + 'dockerfile = "Dockerfile"\n')
    step = f"printf 'about to fail {SESSION} \\033[31m\\n'; exit 7"
    head = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n"
    shell.write("sub/Dockerfile", f'{head}RUN {step}\nCMD ["cat"]\n')
    outcome = shell.run("sub")
    failed(outcome, USAGE, "7")
    assert f"| about to fail {SESSION} \\x1b[31m" in outcome.err
    assert "\x1b" not in outcome.err
    shell.write("sub/Dockerfile", "FRM scratch\n")
    failed(shell.run("sub"), USAGE, "Dockerfile")


# -- the engine ------------------------------------------------------------------------------------


def test_an_engine_that_does_not_answer(shell: Shell) -> None:
    nobody = shell.environment["DOCKER_HOST"] = "tcp://127.0.0.1:1"
    for outcome in shell.all(("run", "agent.py:right"), ("doctor",), ("cleanup", "--all")):
        said = f"no engine answers at {nobody} (from DOCKER_HOST)"
        failed(outcome, INFRASTRUCTURE, said, "agenttrace setup")
    assert not shell.runs


def test_a_socket_that_is_not_there(shell: Shell) -> None:
    missing = f"unix://{shell.directory}/docker.sock"
    said = f"no engine answers at {missing} (from setting engine.host)"
    failed(shell.run("agent.py:right", AGENTTRACE_ENGINE__HOST=missing), INFRASTRUCTURE, said)
    assert not shell.runs


@pytest.fixture
def forbidden_socket(shell: Shell) -> Iterator[str]:
    """An engine that others may use."""
    path = shell.directory / "engine.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        path.chmod(0)
        yield f"unix://{path}"


def test_no_permission_on_the_socket(shell: Shell, forbidden_socket: str) -> None:
    if os.geteuid() == 0:  # a user who may read everything, and write nothing
        capability = "dac_read_search"
        shell.command = (
            *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
            *(f"--inh-caps=+{capability}", f"--ambient-caps=+{capability}", AGENTTRACE),
        )
    failed(
        shell.run("agent.py:right", DOCKER_HOST=forbidden_socket),
        INFRASTRUCTURE,
        f"no permission to use the engine at {forbidden_socket}",
        "usermod -aG docker",
    )


# -- this host -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--memory", "10TiB", ("10485760 MiB of memory", "lower --memory")),
        ("--cpus", "1000", ("1000 CPUs", "lower --cpus")),
    ],
)
def test_more_than_this_host_has(
    shell: Shell, option: str, value: str, said: tuple[str, ...]
) -> None:
    failed(shell.run("agent.py:right", option, value), INFRASTRUCTURE, *said)
    assert not shell.runs
    assert not shell.tags()  # nothing was built for it


def test_too_little_free_disk(shell: Shell) -> None:
    outcome = shell.run("agent.py:right", AGENTTRACE_RUN__MIN_FREE_DISK_BYTES="9999TiB")
    failed(outcome, INFRASTRUCTURE, "are free on the disk of runs", "run.min_free_disk_bytes")
    assert not shell.runs


@dataclass(frozen=True)
class SmallDisk:
    """Runs a command whose runs go to a file system of their own, and looks at it afterwards."""

    shell: Shell
    size: str

    def __call__(self, *arguments: str, before: str = "", options: str = "") -> Outcome:
        """`before` is a shell line that is run first, in the mounted directory."""
        script = (
            f"mkdir -p disk && mount -t tmpfs -o size={self.size} none disk"
            f" && (cd disk && {before or 'true'}) || exit 99\n"
            f"{f'mount -o remount,{options} disk' if options else 'true'} || exit 98\n"
            f'{AGENTTRACE} "$@"; code=$?\n'
            f"{AGENTTRACE} runs list -o disk --json > listed.json\n"
            "(cd disk && find . -mindepth 1 | sort) > found.txt\n"
            "exit $code\n"
        )
        own = ["--mount"] if os.geteuid() == 0 else ["--mount", "--user", "--map-root-user"]
        self.shell.command = ("unshare", *own, "sh", "-c", script, "sh")
        return self.shell(*arguments, AGENTTRACE_RUN__MIN_FREE_DISK_BYTES="0")

    @property
    def found(self) -> list[str]:
        """What was left on it."""
        return (self.shell.directory / "found.txt").read_text().split()


@pytest.fixture
def small_disk(shell: Shell) -> Callable[[str], SmallDisk]:
    return lambda size: SmallDisk(shell, size)


RUN = ("run", "agent.py:right", "--suite", SUITE, "-o", "disk")


def test_a_disk_that_is_full(small_disk: Callable[[str], SmallDisk]) -> None:
    disk = small_disk("64k")
    fill = "(dd if=/dev/zero of=fill bs=1k count=99 2>/dev/null || true)"
    failed(
        disk(*RUN, before=fill), INFRASTRUCTURE, "cannot write disk/", "no space left", "--output"
    )
    assert disk.found == ["./fill"]


def test_a_disk_that_cannot_be_written_to(small_disk: Callable[[str], SmallDisk]) -> None:
    disk = small_disk("64k")
    failed(disk(*RUN, options="ro"), INFRASTRUCTURE, "cannot write disk/", "read-only", "--output")
    assert disk.found == []


def test_a_disk_that_fills_up(small_disk: Callable[[str], SmallDisk], shell: Shell) -> None:
    """What was whole before stays whole; nothing half-written is left, and nobody says done."""
    shell.write(
        "flood.py",
        f"# {SESSION}\ndef answer(prompt, config):\n"
        "    if 'beta' in prompt:\n        print('x' * 900_000)\n    return 'alpha'\n",
    )
    only = ("-c", "reasoning", "-n", "1", "--seed", seed_with(shell, "alpha", "beta"))
    disk = small_disk("512k")
    outcome = disk("run", "flood.py:answer", "--suite", SUITE, "-o", "disk", *only)
    failed(outcome, INFRASTRUCTURE, "cannot write disk/", "no space left on device", "--output")
    run = Path(disk.found[0])
    kept = {str(Path(name).relative_to(run)) for name in disk.found[1:]}
    assert "tasks/alpha/1-1/execution.json" in kept
    assert not [name for name in kept if name.startswith("tasks/beta/")]
    assert not [name for name in kept if "/." in f"/{name}"]
    assert '"completed"' not in (shell.directory / "listed.json").read_text()


def seed_with(shell: Shell, *order: str) -> str:
    """A seed that puts the suite's tasks of these names into this order."""
    tasks = DirectoryCatalog().load(str(shell.directory / SUITE)).tasks
    chosen = [task for task in tasks if task.task_id in order]
    for seed in range(1000):
        ordered = DeterministicTaskOrdering.order_tasks(chosen, seed)
        if tuple(task.task_id for task in ordered) == order:
            return str(seed)
    raise AssertionError(order)


@pytest.mark.slow
def test_where_runs_go_is_a_file(shell: Shell) -> None:
    shell.write("taken", "")
    outcome = shell.run("agent.py:right", "-o", "taken/runs")
    failed(outcome, INFRASTRUCTURE, "cannot write taken/runs: not a directory", "--output")


# -- settings ------------------------------------------------------------------------------------


SETTINGS = [
    ("limits = [", ("config.toml: not valid TOML", "correct that line")),
    ("[limits]\npidz = 1\n", ("no setting 'limits.pidz'", "did you mean limits.pids?")),
    ('[limits]\nmemory_bytes = "lots"\n', ("limits.memory_bytes = 'lots': not a size", "MiB")),
    ("[run]\nparallelism = 0\n", ("run.parallelism = 0: ", "default.toml")),
]


@pytest.mark.parametrize("command", [("run", "agent.py:right"), ("config", "show")])
@pytest.mark.slow
def test_settings_that_are_wrong(shell: Shell, command: tuple[str, ...]) -> None:
    running = []
    for number, (text, _) in enumerate(SETTINGS):
        shell.write(f"{number}/agenttrace/config.toml", text)
        config = {"XDG_CONFIG_HOME": str(shell.directory / str(number))}
        running.append(shell.start(*command, **config))
    for one, (_, said) in zip(running, SETTINGS, strict=True):
        failed(one.end(), USAGE, "agenttrace/config.toml", *said)


def test_a_variable_that_is_no_setting(shell: Shell) -> None:
    outcome = shell("config", "show", AGENTTRACE_LIMITS__PIDZ="1")
    failed(outcome, USAGE, "AGENTTRACE_LIMITS__PIDZ", "did you mean AGENTTRACE_LIMITS__PIDS?")


# -- runs that are not there, or broken ------------------------------------------------------------


def test_a_run_that_does_not_exist(shell: Shell) -> None:
    failed(shell("runs", "show", "nope"), USAGE, "there is no run 'nope'", "agenttrace runs list")
    failed(shell("trace", "show", "nope", "alpha"), USAGE, "there is no run 'nope'")
    assert shell("runs", "list").out == "No runs yet: `agenttrace run SUBMISSION` makes one.\n"


@pytest.mark.parametrize("junk", [b"", b"{", b"null", b"\xff\x00", b"[" * 100_000])
@pytest.mark.slow
def test_a_run_with_broken_files(finished: Path, shell: Shell, junk: bytes) -> None:
    """Every file broken at once: still one line for the run, which says what is wrong."""
    copy = subprocess.run(
        ["cp", "-r", str(finished / "runs"), "."], cwd=shell.directory, check=True
    )
    assert copy.returncode == 0
    [run] = shell.runs
    for path in (file for file in run.rglob("*") if file.is_file()):
        path.write_bytes(junk)
    listed = shell("runs", "list")
    assert listed.code == 0
    assert "failed" in listed.out
    assert "is damaged" in listed.out
    shown = shell("runs", "show", run.name)
    assert shown.code == 0
    for task in ("alpha", "beta", "gamma"):
        assert task in shown.out
    outcome = shell("trace", "show", run.name, "alpha")
    assert (outcome.code == 0) == (junk == b"")
    if outcome.code:
        failed(outcome, USAGE, "trace.otlp.jsonl: line 1 is not an OTLP-JSON trace")


@pytest.mark.slow
def test_a_task_that_was_not_run(finished: Path, shell: Shell) -> None:
    shell.directory = finished
    [run] = shell.runs
    said = f"run {run.name} has no such attempt at task 'delta'"
    failed(shell("trace", "show", run.name, "delta"), USAGE, said, "agenttrace runs show")
    failed(shell("runs", "show", run.name, "delta"), USAGE, said)


@pytest.mark.slow
def test_python_says_nothing_either(shell: Shell) -> None:
    """`python -m runner` is the same program."""
    shell.command = (sys.executable, "-m", "runner")
    failed(shell.run("nowhere"), USAGE, "nowhere does not exist")
