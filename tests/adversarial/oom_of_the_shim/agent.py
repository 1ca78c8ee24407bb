"""Many small processes, each less likely to be killed than PID 1, share out all the memory."""
import mmap
import os
import time

try:
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("0")
except OSError as error:
    print("oom_score_adj stays:", error)
for _ in range(5):
    os.fork()
hoard = []
while True:
    block = mmap.mmap(-1, 1 << 16)
    block.write(b"x" * (1 << 16))
    hoard.append(block)
