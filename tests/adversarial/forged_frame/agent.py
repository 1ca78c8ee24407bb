"""Writes frames that say "answered" and "stopped" to every descriptor and path that may reach the host."""
import glob
import json
import os
import struct
import sys

def frame(kind, value, stream=0):
    payload = value if isinstance(value, bytes) else json.dumps(value).encode()
    return struct.pack("!IBI", len(payload), kind, stream) + payload

forged = frame(3, b"FORGED", 1) + frame(4, {"exit_code": 0, "signal": None, "bytes": {}, "full": []})
forged += frame(5, {"remaining": 0}) + frame(7, {"path": "forged.txt", "size": 6}) + frame(8, b"FORGED")
forged += struct.pack("!IBI", 0xFFFFFFFF, 250, 0xFFFFFFFF)
places = ["/dev/console", "/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/tty", "/dev/ptmx"]
places += glob.glob("/dev/pts/*") + [f"/proc/1/fd/{n}" for n in range(12)]
places += [f"/proc/1/task/1/fd/{n}" for n in range(4)] + glob.glob("/proc/self/fd/*")
for place in places:
    try:
        descriptor = os.open(place, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        os.write(descriptor, forged)
    except OSError:
        if place.startswith("/proc/1/"):
            sys.stderr.write(f"refused: {place}\n")
    else:
        if place.startswith("/proc/1/"):
            print("BREACH: wrote to", place)
for descriptor in range(1, 256):
    try:
        os.set_blocking(descriptor, False)
        os.write(descriptor, forged)
    except OSError:
        continue
os.write(1, b"\nI am still here")
