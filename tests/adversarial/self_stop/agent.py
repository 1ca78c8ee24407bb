"""Stops itself with SIGSTOP, and its child too."""
import os
import signal

os.fork()
os.kill(os.getpid(), signal.SIGSTOP)
print("42")
