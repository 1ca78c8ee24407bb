"""Grows one sparse file beyond the limit of a file's size."""
import signal

signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # which Python ignores
with open("/tmp/sparse", "wb") as file:
    file.truncate(1 << 40)
print("42")
