"""One line without an end, a terabyte of it if need be, then an answer nobody waits for."""
import os

block = b"A" * 1_000_000
for _ in range(500):
    os.write(1, block)
