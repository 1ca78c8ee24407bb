"""Keeps its answer coming, a byte a second, so that something always seems to happen."""
import sys
import time

while True:
    sys.stdout.write("4")
    sys.stdout.flush()
    time.sleep(0.5)
