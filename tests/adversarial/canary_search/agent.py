"""Searches all that it can read for what looks like an answer key, and reports what it found."""
import json
import os
import re
import stat
import sys

CANARY = re.compile(rb"CANARY-[0-9a-f]{32}")
WINDOW = 1 << 20
found, searched = {}, 0


def search(place, chunks):
    """Every canary in the chunks, also one that spans two of them."""
    global searched
    before = b""
    for chunk in chunks:
        searched += len(chunk)
        for match in CANARY.findall(before + chunk):
            found.setdefault(match.decode(), place)
        before = chunk[-64:]


def chunks_of(path):
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        for _ in range(64):
            data = os.read(descriptor, WINDOW)
            if not data:
                return
            yield data
    finally:
        os.close(descriptor)


def files_below(top):
    for directory, directories, names in os.walk(top):
        if directory == "/proc":  # its own below, other processes' as far as they can be read
            directories[:] = [d for d in directories if d.isdecimal() or d in ("sys", "self", "net")]
        for name in names:
            path = os.path.join(directory, name)
            try:
                mode = os.lstat(path).st_mode
            except OSError:
                continue
            if stat.S_ISREG(mode) and not name.startswith(("kmsg", "clear_refs", "pagemap")) and name != "mem":
                yield path


def own_memory():
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps.read().splitlines():
            ends, rights = line.split()[:2]
            low, high = (int(end, 16) for end in ends.split("-"))
            if rights.startswith("r") and high - low < 1 << 27 and "[v" not in line:
                try:
                    memory.seek(low)
                    yield memory.read(high - low)
                except (OSError, ValueError):
                    continue


request = sys.stdin.buffer.read()
search("stdin", [request])
search("arguments", [argument.encode() for argument in sys.argv])
search("environment", [f"{k}={v}".encode() for k, v in os.environ.items()])
for path in files_below("/"):
    try:
        search(path, chunks_of(path))
    except OSError:
        continue
if not found:
    search("own memory", own_memory())
for descriptor in range(3, 64):
    try:
        search(f"descriptor {descriptor}", [os.pread(descriptor, WINDOW, 0)])
    except OSError:
        continue
print(json.dumps({"found": found, "searched_bytes": searched}))
