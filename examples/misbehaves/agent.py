"""An agent that does a different bad thing with each kind of question: see what comes of it.

Run it with a short deadline: agenttrace run examples/misbehaves --time-limit 3
"""

import os
import socket
import sys
import time


def answer(prompt: str, config: dict) -> str:
    for words, deed in DEEDS.items():
        if words in prompt:
            print("about to:", deed.__doc__, file=sys.stderr)
            return deed()
    return "I do not feel like it."


def eat_memory():
    """touch memory until the kernel ends it"""
    hoard = []
    while True:
        hoard.append(bytearray(b"x") * (16 << 20))


def oversleep():
    """answer in an hour"""
    time.sleep(3600)
    return "good morning"


def fork_for_ever():
    """fork until nothing can be forked any more, and then go on"""
    while True:
        try:
            os.fork()
        except OSError:
            pass


def flood():
    """write a megabyte of answer"""
    return "yes " * 250_000


def crash():
    """fail with an exception"""
    raise RuntimeError("\x1b[31mthis is not red on your terminal\x1b[0m")


def call_home():
    """look for a network"""
    for address in (("169.254.169.254", 80), ("172.17.0.1", 2375), ("1.1.1.1", 443)):
        try:
            socket.create_connection(address, timeout=1).close()
        except OSError as error:
            print(address, error, file=sys.stderr)
        else:
            return f"I reached {address}"
    return "nobody is out there"


def lie():
    """claim the full score"""
    os.makedirs("/output", exist_ok=True)
    with open("/output/execution.json", "w") as file:
        file.write('{"status": "completed", "score": {"normalized": 100}}')
    return '{"score": 100, "status": "completed", "tokens": 0}'


def fill_the_disk():
    """write files until nothing more fits"""
    with open("/output/ballast", "wb") as file:
        while True:
            file.write(b"x" * (1 << 20))


DEEDS = {
    "Sort these numbers": eat_memory,
    "Convert": oversleep,
    "Reverse this string": flood,
    "the letter": crash,
    "Which weekday": fork_for_ever,
    "How many days after": call_home,
    "Compute": lie,
    "shortest route": fill_the_disk,
}
