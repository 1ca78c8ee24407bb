"""Ignores and blocks every signal that can be ignored, in a whole family."""
import os
import signal
import time

for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    try:
        signal.signal(number, signal.SIG_IGN)
    except OSError:
        continue
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
for _ in range(4):
    if os.fork() == 0:
        os.setsid()
while True:
    time.sleep(60)
