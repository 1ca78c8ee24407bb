"""One attempt on a real engine: interfaces, endings, figures, and nothing left over."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from runner.domain import (
    EndingKind,
    FunctionInterface,
    HttpInterface,
    Limits,
    StdioInterface,
)
from runner.engine import EngineClient
from runner.errors import EngineFailed, InfrastructureError
from runner.evaluation.stages import Stopwatch
from runner.evaluation.verdict import judge
from runner.images.setup import SetUp
from runner.sandbox import DockerSandbox
from tests.integration.conftest import MIB, Build, Lab, when_running
from tests.integration.outcomes import OUTCOMES, SMALL

pytestmark = pytest.mark.docker

FUNCTION = b"""
import asyncio, os, sys
def answer(prompt, config):
    print("thinking about", prompt)
    return f"{prompt} {config['seed']} {os.getcwd()}"
async def later(prompt, config):
    await asyncio.sleep(0)
    return "later " + prompt
def nothing(prompt, config):
    return None
def broken(prompt, config):
    raise ValueError(prompt)
"""

SERVER = """
import http.server, json, os, sys
class Agent(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        {action}
        body = json.dumps({{"output": request["prompt"] + str(request["config"]["seed"])}}).encode()
        self.send_response({status}); self.send_header("Content-Length", str(len(body)))
        self.end_headers(); self.wfile.write(body)
print("listening", flush=True)
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Agent).serve_forever()
"""


# -- interfaces ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def functions(build: Build, ready: SetUp) -> str:
    dockerfile = f"FROM {ready.base_tag}\nCOPY agent.py /agent/agent.py\nWORKDIR /agent\n"
    return build({"Dockerfile": dockerfile.encode(), "agent.py": FUNCTION})


@pytest.mark.parametrize(
    ("function", "kind", "output"),
    [
        ("answer", EndingKind.ANSWERED, "what? 1 /agent"),
        ("later", EndingKind.ANSWERED, "later what?"),
        ("nothing", EndingKind.CRASHED, ""),
        ("broken", EndingKind.CRASHED, ""),
        ("missing", EndingKind.CRASHED, ""),
    ],
)
async def test_a_function(
    lab: Lab, functions: str, function: str, kind: EndingKind, output: str
) -> None:
    interface = FunctionInterface(module="agent", function=function)
    made = await lab.run(lab.image(interface, functions))
    assert (made.reply.ending.kind, made.reply.output) == (kind, output)
    if function == "answer":
        assert made.reply.stdout == b"thinking about what?\n"
    if function == "broken":
        assert b"ValueError: what?" in made.reply.stderr


async def test_a_process_that_reads_and_writes_much(lab: Lab) -> None:
    source = (
        "import sys, json; text = json.load(sys.stdin)['prompt'];"
        "sys.stderr.write('e' * 300_000); print(len(text), text[-1], end='')"
    )
    made = await lab.run(lab.python(source), text="\u20ac" * 90_000 + "!")
    assert made.reply.output == "90001 !"
    assert (len(made.reply.stderr), made.reply.stderr_bytes) == (300_000, 300_000)


async def test_a_process_that_never_reads(lab: Lab) -> None:
    made = await lab.run(lab.shell("exec <&-; echo no need"), text="x" * 95_000)
    assert made.reply.output == "no need\n"


@pytest.mark.parametrize(
    ("status", "action", "kind"),
    [
        (200, "pass", EndingKind.ANSWERED),
        (500, "pass", EndingKind.CRASHED),
        (200, "os._exit(4)", EndingKind.CRASHED),
    ],
)
async def test_a_server(lab: Lab, status: int, action: str, kind: EndingKind) -> None:
    source = SERVER.format(status=status, action=action)
    command = ("python3", "-I", "-c", source)
    made = await lab.run(lab.image(HttpInterface(command=command, port=8123)))
    assert made.reply.ending.kind is kind
    assert made.agent_confirmed_dead
    if kind is EndingKind.ANSWERED:
        assert made.reply.output == "what?1"
    if "exit" in action:
        assert made.reply.ending.exit_code == 4


async def test_a_server_that_never_listens(lab: Lab) -> None:
    image = lab.image(HttpInterface(command=("sleep", "1000"), port=8123))
    made = await lab.run(image, Limits(time_seconds=0.7))
    assert made.reply.ending.kind is EndingKind.TIMED_OUT


@pytest.mark.parametrize("command", [("/nonexistent",), ("nonexistent",), ("/etc/passwd",), ("/",)])
async def test_a_command_that_cannot_be_started(lab: Lab, command: tuple[str, ...]) -> None:
    made = await lab.run(lab.image(StdioInterface(command=command)))
    assert made.reply.ending.kind is EndingKind.CRASHED
    assert made.reply.ending.exit_code == 127
    assert judge(made).reason == "agent_error"


# -- endings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OUTCOMES)
async def test_an_outcome(lab: Lab, name: str) -> None:
    outcome = OUTCOMES[name]
    made = await lab.run(lab.python(outcome.source), outcome.limits)
    verdict = judge(made)
    assert (made.reply.ending.kind, verdict.status, verdict.reason) == (
        *(outcome.kind, outcome.status, outcome.reason),
    )
    assert outcome.detail in verdict.detail
    assert made.agent_confirmed_dead
    assert made.measurement
    assert made.measurement.read_from == "host_cgroup"
    assert made.measurement.memory_peak_source in ("cgroup_peak", "sampled")
    if name == "answered":
        assert made.reply.output == "WHAT?"
    if name == "out of time":
        assert made.reply.stdout == b"thinking\n"
        assert 0.5 <= made.reply.wall_seconds < 5
    if name == "an answer too long":
        assert made.reply.output_truncated
        assert made.reply.output_bytes == made.reply.stdout_bytes == 10**6 + 1
        assert len(made.reply.output.encode()) == 1000


async def test_a_child_out_of_memory_does_not_spoil_an_answer(lab: Lab) -> None:
    source = (
        "import os\nif os.fork() == 0:\n x = []\n while True: x.append(b'x' * 2**20)\n"
        "print(os.wait()[1], end='')"
    )
    made = await lab.run(lab.python(source), SMALL)
    assert made.reply.output == "9"
    assert judge(made).status == "completed"
    assert made.measurement
    assert made.measurement.oom_kills == 1


async def test_memory_in_files_is_memory_too(lab: Lab) -> None:
    """What it fills outlives the agent that is killed for it, so the shim may be next."""
    source = (
        "import os\nwhile True:\n os.fork()\n"
        " for d in ('/tmp', '/dev/shm'):\n"
        "  with open(f'{d}/{os.getpid()}', 'wb', 0) as f: f.write(bytes(2**22))"
    )
    limits = Limits(time_seconds=60, memory_bytes=48 * MIB, pids=24)
    made = await lab.run(lab.python(source), limits)
    verdict = judge(made)
    assert (verdict.status, verdict.reason) == ("resource_exceeded", "memory_exceeded")
    assert made.measurement
    assert made.measurement.oom_kills > 0


async def test_a_daemon_does_not_outlive_the_answer(lab: Lab) -> None:
    source = (
        "import os, signal, time\n"
        "if os.fork() == 0:\n"
        " os.setsid()\n"
        " for n in range(1, 31):\n"
        "  if n not in (9, 19): signal.signal(n, signal.SIG_IGN)\n"
        " while True: time.sleep(0.01); open('/output/late', 'a').write('x')\n"
        "print('done', flush=True)"
    )
    made = await lab.run(lab.python(source), SMALL)
    assert made.reply.output == "done\n"
    assert made.agent_confirmed_dead


# -- figures ------------------------------------------------------------------------------------


async def test_the_peak_is_what_the_agent_touched(lab: Lab) -> None:
    source = (
        "b = bytearray(100 << 20)\nfor i in range(0, len(b), 4096): b[i] = 1\ndel b\nprint('ok')"
    )
    made = await lab.run(lab.python(source), Limits(time_seconds=60, memory_bytes=256 * MIB))
    assert made.measurement
    assert 100 * MIB <= made.measurement.memory_peak_bytes < 125 * MIB
    assert made.measurement.memory_baseline_bytes < 25 * MIB
    assert made.measurement.memory_working_set_bytes < 50 * MIB, "it was given back at the end"


SPIN = "import time\nwhile time.process_time() < 0.5: pass\nprint(time.process_time(), end='')"


async def test_cpu_seconds_are_those_of_the_agent(lab: Lab) -> None:
    made = await lab.run(lab.python(SPIN))
    assert made.measurement
    own = float(made.reply.output)
    assert own - 0.02 <= made.measurement.cpu_seconds <= made.reply.wall_seconds + 0.1


async def test_a_share_of_a_core_is_throttled(lab: Lab) -> None:
    made = await lab.run(lab.python(SPIN), Limits(time_seconds=60, cpus=0.5))
    assert made.measurement
    assert made.measurement.cpu_throttled_seconds > 0
    assert made.reply.wall_seconds > 0.8, "half a second of CPU takes a second at half a core"


async def test_processes_are_counted(lab: Lab) -> None:
    source = (
        "import os, time\nfor _ in range(10):\n if os.fork() == 0: time.sleep(1000)\nprint('ok')"
    )
    made = await lab.run(lab.python(source), SMALL)
    assert made.measurement
    if made.measurement.pids_peak is not None:
        assert 12 <= made.measurement.pids_peak <= 14, "the shim, the agent and ten children"
    assert made.measurement.pids_limit_hits == 0


# -- limits and isolation -----------------------------------------------------------------------


async def test_limits_are_read_back_and_hold_inside(lab: Lab) -> None:
    source = (
        "import json, os, resource, shutil\n"
        "status = dict(l.split(':', 1) for l in open('/proc/self/status'))\n"
        "print(json.dumps({'uid': os.getuid(), 'caps': status['CapEff'].strip(),"
        " 'nofile': resource.getrlimit(resource.RLIMIT_NOFILE),"
        " 'net': os.listdir('/sys/class/net'),"
        " 'tmp': shutil.disk_usage('/tmp').total, 'shm': shutil.disk_usage('/dev/shm').total,"
        " 'pid1': os.path.exists('/proc/1/root/etc'), 'fds': sorted(os.listdir('/proc/self/fd'))}))"
    )
    limits = Limits(time_seconds=60, memory_bytes=128 * MIB, cpus=0.75, pids=50, shm_bytes=8 * MIB)
    made = await lab.run(lab.python(source), limits)
    assert made.sandbox
    applied = made.sandbox.applied
    assert (applied["memory_bytes"], applied["memory_and_swap_bytes"]) == (128 * MIB, 128 * MIB)
    assert (applied["cpus"], applied["pids"], applied["shm_bytes"]) == (0.75, 50, 8 * MIB)
    assert all(applied[name] is True for name in applied if name.startswith("kernel_"))
    inside = json.loads(made.reply.output)
    assert (inside["uid"], int(inside["caps"], 16), inside["net"]) == (10_001, 0, ["lo"])
    assert (inside["nofile"], inside["shm"]) == ([1024, 1024], 8 * MIB)
    assert inside["tmp"] == limits.disk_bytes * 3 // 4
    assert not inside["pid1"], "the shim's root is not the agent's to see"
    assert inside["fds"] == ["0", "1", "2", "3", "4"], "and 4 is the directory being listed"


async def test_a_setting_that_cannot_be_applied_is_no_attempt(lab: Lab) -> None:
    with pytest.raises(EngineFailed, match=r"(create|start) container"):
        await lab.run(lab.shell("true"), Limits(memory_bytes=MIB))


# -- artifacts ----------------------------------------------------------------------------------


async def test_artifacts_of_every_kind(lab: Lab) -> None:
    source = r"""
import os, socket
os.chdir("/output")
os.makedirs("a/b"); open("a/b/plain.txt", "w").write("hello")
open(b"\xff\xfe\n\x1b[2J", "w").write("odd name")
open("h\u00e9", "w").write("accent")
open(".hidden", "w").write("dot")
os.symlink("/etc/passwd", "link"); os.mkfifo("fifo"); os.link("a/b/plain.txt", "hard")
socket.socket(socket.AF_UNIX).bind("socket")
with open("sparse", "w") as file: file.truncate(2**40) if False else None
os.mkdir("closed"); open("closed/x", "w").write("x"); os.chmod("closed", 0)
deep = "deep"
for _ in range(30): os.mkdir(deep); deep += "/d"
print("ok")
"""
    made = await lab.run(lab.python(source))
    assert judge(made).status == "completed"
    by_path = {artifact.path: artifact for artifact in made.artifacts}
    kept = {path for path, artifact in by_path.items() if not artifact.skipped}
    assert kept == {
        *("a/b/plain.txt", "%FF%FE%0A%1B%5B2J", "h%C3%A9", "%2Ehidden", "hard", "sparse"),
    }
    assert by_path["a/b/plain.txt"].sha256 == hashlib.sha256(b"hello").hexdigest()
    skipped = {path: artifact.skipped for path, artifact in by_path.items() if artifact.skipped}
    assert skipped["link"] == "a symbolic link"
    assert (skipped["fifo"], skipped["socket"]) == ("a FIFO", "a socket")
    assert skipped["closed"] == "Permission denied"
    assert "nested too deep" in skipped.values()
    on_disk = [name for _, _, names in os.walk(lab.artifacts) for name in names]
    assert len(on_disk) == len(kept)


async def test_artifacts_beyond_their_caps(lab: Lab) -> None:
    source = (
        "import os\nos.chdir('/output')\nfor n in range(8): open(f'f{n}', 'w').write('x' * 100)\n"
        "open('big', 'w').truncate(10**9)\nprint('ok')"
    )
    limits = Limits(time_seconds=60, artifact_bytes=450, artifact_files=3, disk_bytes=2048 * MIB)
    made = await lab.run(lab.python(source), limits)
    kept = [artifact for artifact in made.artifacts if not artifact.skipped]
    assert [artifact.size_bytes for artifact in kept] == [100, 100, 100]
    reasons = {artifact.skipped for artifact in made.artifacts if artifact.skipped}
    assert "more than 3 files" in reasons
    assert len(made.artifacts) == 9


# -- many at once, and cancelled ----------------------------------------------------------------


async def test_four_at_once_do_not_mix(lab: Lab) -> None:
    sandbox = lab.sandbox
    source = (
        "import json, sys; text = json.load(sys.stdin)['prompt'];"
        "open('/output/mine', 'w').write(text); open('/tmp/x', 'x'); print(text, end='')"
    )
    texts = [f"agent {number}" for number in range(4)]
    runs = [lab.run(lab.python(source), SMALL, text, sandbox) for text in texts]
    made = await asyncio.gather(*runs)
    assert [attempt.reply.output for attempt in made] == texts
    digests = {attempt.artifacts[0].sha256 for attempt in made}
    assert len(digests) == 4
    assert len({attempt.sandbox.container_id for attempt in made if attempt.sandbox}) == 4


class Interrupting:
    """An engine's client that cancels a task as a certain call begins, and again a little later."""

    def __init__(self, client: EngineClient, at: str) -> None:
        self._client = client
        self._at = at
        self._loop = asyncio.get_running_loop()
        self.victim: asyncio.Task[Any] | None = None
        self.called: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def call(
        self, what: str, function: Callable[[Any], Any], seconds: float | None = None
    ) -> Any:
        self._note(what)
        return await self._client.call(what, function, seconds)

    def call_blocking(
        self, what: str, function: Callable[[Any], Any], seconds: float | None = None
    ) -> Any:
        self._note(what)
        return self._client.call_blocking(what, function, seconds)

    def _note(self, what: str) -> None:
        self.called.append(what)
        if what == self._at and self.victim:
            for delay in (0, 0.001, 0.02):
                self._loop.call_soon_threadsafe(self._loop.call_later, delay, self.victim.cancel)
            self.victim = None


@pytest.mark.parametrize(
    "at",
    [
        *("create container", "attach to container", "start container", "inspect container"),
        "remove container",
    ],
)
async def test_an_attempt_cancelled_in_any_call_leaves_nothing(lab: Lab, at: str) -> None:
    client = Interrupting(lab.client, at)
    sandbox = DockerSandbox(client, lab.policy, lab.journal)  # type: ignore[arg-type]
    client.victim = asyncio.create_task(lab.run(lab.shell("echo hi"), sandbox=sandbox))
    victim = client.victim
    with pytest.raises(asyncio.CancelledError):
        await victim
    assert client.called[-1] == "remove container"
    assert lab.containers() == []


@pytest.mark.parametrize("milliseconds", [0, 5, 50, 120, 200, 300, 450])
@pytest.mark.slow
async def test_an_attempt_cancelled_at_any_time_leaves_nothing(lab: Lab, milliseconds: int) -> None:
    run = asyncio.create_task(lab.run(lab.shell("sleep 1000")))
    await asyncio.sleep(milliseconds / 1000)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert lab.containers() == []


async def test_a_failure_inside_a_session_leaves_nothing(lab: Lab) -> None:
    async def fail() -> None:
        async with lab.sandbox.session(lab.shell("true"), SMALL, Stopwatch()):
            assert len(lab.containers()) == 1
            raise KeyError

    with pytest.raises(KeyError):
        await fail()


# -- ended by others ----------------------------------------------------------------------------


async def test_a_container_removed_by_others_is_our_failure(lab: Lab) -> None:
    run = asyncio.create_task(lab.run(lab.shell("exec sleep 98765")))
    name = await when_running(lab, "sleep 98765")
    await lab.client.call("rm", lambda api: api.remove_container(name, force=True))
    with pytest.raises(InfrastructureError, match="removed by somebody else"):
        await run


async def test_a_container_killed_by_others_is_our_failure(lab: Lab) -> None:
    run = asyncio.create_task(lab.run(lab.shell("exec sleep 98765")))
    name = await when_running(lab, "sleep 98765")
    await lab.client.call("kill", lambda api: api.kill(name))
    made = await run
    assert made.reply.ending.kind is EndingKind.SANDBOX_ENDED
    assert made.measurement, "the figures were read at its death"
    assert made.measurement.memory_peak_bytes > MIB
    with pytest.raises(InfrastructureError, match="killed from outside"):
        judge(made)


@pytest.mark.slow
async def test_a_container_paused_by_others_is_out_of_time(lab: Lab) -> None:
    run = asyncio.create_task(lab.run(lab.shell("exec sleep 98765"), Limits(time_seconds=3)))
    name = await when_running(lab, "sleep 98765")
    await lab.client.call("pause", lambda api: api.pause(name))
    made = await run
    assert made.reply.ending.kind is EndingKind.TIMED_OUT
