"""Leaves in its output directory whatever may harm the one who copies it."""
import os
import socket

os.chdir("/output")
os.symlink("/etc/passwd", "absolute-link")
os.symlink("../../../../../../etc/passwd", "relative-link")
os.symlink("nowhere", "dangling-link")
os.symlink("loop", "loop")
os.symlink("/proc/1/fd", "directory-link")
with open("good.txt", "w") as file:
    file.write("kept")
os.link("good.txt", "hard-link.txt")
for target in ("/etc/shadow", "/etc/passwd", "/opt/agenttrace/shim.py"):
    try:
        os.link(target, "stolen")
        print("BREACH: linked", target)
    except OSError as error:
        print("refused: link", target, error.strerror)
os.mkfifo("fifo")
for name, mode in (("block", 0o60666), ("character", 0o20666)):
    try:
        os.mknod(name, mode, os.makedev(8, 0))
        print("BREACH: made a device")
    except OSError as error:
        print("refused: mknod", name, error.strerror)
server = socket.socket(socket.AF_UNIX)
server.bind("socket")
with open("sparse", "wb") as file:
    file.truncate(12 << 20)
try:
    with open("terabyte", "wb") as file:
        import signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        file.truncate(1 << 40)
        print("BREACH: a sparse terabyte")
except OSError as error:
    print("refused: a sparse terabyte", error.strerror)
with open("locked", "w") as file:
    file.write("secret")
os.chmod("locked", 0)
os.mkdir("closed")
os.chmod("closed", 0)
open("with\nnewline", "w").close()
open("with \x1b[31mescape\x1b]0;title\x07", "w").close()
open(b"not utf-8 \xff\xfe", "wb").close()
open("-rf", "w").close()
open("=cmd()", "w").close()
open("..%2f..%2fetc", "w").close()
open("...", "w").close()
open(".hidden", "w").close()
open("right-to-left-\u202etxt.exe", "w").close()
open("x" * 255, "w").close()
os.mkdir("\\..\\..")
open("\\..\\../inside", "w").close()
print("42")
