"""Writes to stdout and stderr as fast as it can, for as long as it is let."""
import os

block = b"x" * 99 + b"\n"
block *= 1000
while True:
    os.write(1, block)
    os.write(2, block)
