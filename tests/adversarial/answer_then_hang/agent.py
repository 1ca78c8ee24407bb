"""Writes its answer at once and then does not end: work after the deadline must not count."""
import time

print("42", flush=True)
time.sleep(3600)
