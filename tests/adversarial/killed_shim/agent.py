"""Tries to kill, stop, starve or change PID 1, in every way that a system call offers."""
import ctypes
import os
import resource
import signal
import threading

libc = ctypes.CDLL(None, use_errno=True)

def attempt(what, act):
    try:
        result = act()
    except (OSError, ValueError) as error:
        print("refused:", what, error)
    else:
        if isinstance(result, int) and result < 0:
            print("refused:", what, os.strerror(ctypes.get_errno()))
        else:
            print("BREACH:", what)

def syscall(number, *arguments):
    return lambda: libc.syscall(number, *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])

def write(path, text):
    def act():
        with open(path, "w") as file:
            file.write(text)
    return act

information = (ctypes.c_char * 128)()
for number in sorted(signal.valid_signals()):
    attempt(f"kill {number}", lambda: os.kill(1, number))
    attempt(f"tgkill {number}", syscall(234, 1, 1, int(number)))
    attempt(f"tkill {number}", syscall(200, 1, int(number)))
    attempt(f"rt_sigqueueinfo {number}", syscall(129, 1, int(number), ctypes.byref(information)))
attempt("kill the group", lambda: os.killpg(1, 9))
handle = os.pidfd_open(1)
attempt("pidfd_send_signal", lambda: signal.pidfd_send_signal(handle, 9))
attempt("pidfd_getfd", syscall(438, handle, 1, 0))
attempt("process_madvise", syscall(440, handle, 0, 0, 21, 0))
attempt("process_mrelease", syscall(448, handle, 0))
for name in ("NOFILE", "AS", "CPU", "DATA", "FSIZE", "NPROC"):
    attempt(f"prlimit {name}", lambda: resource.prlimit(1, getattr(resource, "RLIMIT_" + name), (0, 0)))
attempt("oom_score_adj", write("/proc/1/oom_score_adj", "1000"))
attempt("oom_adj", write("/proc/1/oom_adj", "15"))
attempt("autogroup", write("/proc/1/autogroup", "19"))
attempt("comm", write("/proc/1/comm", "gone"))
attempt("timerslack", write("/proc/1/timerslack_ns", "1000000000"))
attempt("coredump_filter", write("/proc/1/coredump_filter", "255"))
attempt("setpriority", lambda: os.setpriority(os.PRIO_PROCESS, 1, 19))
attempt("sched_setaffinity", lambda: os.sched_setaffinity(1, {0}))
attempt("sched_setscheduler", lambda: os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0)))
attempt("ioprio_set", syscall(251, 1, 1, 3 << 13))
attempt("setpgid", lambda: os.setpgid(1, os.getpgid(0)))
attempt("migrate_pages", syscall(256, 1, 0, 0, 0))
attempt("move_pages", syscall(279, 1, 0, 0, 0, 0, 0))
attempt("kcmp", syscall(312, 1, os.getpid(), 0, 0, 0))
attempt("freeze by cgroup", write("/sys/fs/cgroup/freezer/freezer.state", "FROZEN"))
attempt("fork limit by cgroup", write("/sys/fs/cgroup/pids/pids.max", "1"))
print("still alive:", os.path.exists("/proc/1"))
