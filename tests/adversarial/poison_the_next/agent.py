"""Leaves marks wherever it can write, and looks for those of an earlier attempt."""
import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
places = []
for directory, directories, _ in os.walk("/"):
    if directory.startswith(("/proc", "/sys")):
        directories.clear()
    elif os.access(directory, os.W_OK):
        places.append(directory)
for place in places:
    if os.path.exists(os.path.join(place, "poison")):
        print("BREACH: found poison in", place)
    for name in ("poison", "sitecustomize.py", ".profile", "ld.so.preload"):
        try:
            with open(os.path.join(place, name), "w") as file:
                file.write("raise SystemExit('BREACH: poisoned')")
        except OSError:
            continue
if libc.shmget(0x4243, 4096, 0o3666) < 0:
    print("BREACH: an earlier attempt's shared memory")
os.makedirs("/tmp/.local/lib/python3.11/site-packages", exist_ok=True)
with open("/tmp/.local/lib/python3.11/site-packages/poison.pth", "w") as file:
    file.write("import os; os.write(1, b'BREACH: poisoned')")
print("wrote to", sorted(places))
