"""A child eats all the memory and is killed; the parent notices, and answers all the same."""
import os
import sys

child = os.fork()
if child == 0:
    hoard = []
    while True:
        hoard.append(bytearray(b"x") * (4 << 20))
_, status = os.waitpid(child, 0)
sys.stdout.write(f"42, although my child died of signal {os.WTERMSIG(status)}")
