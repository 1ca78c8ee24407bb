"""Tries to look into PID 1, and to write there."""
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)

def attempt(what, act):
    try:
        result = act()
    except OSError as error:
        print("refused:", what, error.strerror)
    else:
        failed = isinstance(result, int) and result < 0
        print("refused:" if failed else "BREACH:", what, os.strerror(ctypes.get_errno()) if failed else result)

def syscall(number, *arguments):
    return lambda: libc.syscall(number, *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])

def listing(path):
    return lambda: os.listdir(path)

def content(path, offset=0, flags=os.O_RDONLY):
    def act():
        descriptor = os.open(path, flags)
        return os.pread(descriptor, 64, offset)
    return act

class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

buffer = ctypes.create_string_buffer(64)
local = Vector(ctypes.addressof(buffer), 64)
remote = Vector(0x400000, 64)
PTRACE_ATTACH, PTRACE_SEIZE, PTRACE_TRACEME = 16, 0x4206, 0
attempt("attach", syscall(101, PTRACE_ATTACH, 1, 0, 0))
attempt("seize", syscall(101, PTRACE_SEIZE, 1, 0, 0))
attempt("trace me", syscall(101, PTRACE_TRACEME, 0, 0, 0))
attempt("process_vm_readv", syscall(310, 1, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0))
attempt("process_vm_writev", syscall(311, 1, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0))
for name in ("mem", "environ", "maps", "smaps", "auxv", "pagemap", "stack", "syscall", "io", "personality", "mountstats"):
    attempt(f"/proc/1/{name}", content(f"/proc/1/{name}", 0x400000 if name == "mem" else 0))
attempt("write /proc/1/mem", content("/proc/1/mem", flags=os.O_RDWR))
attempt("/proc/1/task/1/mem", content("/proc/1/task/1/mem", 0x400000))
for name in ("fd", "map_files"):
    attempt(f"/proc/1/{name}", listing(f"/proc/1/{name}"))
for name in ("root", "cwd", "exe"):
    attempt(f"/proc/1/{name}", lambda: os.readlink(f"/proc/1/{name}"))
for name in os.listdir("/proc/self/ns"):
    attempt(f"/proc/1/ns/{name}", lambda: os.readlink(f"/proc/1/ns/{name}"))
attempt("/proc/kcore", content("/proc/kcore"))
attempt("/dev/mem", content("/dev/mem"))
attempt("write the shim", content("/opt/agenttrace/shim.pyc", flags=os.O_RDWR))
attempt("write the loader", content("/opt/agenttrace/lib/ld.so", flags=os.O_RDWR))
attempt("replace the shim", lambda: os.rename("/opt/agenttrace/shim.pyc", "/opt/agenttrace/x"))
