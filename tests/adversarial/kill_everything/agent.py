"""SIGKILL to all that it may kill, its own family first."""
import os
import signal
import time

for _ in range(3):
    if os.fork() == 0:
        time.sleep(60)
os.kill(-1, signal.SIGKILL)
print("42")
