"""The set-up, what it makes, and the system call filter, on a real engine."""

from __future__ import annotations

import ast
import asyncio
import io
import json
import tarfile
import time
from collections.abc import Iterator
from typing import Any

import pytest
from docker.types import Mount

from runner.assets import asset
from runner.domain.mounts import SHIM_DIRECTORY
from runner.domain.shim import SHIM_ARGV, SHIM_ENVIRONMENT, shim_environment
from runner.engine import EngineClient, locate_engine
from runner.errors import NotSetUp
from runner.images import shim as shim_module
from runner.images.setup import SetUp, find_set_up, set_up

pytestmark = pytest.mark.docker

INTERPRETER = list(SHIM_ARGV[:-1])


def quiet(_line: str) -> None:
    pass


@pytest.fixture(scope="module")
def client() -> Iterator[EngineClient]:
    with EngineClient(locate_engine()) as client:
        yield client


@pytest.fixture(scope="module")
def made(client: EngineClient) -> SetUp:
    return asyncio.run(set_up(client, quiet))


def run(
    client: EngineClient, image: str, entrypoint: list[str], **settings: Any
) -> tuple[str, str]:
    """stdout and stderr of a container's whole life."""
    options = {k: settings.pop(k) for k in ("environment", "user") if k in settings}

    def life(api: Any) -> tuple[str, str]:
        container = api.create_container(
            image,
            entrypoint=entrypoint,
            network_disabled=True,
            host_config=api.create_host_config(**settings),
            **options,
        )["Id"]
        try:
            api.start(container)
            api.wait(container)
            out = api.logs(container, stdout=True, stderr=False)
            err = api.logs(container, stdout=False, stderr=True)
            return out.decode(), err.decode()
        finally:
            api.remove_container(container, force=True, v=True)

    return client.call_blocking("run", life)


def build(client: EngineClient, tag: str, files: dict[str, bytes]) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    buffer.seek(0)
    events = client.call_blocking(
        "build",
        lambda api: list(
            api.build(fileobj=buffer, custom_context=True, tag=tag, rm=True, decode=True)
        ),
    )
    assert not [event for event in events if "error" in event], events


def remove_images(client: EngineClient, *tags: str) -> None:
    for tag in tags:
        client.call_blocking("rmi", lambda api, tag=tag: api.remove_image(tag, force=True))


# -- what set-up makes --------------------------------------------------------------------------


async def test_a_second_set_up_finds_all_and_says_nothing(
    client: EngineClient, made: SetUp
) -> None:
    said: list[str] = []
    start = time.monotonic()
    assert await set_up(client, said.append) == made
    assert time.monotonic() - start < 0.5
    assert said == []
    assert await find_set_up(client) == made


async def test_what_was_not_set_up_is_an_error_that_says_so(client: EngineClient) -> None:
    with pytest.raises(NotSetUp) as caught:
        await find_set_up(client, base_reference="nobody/made:this")
    assert "agenttrace setup" in caught.value.remedy


@pytest.mark.slow
async def test_two_set_ups_at_once_end_with_the_same(client: EngineClient, made: SetUp) -> None:
    reference = "agenttrace-test/upstream:1"
    client.call_blocking(
        "tag", lambda api: api.tag(made.base_image_id, "agenttrace-test/upstream", "1")
    )
    try:
        first, second = await asyncio.gather(
            set_up(client, quiet, base_reference=reference),
            set_up(client, quiet, base_reference=reference),
        )
        assert first == second
        assert first.base_image_id != made.base_image_id
        assert first.shim_volume != made.shim_volume
        shim_tags = client.call_blocking(
            "tags", lambda api: api.inspect_image(first.shim_image_id)["RepoTags"]
        )
        client.call_blocking("rm volume", lambda api: api.remove_volume(first.shim_volume))
        client.call_blocking(
            "tag", lambda api: api.tag(made.base_image_id, "agenttrace/python", made.python_version)
        )
        remove_images(client, *shim_tags, first.base_tag)
    finally:
        remove_images(client, reference)


def test_the_base_image_has_what_agents_expect(client: EngineClient, made: SetUp) -> None:
    script = (
        "id -un; for p in python python3 awk sed; do command -v $p; done; echo $HOME; ls -d ~;"
        " python3 -c 'import ssl, sqlite3, venv; print(len(ssl.create_default_context()"
        ".get_ca_certs()) > 50)'; find / -xdev -perm /6000 -type f 2>/dev/null"
    )
    out, err = run(client, made.base_image_id, ["sh", "-c", script], user="agent")
    assert err == ""
    assert out.split() == [
        "agent",
        *("/usr/local/bin/python", "/usr/bin/python3", "/usr/bin/awk", "/usr/bin/sed"),
        *("/tmp", "/tmp", "True"),
    ]


def test_set_up_leaves_no_container_and_no_dangling_image(
    client: EngineClient, made: SetUp
) -> None:
    def leftovers(api: Any) -> list[object]:
        named = {"name": shim_module.CONTAINER_PREFIX}
        stages = {"dangling": True, "label": "agenttrace.leftover"}
        return [*api.containers(all=True, filters=named), *api.images(filters=stages)]

    assert client.call_blocking("list", leftovers) == []


# -- the shim's volume --------------------------------------------------------------------------


@pytest.fixture
def other_digest(client: EngineClient, made: SetUp) -> Iterator[str]:
    """The shim's image under another name, so that its volume is ours to damage."""
    digest = "0123456789ab"
    image = made.shim_image_id
    client.call_blocking("tag", lambda api: api.tag(image, shim_module.REPOSITORY, digest))
    yield digest

    def clean(api: Any) -> None:
        for tag in api.inspect_image(image)["RepoTags"]:
            if f":{digest}" in tag:
                api.remove_image(tag)
        api.remove_volume(f"{shim_module.VOLUME_PREFIX}{digest}", force=True)

    client.call_blocking("clean", clean)


def damage(client: EngineClient, made: SetUp, volume: str, command: str) -> None:
    run(
        client,
        made.base_image_id,
        ["sh", "-c", command],
        mounts=[Mount("/v", volume, type="volume", no_copy=True)],
    )


@pytest.mark.parametrize(
    "command", ["rm /v/lib/libc.so.6", "echo x >> /v/shim.pyc", "rm -r /v/*", "touch /v/more"]
)
@pytest.mark.slow
def test_a_volume_that_is_not_whole_is_filled_again(
    client: EngineClient, made: SetUp, other_digest: str, command: str
) -> None:
    make = lambda api: shim_module._make_volume(api, other_digest)  # noqa: E731
    find = lambda api: shim_module._find(api, other_digest)  # noqa: E731
    filled = client.call_blocking("make", make)
    whole = client.call_blocking("read", lambda api: tree_of(api, made, filled.volume))

    # as if the engine had been killed while it filled the volume, before it was known as whole
    volume = client.call_blocking("inspect", lambda api: api.inspect_volume(filled.volume))
    remove_images(
        client, f"{shim_module.REPOSITORY}:{shim_module._whole_tag(other_digest, volume)}"
    )
    damage(client, made, filled.volume, command)
    assert client.call_blocking("find", find) is None
    assert client.call_blocking("read", lambda api: tree_of(api, made, filled.volume)) != whole

    client.call_blocking("make", make)
    assert client.call_blocking("find", find) == filled
    assert client.call_blocking("read", lambda api: tree_of(api, made, filled.volume)) == whole


def tree_of(api: Any, made: SetUp, volume: str) -> object:
    mount = Mount(SHIM_DIRECTORY, volume, type="volume", no_copy=True)
    image = api.inspect_image(made.shim_image_id)["RepoTags"][0]
    with shim_module._created(api, "test", image, mount) as container:
        return shim_module._tree(api, container)


def test_a_removed_volume_is_missed(client: EngineClient, made: SetUp, other_digest: str) -> None:
    find = lambda api: shim_module._find(api, other_digest)  # noqa: E731
    filled = client.call_blocking("make", lambda api: shim_module._make_volume(api, other_digest))
    client.call_blocking("rm", lambda api: api.remove_volume(filled.volume))
    assert client.call_blocking("find", find) is None
    time.sleep(1.1)  # the engine tells a volume's time of creation in whole seconds
    client.call_blocking("create", lambda api: api.create_volume(filled.volume))
    assert client.call_blocking("find", find) is None, "an empty volume passes for the filled one"


# -- the shim's own interpreter in a hostile image ----------------------------------------------

HOSTILE_MODULE = b"import os\nos.write(1, b'HOSTILE')\n"
HOSTILE = "agenttrace-test/hostile:1"


@pytest.fixture(scope="module")
def hostile(client: EngineClient, made: SetUp) -> Iterator[str]:
    python = f"python{made.python_version}"
    archive = f"{python.replace('.', '')}.zip"
    dockerfile = (
        f"FROM {made.base_tag}\nCOPY files /\n"
        "ENV LD_PRELOAD=/bogus-env.so LD_AUDIT=/bogus-audit.so LD_DEBUG=all PYTHONPATH=/evil"
        " PYTHONSTARTUP=/evil/os.py PYTHONHOME=/evil GLIBC_TUNABLES=glibc.rtld.nns=0 LD_BIND_NOW=1"
        " LC_ALL=xx_XX LANG=xx_XX LOCPATH=/evil TZ=Evil/Zone\n"
    )
    files = {"Dockerfile": dockerfile.encode(), "files/etc/ld.so.preload": b"/bogus-file.so\n"}
    for directory in ("opt", "evil", "opt/lib", "evil/lib", "lib", "usr/lib"):
        files[f"files/{directory}/{archive}"] = b"no archive"
        files[f"files/{directory}/{python}/encodings/__init__.py"] = HOSTILE_MODULE
    files["files/evil/os.py"] = files["files/opt/pyvenv.cfg"] = HOSTILE_MODULE
    del files[f"files/lib/{archive}"]  # /lib is a link to usr/lib
    del files[f"files/lib/{python}/encodings/__init__.py"]
    del files[f"files/usr/lib/{python}/encodings/__init__.py"]
    build(client, HOSTILE, files)
    yield HOSTILE
    remove_images(client, HOSTILE)


def shim_mount(made: SetUp) -> Mount:
    return Mount(SHIM_DIRECTORY, made.shim_volume, type="volume", read_only=True, no_copy=True)


def test_nothing_of_the_image_reaches_the_shims_interpreter(
    client: EngineClient, made: SetUp, hostile: str
) -> None:
    script = (
        "import _json, _signal, _socket, errno, fcntl, os, select, stat, struct, sys, time\n"
        "time.localtime()\n"
        "maps = {l.split()[5] for l in open('/proc/self/maps') if '/' in l}\n"
        "print([sys.prefix, sys.path, sorted(os.environ), sorted(maps)])\n"
    )
    config = client.call_blocking("inspect", lambda api: api.inspect_image(hostile)["Config"])
    out, err = run(
        client,
        hostile,
        [*INTERPRETER, "-c", script],
        environment=shim_environment(config["Env"]),
        mounts=[shim_mount(made)],
    )
    assert err == ""
    prefix, path, environment, maps = ast.literal_eval(out)
    assert prefix == SHIM_DIRECTORY
    assert all(place.startswith(f"{SHIM_DIRECTORY}/") for place in [*path, *maps])
    ours = {variable.partition("=")[0] for variable in SHIM_ENVIRONMENT}
    assert ours <= set(environment) <= ours | {"HOSTNAME", "HOME"}


def test_the_hostile_image_would_bite_an_ordinary_interpreter(
    client: EngineClient, made: SetUp, hostile: str
) -> None:
    _, err = run(client, hostile, ["/usr/bin/true"], environment=shim_environment(["LD_DEBUG=all"]))
    assert "bogus-file.so" in err
    assert "bogus-env.so" in err


def test_the_interpreter_runs_where_there_is_nothing_else(
    client: EngineClient, made: SetUp
) -> None:
    build(
        client, "agenttrace-test/nothing:1", {"Dockerfile": b"FROM scratch\nCOPY x /x\n", "x": b""}
    )
    try:
        out, err = run(
            client,
            "agenttrace-test/nothing:1",
            [*INTERPRETER, "-c", "import _json, _socket, sys; print(sys.argv)"],
            environment=list(SHIM_ENVIRONMENT),
            mounts=[shim_mount(made)],
            read_only=True,
        )
    finally:
        remove_images(client, "agenttrace-test/nothing:1")
    assert (out, err) == ("['-c']\n", "")


# -- the system call filter ---------------------------------------------------------------------

DENIED_PROBE = r"""
import ctypes, errno, json, os, platform
libc = ctypes.CDLL(None, use_errno=True)
X86 = platform.machine() == "x86_64"
def call(x86, arm, *args):
    ctypes.set_errno(0)
    number = x86 if X86 else arm
    values = [ctypes.c_long(a) for a in args] + [ctypes.c_long(0)] * (6 - len(args))
    result = libc.syscall(ctypes.c_long(number), *values)
    return errno.errorcode.get(ctypes.get_errno(), "") if result == -1 else "allowed"
here = os.getpid()
answers = {
    "io_uring_setup": call(425, 425, 1, 0), "io_uring_enter": call(426, 426, -1),
    "io_uring_register": call(427, 427, -1), "ptrace": call(101, 117, 0),
    "process_vm_readv": call(310, 270, here), "process_vm_writev": call(311, 271, here),
    "userfaultfd": call(323, 282, 0), "bpf": call(321, 280, 0), "keyctl": call(250, 219, 0),
    "add_key": call(248, 217), "request_key": call(249, 218),
    "perf_event_open": call(298, 241), "mount": call(165, 40), "umount2": call(166, 39),
    "open_tree": call(428, 428), "move_mount": call(429, 429), "fsopen": call(430, 430),
    "mount_setattr": call(442, 442), "pivot_root": call(155, 41), "chroot": call(161, 51),
    "pidfd_getfd": call(438, 438), "kcmp": call(312, 272), "setns": call(308, 268, -1, 0),
    "unshare": call(272, 97, 0x10000000), "unshare_time": call(272, 97, 0x80),
    "kexec_load": call(246, 104), "init_module": call(175, 105), "finit_module": call(313, 273),
    "open_by_handle_at": call(304, 265), "swapon": call(167, 224), "reboot": call(169, 142),
    "fanotify_init": call(300, 262), "memfd_secret": call(447, 447),
    "personality_aslr": call(135, 92, 0x40000),
    "AF_VSOCK": call(41, 198, 40, 1, 0), "AF_ALG": call(41, 198, 38, 5, 0),
    "AF_PACKET": call(41, 198, 17, 3, 0), "AF_TIPC": call(41, 198, 30, 1, 0),
    "AF_VSOCK_high_bits": call(41, 198, 40 | 1 << 32, 1, 0),
    "AF_INET_high_bits": call(41, 198, 2 | 1 << 32, 1, 0),
    "AF_NETLINK_audit": call(41, 198, 16, 3, 9), "AF_NETLINK_xfrm": call(41, 198, 16, 3, 6),
    "SCTP": call(41, 198, 2, 1, 132), "socketpair_AF_TIPC": call(53, 199, 30, 1, 0),
}
for name, flag in {"NEWUSER": 0x10000000, "NEWNS": 0x20000, "NEWPID": 0x20000000,
                   "NEWNET": 0x40000000, "NEWIPC": 0x8000000, "NEWUTS": 0x4000000,
                   "NEWCGROUP": 0x2000000}.items():
    answers["clone_" + name] = call(56, 220, flag | 17)
    if answers["clone_" + name] == "allowed" and os.getpid() != here: os._exit(0)
print(json.dumps({"denied": answers, "clone3": call(435, 435, 0, 0)}))
"""

WORKS_PROBE = r"""
import asyncio, concurrent.futures, ctypes, mmap, multiprocessing, os, select, shutil, signal
import socket, subprocess, sys, tempfile, threading, time
def double(n): return 2 * n
async def main():
    process = await asyncio.create_subprocess_exec("sh", "-c", "echo $((6*7)) | sed s/4/x/",
                                                   stdout=subprocess.PIPE)
    assert (await process.communicate())[0] == b"x2\n"
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    assert await reader.read() == b""
    writer.close(); server.close()
if __name__ == "__main__":
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(double, range(100))) == 9900
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(double, [1, 2]) == [2, 4]
    asyncio.run(main())
    os.close(os.eventfd(0)); os.close(os.memfd_create("x")); os.close(os.pidfd_open(os.getpid()))
    epoll = select.epoll(); epoll.close()
    a, b = socket.socketpair(); a.close(); b.close()
    for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            socket.socket(family, kind).close()
    socket.if_nameindex(); socket.getaddrinfo("127.0.0.1", 80)
    libc = ctypes.CDLL(None, use_errno=True)
    for number in (332, 439, 437, 436, 334, 324) if os.uname().machine == "x86_64" else (291,):
        # statx, faccessat2, openat2, close_range, rseq, membarrier: refused for their arguments,
        # if at all, and not by the filter
        assert libc.syscall(number, -1, 0, 0, 0, 0, 0) != -1 or ctypes.get_errno() != 1, number
    with tempfile.TemporaryDirectory() as d:
        os.mkfifo(d + "/fifo"); open(d + "/f", "w").write("x" * 100_000)
        shutil.copytree(d, d + "2", ignore=shutil.ignore_patterns("fifo")); os.sync()
    signal.setitimer(signal.ITIMER_REAL, 0); os.nice(1); os.getrandom(8)
    print("works")
"""


def confined(client: EngineClient, image: str, script: str, **more: Any) -> tuple[str, str]:
    profile = asset("config/seccomp.json").read_text("utf-8")
    return run(
        client,
        image,
        ["python3", "-c", script],
        user="10001:10001",
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true", f"seccomp={json.dumps(json.loads(profile))}"],
        tmpfs={"/tmp": "size=16m,mode=1777"},
        read_only=True,
        **more,
    )


def test_the_filter_denies_what_no_agent_needs(client: EngineClient, made: SetUp) -> None:
    out, err = confined(client, made.base_image_id, DENIED_PROBE)
    assert err == ""
    answers = json.loads(out)
    not_denied = {name: got for name, got in answers["denied"].items() if got != "EPERM"}
    assert not_denied == {}
    assert answers["clone3"] == "ENOSYS"


def test_the_filter_lets_ordinary_programs_work(client: EngineClient, made: SetUp) -> None:
    script = f"source = {WORKS_PROBE!r}\nopen('/tmp/p.py', 'w').write(source)\n"
    script += "import os; os.execlp('python3', 'python3', '/tmp/p.py')"
    assert confined(client, made.base_image_id, script) == ("works\n", "")
