"""Answers, but an hour late."""
import time

time.sleep(3600)
print("42")
