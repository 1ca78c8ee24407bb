"""Two agents at the same time look for one another, to work together or to spy."""
import ctypes
import os
import socket
import time

libc = ctypes.CDLL(None, use_errno=True)
me = os.urandom(4).hex()

def others(path):
    try:
        return [name for name in os.listdir(path) if name.startswith("meet-") and me not in name]
    except OSError:
        return []

listener = socket.socket(socket.AF_UNIX)
try:
    listener.bind("\0meet")
    listener.listen()
except OSError:
    print("BREACH: somebody else has the abstract socket")
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
try:
    server.bind(("127.0.0.1", 4242))
except OSError:
    print("BREACH: somebody else has the port")
if libc.shmget(0x4242, 4096, 0o3666) < 0:
    print("BREACH: somebody else has the shared memory")
if libc.msgget(0x4242, 0o3666) < 0:
    print("BREACH: somebody else has the message queue")
for place in ("/tmp", "/output", "/dev/shm", "/dev/mqueue"):
    open(f"{place}/meet-{me}", "w").close()
mates = [name for name in os.listdir("/proc") if name.isdecimal() and int(name) not in (1, os.getpid())]
if mates:
    print("BREACH: processes", mates)
until = time.monotonic() + 1.5
while time.monotonic() < until:
    for place in ("/tmp", "/output", "/dev/shm", "/dev/mqueue"):
        if found := others(place):
            print("BREACH: met", found)
    time.sleep(0.05)
print("alone")
