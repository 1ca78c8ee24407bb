"""Answers, and leaves a daemon that holds the output open, writes to it later, and works on."""
import os
import sys
import time

if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for descriptor in (0, 3):
            try:
                os.close(descriptor)
            except OSError:
                pass
        started = time.monotonic()
        while time.monotonic() - started < 30:
            try:
                os.write(1, b"BREACH: written after the answer\n" if time.monotonic() - started > 1 else b"")
                with open("/output/late.txt", "a") as file:
                    file.write("x" if time.monotonic() - started < 1 else "BREACH")
            except OSError:
                pass
            time.sleep(0.01)
    os._exit(0)
os.wait()
sys.stdout.write("42")
