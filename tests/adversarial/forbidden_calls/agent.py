"""System calls that an agent needs for nothing good."""
import ctypes
import os
import time

libc = ctypes.CDLL(None, use_errno=True)

def attempt(what, number, *arguments):
    values = [ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a) for a in arguments]
    ctypes.set_errno(0)
    if libc.syscall(ctypes.c_long(number), *values) >= 0:
        print("BREACH:", what)
    else:
        print("refused:", what, os.strerror(ctypes.get_errno()))

NEWNS, NEWUSER, NEWNET, NEWPID, NEWCGROUP = 0x20000, 0x10000000, 0x40000000, 0x20000000, 0x2000000
for name, flag in {"mount": NEWNS, "user": NEWUSER, "network": NEWNET, "pid": NEWPID, "cgroup": NEWCGROUP}.items():
    attempt(f"unshare {name}", 272, flag)
    attempt(f"clone {name}", 56, flag | 17, 0, 0, 0, 0)
space = os.open("/proc/self/ns/user", os.O_RDONLY)
attempt("setns", 308, space, 0)
attempt("mount", 165, b"none", b"/tmp", b"tmpfs", 0, b"")
attempt("umount", 166, b"/sys/fs/cgroup", 2)
attempt("pivot_root", 155, b"/tmp", b"/tmp")
attempt("chroot", 161, b"/tmp")
attempt("open_tree", 428, -100, b"/", 1)
attempt("fsopen", 430, b"tmpfs", 0)
attempt("mount_setattr", 442, -100, b"/", 0, 0, 0)
attempt("mknod device", 133, b"/tmp/device", 0o60666, 0x0801)
attempt("bpf", 321, 0, 0, 0)
attempt("perf_event_open", 298, 0, 0, -1, -1, 0)
attempt("userfaultfd", 323, 0)
attempt("io_uring_setup", 425, 8, b"\0" * 128)
attempt("keyctl", 250, 0, -3, 1)
attempt("add_key", 248, b"user", b"x", b"y", 1, -3)
attempt("request_key", 249, b"user", b"x", 0, 0)
attempt("kexec_load", 246, 0, 0, 0, 0)
attempt("init_module", 175, b"", 0, b"")
attempt("finit_module", 313, 0, b"", 0)
attempt("delete_module", 176, b"x", 0)
attempt("reboot", 169, 0xFEE1DEAD, 672274793, 0x1234567, 0)
attempt("swapon", 167, b"/tmp/x", 0)
attempt("syslog", 103, 3, 0, 0)
attempt("settimeofday", 164, b"\0" * 16, 0)
attempt("clock_settime", 227, 0, b"\0" * 16)
attempt("adjtimex", 159, b"\1" + b"\0" * 256)
attempt("sethostname", 170, b"evil", 4)
attempt("setdomainname", 171, b"evil", 4)
attempt("iopl", 172, 3)
attempt("ioperm", 173, 0, 1, 1)
attempt("acct", 163, b"/tmp/acct")
attempt("quotactl", 179, 0, 0, 0, 0)
attempt("name_to_handle_at", 303, -100, b"/", b"\0" * 64, b"\0" * 8, 0)
attempt("open_by_handle_at", 304, -100, b"\0" * 64, 0)
attempt("fanotify_init", 300, 0, 0)
attempt("lookup_dcookie", 212, 0, 0, 0)
attempt("vhangup", 153)
attempt("setuid 0", 105, 0)
attempt("setgid 0", 106, 0)
attempt("setresuid", 117, 0, 0, 0)
attempt("setgroups", 116, 1, b"\0" * 8)
attempt("memfd_secret", 447, 0)
for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches", "/proc/sys/kernel/hostname", "/sys/kernel/uevent_helper", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/cgroup.procs", "/proc/self/uid_map", "/sys/power/state"):
    try:
        with open(path, "w") as file:
            file.write("1")
        print("BREACH: wrote", path)
    except OSError as error:
        print("refused:", path, error.strerror)
try:
    os.mkdir("/sys/fs/cgroup/memory/own")
    print("BREACH: a cgroup of its own")
except OSError as error:
    print("refused: a cgroup of its own", error.strerror)
status = open("/proc/self/status").read()
print("privileges:", [line for line in status.splitlines() if line.startswith(("CapEff", "CapPrm", "NoNewPrivs"))])
