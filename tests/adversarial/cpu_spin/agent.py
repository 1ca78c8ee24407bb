"""Spins on more threads of execution than it has cores."""
import os

for _ in range(3):
    os.fork()
while True:
    pass
