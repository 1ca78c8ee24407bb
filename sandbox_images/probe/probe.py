"""What a sandbox really lets through, tried out by an agent of ours inside a throwaway one.

`agenttrace doctor` gives it as `python3 -I -c SOURCE` to a container with every setting of a real
attempt. It needs the standard library alone, reads one request (JSON on stdin, as every agent) and
prints one JSON object: what it tried and how that went, without any judgement. What is promised is
in runner/evaluation/promises.py.
"""

import ctypes
import errno
import json
import mmap
import os
import platform
import resource
import signal
import socket
import stat
import sys
import time
from pathlib import Path

MIB = 1024 * 1024
DONE = "done"
CLONE = (56, 220)
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
UFFD_USER_MODE_ONLY = 1
PTRACE_PEEKDATA = 2
ROUTES = {  # a datagram socket's connect asks for a route, and sends nothing
    "route to the engine's bridge": (socket.AF_INET, "172.17.0.1"),
    "route to metadata": (socket.AF_INET, "169.254.169.254"),
    "route to DNS": (socket.AF_INET, "8.8.8.8"),
    "route to IPv6": (socket.AF_INET6, "2001:4860:4860::8888"),
    "route to private IPv6": (socket.AF_INET6, "fd00::1"),
}
SOCKETS = {
    "AF_VSOCK": (40, socket.SOCK_STREAM, 0),
    "AF_ALG": (38, socket.SOCK_SEQPACKET, 0),
    "AF_PACKET": (17, socket.SOCK_RAW, 0),
    "raw IP": (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
}
SYSTEM_CALLS = {
    # Name: numbers on x86_64 and aarch64, and arguments that the kernel itself answers with EFAULT,
    # EBADF, EINVAL or ESRCH wherever it can be reached: a filter's EPERM looks different.
    "io_uring_setup": (425, 425, (0, 0)),
    "io_uring_enter": (426, 426, (-1, 0, 0, 0, 0, 0)),
    "ptrace": (101, 117, (PTRACE_PEEKDATA, 0, 0, 0)),
    "process_vm_readv": (310, 270, (1, 0, 0, 0, 0, 0)),
    "process_vm_writev": (311, 271, (1, 0, 0, 0, 0, 0)),
    "pidfd_getfd": (438, 438, (-1, 0, 0)),
    "userfaultfd": (323, 282, (UFFD_USER_MODE_ONLY,)),
    "bpf": (321, 280, (0, 0, 0)),
    "perf_event_open": (298, 241, (0, 0, -1, -1, 0)),
    "keyctl": (250, 219, (0, -3, 0)),
    "add_key": (248, 217, (0, 0, 0, 0, 0)),
    "request_key": (249, 218, (0, 0, 0, 0)),
    "mount": (165, 40, (0, 0, 0, 0, 0)),
    "umount2": (166, 39, (0, 0)),
    "open_tree": (428, 428, (-1, 0, 0)),
    "fsopen": (430, 430, (0, 0)),
    "open_by_handle_at": (304, 265, (-1, 0, 0)),
    "setns": (308, 268, (-1, 0)),
    "unshare(CLONE_NEWUSER)": (272, 97, (CLONE_NEWUSER,)),
    "clone(CLONE_NEWUSER)": (56, 220, (CLONE_NEWUSER | signal.SIGCHLD, 0, 0, 0, 0)),
    "clone(CLONE_NEWNS)": (56, 220, (CLONE_NEWNS | signal.SIGCHLD, 0, 0, 0, 0)),
    "clone3": (435, 435, (0, 0)),
}


def tried(action):
    """How `action` fares in a process of its own: done, its errno's name, or its death's signal."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, outcome(action).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read(100).decode()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return said or "no outcome"


def outcome(action):
    try:
        action()
    except OSError as error:
        return name_of(error)
    return DONE


def name_of(error):
    return errno.errorcode.get(error.errno, str(error))


# -- what an agent must not be able to do ---------------------------------------------------------


def trials(places):
    """Everything that is tried once, by the name that it is reported under."""
    return privileges() | writes(places) | shim() | network() | devices(places) | system_calls()


def privileges():
    return {
        "setresuid(0)": lambda: os.setresuid(0, 0, 0),
        "setresgid(0)": lambda: os.setresgid(0, 0, 0),
        "setgroups(0)": lambda: os.setgroups([0]),
    }


def writes(places):
    directories = ["/", "/etc", "/var/tmp", places["shim"]]
    files = ["/proc/sys/kernel/hostname", "/proc/sysrq-trigger", places["shim"] + "/shim.pyc"]
    made = {f"mkdir in {d}": lambda d=d: Path(d, "probe").mkdir() for d in directories}
    opened = {f"write {f}": lambda f=f: os.close(os.open(f, os.O_WRONLY)) for f in files}
    return made | opened | cgroup_writes()


def cgroup_writes():
    root = "/sys/fs/cgroup/"
    directories = [root + d for d in ("", "memory", "pids", "cpu") if Path(root, d).is_dir()]
    names = ("cgroup.procs", "memory.max", "memory/memory.limit_in_bytes", "pids/pids.max")
    files = [root + name for name in names if Path(root, name).exists()]
    made = {f"mkdir in {d}": lambda d=d: make_cgroup(d) for d in directories}
    opened = {f"write {f}": lambda f=f: os.close(os.open(f, os.O_WRONLY)) for f in files}
    return made | opened


def make_cgroup(directory):
    made = Path(directory, "probe")
    made.mkdir()
    made.rmdir()  # or the engine could not remove the container's own


def shim():
    reads = ("environ", "mem", "maps", "stack")
    links = ("exe", "cwd", "root")
    return {
        **{f"read /proc/1/{name}": lambda n=name: read_some(f"/proc/1/{n}") for name in reads},
        **{
            f"readlink /proc/1/{name}": lambda n=name: Path(f"/proc/1/{n}").readlink()
            for name in links
        },
        "list /proc/1/fd": lambda: list(Path("/proc/1/fd").iterdir()),
        "kill(1, 0)": lambda: os.kill(1, 0),
        "kill(1, SIGCONT)": lambda: os.kill(1, signal.SIGCONT),
    }


def read_some(path):
    with Path(path).open("rb", buffering=0) as file:
        file.read(1)


def network():
    routes = {name: lambda to=to: find_route(*to) for name, to in ROUTES.items()}
    sockets = {f"socket {n}": lambda s=s: socket.socket(*s).close() for n, s in SOCKETS.items()}
    return routes | sockets


def find_route(family, address):
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.connect((address, 53))


def devices(places):
    scratch = places["scratch"]
    null = os.makedev(1, 3)
    return {
        "mknod": lambda: os.mknod(f"{scratch}/null", stat.S_IFCHR | 0o600, null),
        f"execute in {scratch}": lambda: execute_in(scratch),
        f"execute in {places['output']}": lambda: execute_in(places["output"]),
        "connect /run/docker.sock": lambda: connect("/run/docker.sock"),
        "connect /var/run/docker.sock": lambda: connect("/var/run/docker.sock"),
        "connect /run/containerd/containerd.sock": lambda: connect(
            "/run/containerd/containerd.sock"
        ),
    }


def execute_in(directory):
    path = Path(directory, "script")
    path.write_text(f"#!{sys.executable} -IS\n")
    path.chmod(0o700)
    try:
        os.waitpid(os.posix_spawn(path, [str(path)], {}), 0)
    finally:
        path.unlink()


def connect(path):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)


def system_calls():
    column = {"x86_64": 0, "aarch64": 1}.get(platform.machine())
    if column is None:
        return {}
    return {
        name: lambda numbers=numbers, arguments=arguments: call(numbers[column], arguments)
        for name, (*numbers, arguments) in SYSTEM_CALLS.items()
    }


def call(number, arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) for a in arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    if result == 0 and number in CLONE:
        os._exit(0)  # we are the child


# -- what is limited ------------------------------------------------------------------------------


def filled(directory, promised):
    """How many bytes fit, in files so small that no limit on a file's size comes first."""
    written, stopped, paths, block = 0, DONE, [], b"x" * (MIB // 4)
    while written < 2 * promised and stopped == DONE:
        paths.append(Path(directory, f"fill-{len(paths)}"))
        try:
            with paths[-1].open("wb", buffering=0) as file:
                for _ in range(4):
                    written += file.write(block)
        except OSError as error:
            stopped = name_of(error)
    remove(paths)
    return {"promised": promised, "written": written, "stopped": stopped}


def crowded(directory, promised):
    """How many files fit."""
    paths, stopped = [], DONE
    while len(paths) < 2 * promised and stopped == DONE:
        path = Path(directory, f"file-{len(paths)}")
        try:
            path.touch()
            paths.append(path)
        except OSError as error:
            stopped = name_of(error)
    remove(paths)
    return {"promised": promised, "written": len(paths), "stopped": stopped}


def remove(paths):
    for path in paths:
        path.unlink(missing_ok=True)


def forked(promised):
    """How many processes there can be beside this one and the shim."""
    children, stopped = [], DONE
    reading, writing = os.pipe()
    while len(children) < 2 * promised and stopped == DONE:
        try:
            pid = os.fork()
        except OSError as error:
            stopped = name_of(error)
            break
        if pid == 0:
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
        children.append(pid)
    os.close(writing)
    for pid in children:
        os.waitpid(pid, 0)
    os.close(reading)
    return {"promised": promised, "written": len(children), "stopped": stopped}


def opened(promised):
    """How many descriptors one process can have open."""
    descriptors, stopped = [], DONE
    while len(descriptors) < 2 * promised and stopped == DONE:
        try:
            descriptors.append(os.dup(0))
        except OSError as error:
            stopped = name_of(error)
    for descriptor in descriptors:
        os.close(descriptor)
    return {"promised": promised, "written": len(descriptors), "stopped": stopped}


def touched(promised):
    """How much memory a child can touch, and the signal that stopped it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        touch(2 * promised, writing)
    os.close(writing)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(reading, "rb") as pipe:
        mebibytes = len(pipe.read())
    stopped = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else DONE
    return {"promised": promised, "written": mebibytes * MIB, "stopped": stopped}


def touch(size, report):
    try:
        memory, block = mmap.mmap(-1, size), b"x" * MIB
        for offset in range(0, size, MIB):
            memory[offset : offset + MIB] = block
            os.write(report, b"x")
    finally:
        os._exit(0)


# -- what the kernel says -------------------------------------------------------------------------


def status():
    lines = [line.partition(":") for line in read("/proc/self/status").splitlines()]
    wanted = ("Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "CapBnd")
    wanted += ("CapInh", "CapPrm", "CapEff", "CapAmb")
    return {name: " ".join(values.split()) for name, _, values in lines if name in wanted}


def read(path):
    """The text of a file; empty when there is none to be had."""
    try:
        with Path(path).open(errors="replace") as file:
            return file.read(20_000)
    except OSError:
        return ""


def flags(path):
    """Mount options of the file system at `path`."""
    try:
        found = os.statvfs(path).f_flag
    except OSError:
        return []
    names = {"ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8}
    return [name for name, bit in names.items() if found & bit]


def others():
    """Processes that can be seen beside the shim and this one."""
    ours = ("1", str(os.getpid()))
    seen = (entry.name for entry in Path("/proc").iterdir())
    return [int(name) for name in seen if name.isdecimal() and name not in ours]


def unusual_devices():
    """Block devices, and devices that no program needs."""
    usual = ("console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm")
    usual += ("stderr", "stdin", "stdout", "tty", "urandom", "zero")
    return sorted(entry.name for entry in Path("/dev").iterdir() if entry.name not in usual)


def swap():
    """Limits of the container on memory and swap together (v1) or on swap alone (v2)."""
    root = "/sys/fs/cgroup/"
    return {
        "together": read(root + "memory/memory.memsw.limit_in_bytes").strip(),
        "alone": read(root + "memory.swap.max").strip(),
        "areas": max(0, len(read("/proc/swaps").splitlines()) - 1),
    }


def rlimits():
    names = {"nofile": resource.RLIMIT_NOFILE, "core": resource.RLIMIT_CORE}
    names["fsize"] = resource.RLIMIT_FSIZE
    return {name: resource.getrlimit(number)[1] for name, number in names.items()}


# -- what is printed ------------------------------------------------------------------------------


def isolation(config):
    places, limits = config["places"], config["limits"]
    watched = ["/", "/proc/sys", "/sys", "/sys/fs/cgroup", "/dev/shm", *places.values()]
    found = {
        "status": status(),
        "tried": {name: tried(action) for name, action in trials(places).items()},
        "mounts": {path: flags(path) for path in watched},
        "filled": {path: filled(path, size) for path, size in limits["mounts"].items()},
        "files": crowded(places["scratch"], limits["disk_inodes"]),
        "processes": forked(limits["pids"]),
        "descriptors": opened(limits["open_files"]),
        "rlimits": rlimits(),
        "swap": swap(),
        "interfaces": [name for _, name in socket.if_nameindex()],
        "others": others(),
        "cgroups": [line.split(":", 2)[2] for line in read("/proc/self/cgroup").splitlines()],
        "hostname": socket.gethostname(),
        "devices": unusual_devices(),
        "uid_map": " ".join(read("/proc/self/uid_map").split()),
        "apparmor": read("/proc/self/attr/current").strip("\0\n "),
    }
    return found | {"memory": touched(limits["memory_bytes"])}  # last: it may kill more than asked


def cpus(config):
    """CPU time that several busy processes get together, and how many cores they can get at."""
    before = len(os.sched_getaffinity(0))
    widened = outcome(lambda: os.sched_setaffinity(0, range(config["cores"])))
    started = time.monotonic()
    children = [spin(started + config["seconds"]) for _ in range(config["processes"])]
    for pid in children:
        os.waitpid(pid, 0)
    return {
        "wall_seconds": time.monotonic() - started,
        "cores": before,
        "widened": widened,
        "cores_after": len(os.sched_getaffinity(0)),
    }


def spin(until):
    pid = os.fork()
    if pid == 0:
        while time.monotonic() < until:
            pass
        os._exit(0)
    return pid


def main():
    request = json.load(sys.stdin)
    chosen = {"isolation": isolation, "cpus": cpus}[request["prompt"]]
    print(json.dumps(chosen(request["config"])))


if __name__ == "__main__":
    main()
