"""Waits without end inside the kernel: its child, vforked, opens a FIFO that nobody writes to."""
import os

os.mkfifo("/tmp/fifo")
opening = (os.POSIX_SPAWN_OPEN, 0, "/tmp/fifo", os.O_RDONLY, 0)
os.posix_spawn("/bin/true", ["true"], {}, file_actions=[opening])
print("42")
