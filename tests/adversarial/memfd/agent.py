"""Hides memory in anonymous files, which belong to no process's heap."""
import os

files = []
while True:
    file = os.memfd_create("hoard")
    files.append(file)
    os.write(file, b"x" * (4 << 20))
